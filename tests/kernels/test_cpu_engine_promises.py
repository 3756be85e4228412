"""What the fused CPU engine promises beside the equations: the same bits, honest numbers, autograd's manners."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recurra.cells import CELLS
from recurra.kernels import reference
from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu import run as engine

from .engine_calls import (
    assert_agrees,
    assert_close,
    fused,
    gradients,
    leaves,
    resting,
    rows_of,
    same_bits,
    tensors_of,
    with_leaves,
)
from .engine_calls import make as make_call

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

NAMES = list(CELLS)
each_cell = pytest.mark.parametrize("name", [*NAMES, "lstm projected"])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def make(name: str, *arguments: Any, **options: Any) -> LayerCall:
    """A call of a cell, or of one whose h is projected."""
    cell, _, projected = name.partition(" ")
    return make_call(cell, *arguments, **options, projection=20 if projected else 0)


# ---- the same bits


@each_cell
@each_dtype
def test_a_row_does_not_depend_on_the_rest_of_its_batch(name: str, dtype: torch.dtype) -> None:
    call = resting(make(name, 8, 30, 7, 37, 2, dtype))
    whole = tensors_of(fused(call))
    for size in range(1, 31):
        rows = torch.randperm(30, generator=torch.Generator().manual_seed(size))[:size].tolist()
        assert same_bits(tensors_of(fused(rows_of(call, rows))), [part[:, rows] for part in whole])


@each_cell
@each_dtype
def test_padding_is_never_looked_at(name: str, dtype: torch.dtype) -> None:
    lengths = [3, 8, 0, 5, 8, 1]
    call = make(name, 8, 6, 7, 37, 2, dtype, lengths, all_states=True)
    inside = torch.arange(8)[:, None, None] < call.lengths[:, None]
    spoilt = replace(call, input=torch.where(inside, call.input, torch.nan).detach().requires_grad_())
    values, others = tensors_of(fused(call)), tensors_of(fused(spoilt))
    assert same_bits(values, others)
    assert same_bits(gradients(values, leaves(call)), gradients(others, leaves(spoilt)))
    count = len(call.states)
    for row, length in enumerate(lengths):
        alone = rows_of(resting(call), [row])
        alone = tensors_of(fused(replace(alone, input=alone.input[:length], lengths=None)))
        for one, other in zip(values[:count], alone[:count], strict=True):
            assert torch.equal(one[:length, [row]], other) and not one[length:, row].any()
        assert same_bits([part[:, [row]] for part in values[count:]], alone[count:])


@each_cell
@each_dtype
def test_a_sequence_in_pieces_is_the_sequence(name: str, dtype: torch.dtype) -> None:
    # So many rows that the whole is multiplied by the input's weights in several turns.
    call = resting(make(name, 9, 50, 7, 37, 1, dtype, all_states=True))
    outputs, final = fused(call).outputs, fused(call).final
    for cuts in ([0, 4, 9], [0, 1, 8, 9], list(range(10))):
        states = call.states
        for start, end in pairwise(cuts):
            piece = fused(replace(call, input=call.input[start:end], states=states))
            assert same_bits(piece.outputs, [part[start:end] for part in outputs])
            states = piece.final
        assert same_bits(states, final)


@each_cell
@each_dtype
@pytest.mark.parametrize("lengths", [None, [5, 0, 2, 5, 1, 3, 4]])
def test_recording_for_gradients_changes_nothing(name: str, dtype: torch.dtype, lengths: list[int] | None) -> None:
    call = make(name, 5, 7, 6, 37, 2, dtype, lengths, all_states=True)
    recorded = fused(call)
    assert recorded.outputs[0].requires_grad
    assert same_bits(tensors_of(recorded), tensors_of(fused(resting(call))))
    with torch.no_grad():
        assert same_bits(tensors_of(recorded), tensors_of(fused(call)))
        only_h = fused(replace(call, all_states=False))
        assert same_bits([recorded.outputs[0], *recorded.final], tensors_of(only_h))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "lstm projected", "lstm_fgr", "gru", "gru_cho"])
@each_dtype
@pytest.mark.parametrize("lengths", [None, [3, 0, 2, 3, 1]])
def test_threads_change_nothing(name: str, dtype: torch.dtype, lengths: list[int] | None, threads: None) -> None:
    call = make(name, 3, 5, 21, 130, 2, dtype, lengths)
    the_cell = compiled.compiled(call.cell)
    found = []
    for count in (1, 2, 3, 4):
        torch.set_num_threads(count)
        assert the_cell.threads(5, 130) == count
        values = tensors_of(fused(call))
        found.append([*values, *gradients(values, leaves(call)), *tensors_of(fused(resting(call)))])
    assert all(same_bits(found[0], other) for other in found[1:])


def test_layers_may_run_in_several_python_threads_at_once() -> None:
    everything = [make(name, 9, 6, 8, hidden, 2) for name in ("lstm", "gru_cho") for hidden in (7, 40, 130)]

    def run(call: LayerCall) -> list[Tensor]:
        values = tensors_of(fused(call))
        return [*values, *gradients(values, leaves(call))]

    expected = [run(call) for call in everything]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, other in zip(pool.map(run, everything), expected, strict=True):
                assert same_bits(one, other)


# ---- numbers


def ulps(actual: Tensor, exact: np.ndarray) -> np.ndarray:
    """Errors in units of the last place; below the smallest normal number in units of that."""
    kind = actual.numpy().dtype
    place = np.spacing(np.maximum(np.abs(exact).astype(kind), np.finfo(kind).tiny)).astype(np.longdouble)
    return np.abs(actual.numpy().astype(np.longdouble) - exact) / place


def everywhere(dtype: torch.dtype) -> Tensor:
    """Numbers of every size and both signs, dense where the functions bend."""
    sizes = torch.logspace(-44 if dtype == torch.float32 else -307, 3, 3000, dtype=torch.float64)
    bends = torch.linspace(0, 90 if dtype == torch.float32 else 720, 20001, dtype=torch.float64)
    values = torch.cat([sizes, bends, torch.linspace(0, 1, 5001, dtype=torch.float64)]).to(dtype)
    return torch.cat([values, -values])


def through(name: str, values: Tensor, width: int = 5) -> list[Tensor]:
    """All states of a cell after one step in which every net input is the value itself; a row a value."""
    call = resting(make(name, 1, len(values), 1, width, 1, values.dtype, all_states=True))
    zeros = [torch.zeros_like(leaf) for leaf in leaves(call)]
    call = with_leaves(call, zeros)
    call.weights[0]["weight_ih"].fill_(1)
    return [state[0] for state in fused(replace(call, input=values[None, :, None])).outputs]


@each_dtype
def test_tanh_is_right_to_the_last_places(dtype: torch.dtype) -> None:
    values = everywhere(dtype)
    (actual,) = through("rnn_tanh", values)
    assert ulps(actual, np.tanh(values.numpy().astype(np.longdouble))[:, None]).max() <= 4


@each_dtype
def test_the_sigmoid_is_right_to_the_last_places(dtype: torch.dtype) -> None:
    values = everywhere(dtype)
    gate = through("lstm_fgr", values)[2]
    # Beyond it the exponential is infinite, and 1 / (1 + e^-x) of the dtype is zero.
    far = float(np.log(np.finfo(gate.numpy().dtype).max))
    exact = 1 / (1 + np.exp(-values.numpy().astype(np.longdouble)))
    exact = np.where(values.numpy() < -far, 0, exact)
    assert ulps(gate, exact[:, None]).max() <= 4


@each_dtype
def test_relu_passes_every_number_unchanged(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    values = [0.0, limits.smallest_normal, limits.smallest_normal / 8, limits.max, torch.inf, 1.0, torch.nan]
    values = torch.tensor([*values, *(-value for value in values)], dtype=dtype)
    (actual,) = through("rnn_relu", values)
    torch.testing.assert_close(actual, values.relu()[:, None].expand_as(actual), rtol=0, atol=0, equal_nan=True)


@each_cell
@each_dtype
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf, 1e4, -1e4, 1e-40, 1e-310])
def test_a_special_number_goes_where_the_reference_sends_it(name: str, dtype: torch.dtype, special: float) -> None:
    call = make(name, 4, 3, 2, 21, 2, dtype, all_states=True)
    plain = tensors_of(fused(call))
    call.input.data[1, 1, 0] = special
    actual, expected = tensors_of(fused(call)), tensors_of(reference.run(call))
    for one, other, before in zip(actual, expected, plain, strict=True):
        assert_close(one, other, 200 * torch.finfo(dtype).eps)
        assert torch.equal(one[:, [0, 2]], before[:, [0, 2]])


@each_cell
@each_dtype
@pytest.mark.parametrize("sign", [1, -1])
def test_saturated_gates_are_exactly_shut_or_open(name: str, dtype: torch.dtype, sign: int) -> None:
    call = make(name, 3, 2, 1, 21, 1, dtype, all_states=True)
    call.input.data.fill_(1e4 * sign)
    call.weights[0]["weight_ih"].data.sign_()
    actual, expected = tensors_of(fused(call)), tensors_of(reference.run(call))
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 200 * torch.finfo(dtype).eps)
        assert torch.equal(one == 0, other == 0) and torch.equal(one.abs() == 1, other.abs() == 1)
    for one, other in zip(gradients(actual, leaves(call)), gradients(expected, leaves(call)), strict=True):
        assert_close(one, other, 200 * torch.finfo(dtype).eps)


# ---- autograd


@pytest.mark.parametrize("name", ["rnn_relu", "lstm", "lstm_fgr", "gru", "gru_cho"])
def test_a_graph_kept_gives_the_same_gradients_every_time(name: str) -> None:
    call = make(name, 6, 5, 4, 21, 2, lengths=[6, 2, 0, 3, 6])
    values = tensors_of(fused(call))
    first = gradients(values, leaves(call), retain_graph=True)
    other = gradients(values, leaves(call), seed=3, retain_graph=True)
    assert same_bits(first, gradients(values, leaves(call), retain_graph=True))
    assert same_bits(other, gradients(values, leaves(call), seed=3))
    with pytest.raises(RuntimeError, match="second time"):
        gradients(values, leaves(call))


def test_what_the_way_back_needs_may_not_change_in_place() -> None:
    for changed in range(len(leaves(make("lstm_peephole")))):
        call = make("lstm_peephole")
        values = tensors_of(fused(call))
        with torch.no_grad():
            leaves(call)[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(values, leaves(call))
    call = make("lstm_peephole")
    result = fused(call)
    result.outputs[0].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(result.outputs, leaves(call))


@pytest.mark.parametrize("name", ["lstm_peephole", "lstm_fgr", "gru_cho"])
def test_gradients_are_computed_for_what_wants_them_and_alike(name: str) -> None:
    call = make(name, 4, 3, 2, 5, 2, lengths=[4, 0, 2])
    expected = gradients(tensors_of(fused(call)), leaves(call))
    for index, gradient in enumerate(expected):
        values = [leaf.detach().requires_grad_(at == index) for at, leaf in enumerate(leaves(call))]
        results = tensors_of(fused(with_leaves(call, values)))
        assert torch.equal(gradients(results, [values[index]])[0], gradient)
        sum(result.sum() for result in tensors_of(fused(with_leaves(call, values)))).backward()
        assert all((value.grad is not None) == (at == index) for at, value in enumerate(values))


@each_cell
def test_each_result_alone_has_its_gradients(name: str) -> None:
    call = make(name, 4, 3, 2, 5, 2, lengths=[4, 0, 2], all_states=True)
    for index in range(2 * len(call.states)):
        found = [gradients([tensors_of(run(call))[index]], leaves(call)) for run in (fused, reference.run)]
        for one, other in zip(*found, strict=True):
            assert_close(one, other, 1e-12)


def strided(value: Tensor) -> dict[str, Tensor]:
    """The same numbers in several layouts; expanded ones have the first row's or step's everywhere."""
    wide = value.new_full((*value.shape[:-1], 2 * value.shape[-1]), torch.nan)
    wide[..., ::2] = value
    padded = torch.nn.functional.pad(value, (3, 2), value=torch.nan)
    return {
        "batch first": value.transpose(0, 1).contiguous().transpose(0, 1),
        "last dimension first": value.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "every other feature": wide[..., ::2],
        "part of a wider one": padded[..., 3:-2],
        "one row for all": value[:, :1].expand_as(value),
        "one step for all": value[:1].expand_as(value),
        "one number for all": value[:1, :1, :1].expand_as(value),
    }


@pytest.mark.parametrize("layout", list(strided(torch.zeros(1, 1, 1))))
@pytest.mark.parametrize("input_size", [1, 6])
@pytest.mark.parametrize("lengths", [None, [5, 1, 0, 3]])
def test_the_layout_in_memory_changes_nothing(layout: str, input_size: int, lengths: list[int] | None) -> None:
    call = make("lstm", 5, 4, input_size, 21, 2, torch.float32, lengths)
    odd_values, plain_values = [], []
    for index, leaf in enumerate(leaves(call)):
        value = leaf.detach()
        odd = strided(value)[layout] if value.ndim == 3 else value.t().contiguous().t()
        if index and not any(word in layout for word in ("one", "part")) and value.ndim == 3:
            odd = value.permute(2, 1, 0).contiguous().permute(2, 1, 0)
        plain_values.append(odd.clone(memory_format=torch.contiguous_format).requires_grad_())
        odd_values.append(odd.detach().requires_grad_())
    odd_call, plain_call = with_leaves(call, odd_values), with_leaves(call, plain_values)
    odd_results, plain_results = tensors_of(fused(odd_call)), tensors_of(fused(plain_call))
    assert same_bits(odd_results, plain_results)
    given = [strided(torch.randn(result.shape))[layout] for result in odd_results]
    actual = torch.autograd.grad(odd_results, odd_values, given)
    expected = torch.autograd.grad(plain_results, plain_values, [g.contiguous() for g in given])
    assert same_bits(actual, expected)


def test_an_input_that_torch_has_yet_to_negate_is_negated() -> None:
    call = resting(make("gru"))
    for index, leaf in enumerate(leaves(call)):
        lazy, eager = leaves(call), leaves(call)
        lazy[index], eager[index] = torch._neg_view(leaf), -leaf
        assert same_bits(tensors_of(fused(with_leaves(call, lazy))), tensors_of(fused(with_leaves(call, eager))))


def test_the_gradient_of_a_sum_need_not_be_written_out() -> None:
    call = make("lstm", 5, 4, 3, 21, 2)
    for run in (lambda values: sum(v.sum() for v in values), lambda values: sum(v.mean() for v in values)):
        actual = torch.autograd.grad(run(tensors_of(fused(call))), leaves(call))
        expected = torch.autograd.grad(run(tensors_of(reference.run(call))), leaves(call))
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other, 1e-12)


@pytest.mark.parametrize("backward", ["none", "once", "twice", "differentiable"])
def test_nothing_outlives_its_last_reference(backward: str) -> None:
    gc.collect()
    gc.disable()
    try:
        call = make("lstm_peephole", lengths=[5, 1, 0, 3])
        call = replace(call, input=call.input * 2)
        values = tensors_of(fused(call))
        wanted = leaves(call)
        if backward == "differentiable":
            found = gradients(values, wanted, create_graph=True)
        elif backward != "none":
            found = gradients(values, wanted, retain_graph=backward == "twice")
            if backward == "twice":
                found = gradients(values, wanted, retain_graph=True)
        node = values[0].grad_fn
        watched = [weakref.ref(one) for one in (*values, *wanted, node)]
        found = None
        del call, values, wanted, node, found
        assert [one() for one in watched] == [None] * len(watched)
    finally:
        gc.enable()


def test_a_process_that_used_it_ends_without_a_word() -> None:
    # What is still held when the interpreter ends must not be complained of.
    script = "import recurra, torch\nlayer = recurra.Recurrent('mgu', 3, 4)\noutput, _ = layer(torch.randn(5, 2, 3))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_sequences_of_nothing_have_gradients() -> None:
    for steps, batch in ((0, 3), (4, 0), (0, 0)):
        call = make("lstm", steps, batch, 3, 5, 2)
        result = fused(call)
        assert result.outputs[0].shape == (steps, batch, 10) and result.final[1].shape == (2, batch, 5)
        found = gradients(tensors_of(result), leaves(call))
        assert all(not gradient.any() for gradient in (found[0], *found[3:]))


# ---- what it refuses


def options() -> dict[str, LayerCall]:
    call = make("lstm", 4, 3, 2, 5, 2)
    projected = make_call("lstm", 4, 3, 2, 5, 2, projection=2)
    other = [*leaves(call)[:-1], leaves(call)[-1].detach().float()]
    return {
        "recurrent mask": replace(call, recurrent_mask=torch.bernoulli(torch.full_like(call.states[0], 0.5)) * 2),
        "zoneout at evaluation": replace(call, zoneout=0.25),
        "zoneout in training": replace(
            call, zoneout=0.25, zoneout_masks=(torch.rand(4, 3, 10) < 0.25, torch.rand(4, 3, 10) < 0.25)
        ),
        "projection": projected,
        "projection and recurrent mask": replace(projected, recurrent_mask=torch.ones_like(projected.states[0])),
        "projection and zoneout": replace(projected, zoneout=0.25),
        "half precision": with_leaves(call, [leaf.detach().half() for leaf in leaves(call)]),
        "weights of another dtype": with_leaves(call, other),
        "states of another dtype": replace(call, states=(call.states[0].detach().float(), call.states[1])),
    }


@pytest.mark.parametrize("option", list(options()))
def test_an_option_is_refused_or_right(option: str) -> None:
    call = options()[option]
    if engine.refusal(call) is None:
        assert_agrees(call, 1e-12)


def test_autocast_and_transforms_are_left_to_others() -> None:
    call = resting(make("lstm", dtype=torch.float32))
    with torch.autocast("cpu", torch.float16):
        assert engine.refusal(call) is not None
    seen = []
    torch.func.vmap(lambda x: seen.append(engine.refusal(call)) or x)(torch.zeros(2))
    with torch.autograd.forward_ad.dual_level():
        seen.append(engine.refusal(call))
    assert all(seen) and engine.refusal(call) is None


def test_lengths_beyond_the_input_are_an_error() -> None:
    for lengths in ([6, 1, 1, 1], [-1, 1, 1, 1]):
        with pytest.raises(ValueError, match="lengths must lie between 0 and the input's 5 steps"):
            fused(make("lstm", lengths=lengths))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_computes_the_same():
    """In a process of its own, with threads started before the fork: OpenMP's would leave the child waiting."""
    script = """
import os, torch, recurra
from recurra.kernels.cpu import run
run._WORTH_A_THREAD = 1
torch.set_num_threads(2)
layer = recurra.Recurrent("lstm", 33, 70)
x = torch.randn(5, 3, 33, requires_grad=True)

def everything():
    output = layer(x)[0]
    return [output, *torch.autograd.grad(output.sum(), [x, *layer.parameters()])]

stream = layer.stream(3)
expected, stepped = everything(), stream.step(x[0].detach())
stream.reset()
child = os.fork()
if child == 0:
    same = all(map(torch.equal, expected, everything())) and torch.equal(stepped, stream.step(x[0].detach()))
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert all(map(torch.equal, expected, everything()))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("limit", [None, "1"])
def test_a_stream_that_loses_its_threads_still_has_its_weights(limit: str | None) -> None:
    """A forked child has one thread, and OpenMP may give fewer than asked for; the weights may have changed by then."""
    script = """
import os, sys, torch, recurra
from recurra.kernels.cpu import stream
stream._WORTH_A_THREAD = 1
torch.set_num_threads(2)
layer = recurra.Recurrent("lstm", 33, 70, proj_size=40)
x = torch.randn(5, 3, 33)
stepping = layer.stream(3)
with torch.no_grad():
    expected = layer(x)[0]
    for weight in layer.parameters():
        weight.fill_(torch.nan)
child = os.fork() if sys.argv[1] == "None" else 0
if child == 0:
    os._exit(0 if all(torch.equal(stepping.step(one), other) for one, other in zip(x, expected)) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    environment = os.environ | ({} if limit is None else {"OMP_THREAD_LIMIT": limit})
    subprocess.run([sys.executable, "-c", script, str(limit)], check=True, timeout=100, env=environment)
