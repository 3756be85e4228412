"""Compiled training steps on the fused CPU engine: eager's bits, one run of each layer, nothing used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import recurra
from recurra.kernels import record_backends, run_layer
from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import compiled, layer_run
from recurra.kernels.cpu import run as engine
from recurra.kernels.operators.arguments import flatten

from ...torch_limits import runs_under_autocast
from ..engine_calls import PROJECTABLE, gradients, leaves, make, resting, same_bits, tensors_of, with_leaves

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

NAMES = ["lstm", "gru", "gru_cho", "lstm_peephole"]


@pytest.fixture(autouse=True)
def compile_afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counted:
    """A cell of the engine that counts its runs."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.forwards = self.backwards = 0
        self.arguments: dict[str, Any] = {}

    def forward(self, **arguments: Any) -> None:
        self.forwards += 1
        self.run.forward(**arguments)

    def backward(self, **arguments: Any) -> None:
        self.backwards += 1
        self.arguments = arguments
        self.run.backward(**arguments)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Counted]:
    def count(name: str) -> Counted:
        the_cell = compiled.compiled(recurra.cells.CELLS[name])
        counter = Counted(the_cell.run)
        monkeypatch.setattr(the_cell, "run", counter)
        return counter

    return count


def compile_call(call: LayerCall, backend: Any = "aot_eager") -> Callable[..., list[Tensor]]:
    """The layer compiled whole, as a function of its input, states and weights."""

    def run(values: Sequence[Tensor]) -> list[Tensor]:
        return tensors_of(run_layer(with_leaves(call, values)))

    return torch.compile(run, fullgraph=True, backend=backend)


def operators_of(graphs: Sequence[torch.fx.GraphModule]) -> list[str]:
    targets = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    return [target.split(".")[1] for target in targets if target.startswith("recurra.")]


def operators(call: LayerCall) -> list[str]:
    """The operators that a compiled call consists of."""
    counter = CompileCounterWithBackend("eager")
    compile_call(call, counter)(leaves(call))
    return operators_of(counter.graphs)


def masks(call: LayerCall) -> tuple[Tensor, ...]:
    shape = (*call.input.shape[:2], len(call.weights) * call.states[-1].shape[2])
    return tuple(torch.rand(shape, generator=torch.Generator().manual_seed(s)) < 0.3 for s in range(len(call.states)))


def with_option(name: str, option: str, dtype: torch.dtype) -> LayerCall:
    projection = 20 if option == "projection" else 0
    lengths = [6, 2, 0, 3, 6] if option == "lengths" else None
    directions = 1 if option in ("plain", "all states") else 2
    call = make(name, 6, 5, 4, 37, directions, dtype, lengths, projection=projection, all_states=option == "all states")
    if option == "zoneout":
        return replace(call, zoneout=0.3, zoneout_masks=masks(call))
    if option == "zoneout at evaluation":
        return replace(call, zoneout=0.3)
    if option == "recurrent dropout":
        keep = torch.rand(call.states[0].shape, generator=torch.Generator().manual_seed(5)) < 0.5
        return replace(call, recurrent_mask=keep.to(dtype) * 2)
    return call


OPTIONS = ["plain", "lengths", "all states", "zoneout", "zoneout at evaluation", "recurrent dropout", "projection"]
CASES = [(name, option) for name in NAMES for option in OPTIONS if option != "projection" or name in PROJECTABLE]
KINDS = {"float32": (torch.float32, False), "float64": (torch.float64, False), "bfloat16": (torch.bfloat16, False)}
KINDS |= {"autocast": (torch.float32, True)}


# ---- the same bits, from one run


# Each case in one kind of number, and each kind in every fourth case; the others are for make check.
EVERY = [
    pytest.param(*case, kind, marks=[] if (number + place) % len(KINDS) == 0 else [pytest.mark.check])
    for number, case in enumerate(CASES)
    for place, kind in enumerate(KINDS)
]


@pytest.mark.parametrize(("name", "option", "kind"), EVERY)
def test_a_compiled_step_runs_once_and_gives_the_bits_of_an_eager_one(
    name: str, option: str, kind: str, counted: Callable[[str], Counted]
) -> None:
    dtype, autocast = KINDS[kind]
    call = with_option(name, option, dtype)
    counter = counted(name)
    found = []
    for run in (lambda values: tensors_of(run_layer(with_leaves(call, values))), compile_call(call)):
        counter.forwards = counter.backwards = 0
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            values = run(leaves(call))
        found.append([*values, *gradients(values, leaves(call))])
        assert (counter.forwards, counter.backwards) == (len(call.weights), len(call.weights))
    assert [value.dtype for value in found[0]] == [value.dtype for value in found[1]]
    assert same_bits(*found)


@pytest.mark.parametrize("kind", ["float32", "autocast"])
def test_inductor_gives_the_same_bits(kind: str, counted: Callable[[str], Counted]) -> None:
    dtype, autocast = KINDS[kind]
    layer = recurra.LSTM(4, 37, 2, bidirectional=True, batch_first=True, dtype=dtype)
    counter = counted("lstm")
    found = []
    for run in (layer, torch.compile(layer, fullgraph=True)):
        counter.forwards = 0
        layer.zero_grad()
        x = torch.randn(5, 6, 4, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output, (h, c) = run(x, lengths=torch.tensor([6, 2, 0, 3, 6]))
        (output.float().square().sum() + h.float().sum() + c.float().sin().sum()).backward()
        found.append([output, h, c, x.grad, *(parameter.grad for parameter in layer.parameters())])
        assert counter.forwards == 4
    assert same_bits(*found)


@pytest.mark.parametrize("kind", ["float32", "autocast"])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_one_graph_serves_every_length_and_batch(
    kind: str, with_lengths: bool, counted: Callable[[str], Counted]
) -> None:
    dtype, autocast = KINDS[kind]
    layer = recurra.Recurrent("lstm_peephole", 4, 21, 2, bidirectional=True, dtype=dtype)
    counter, cell = CompileCounterWithBackend("aot_eager"), counted("lstm_peephole")
    graph = torch.compile(layer, fullgraph=True, backend=counter)
    for steps, batch in ((5, 3), (9, 4), (17, 2)):
        x = torch.randn(steps, batch, 4, dtype=dtype)
        lengths = torch.randint(0, steps + 1, (batch,)) if with_lengths else None
        for tensor, dims in ((x, (0, 1)), (lengths, (0,))):
            if tensor is not None:
                torch._dynamo.mark_dynamic(tensor, dims)
        found = []
        for run in (graph, layer):
            layer.zero_grad()
            cell.forwards = 0
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                output, _ = run(x, lengths=lengths)
            output.float().square().sum().backward()
            found.append([output, *(parameter.grad for parameter in layer.parameters())])
            assert cell.forwards == 4
        assert same_bits(*found)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
def test_sequences_of_nothing_have_gradients(steps: int, batch: int) -> None:
    call = make("lstm", steps, batch, 3, 5, 2)
    values = compile_call(call)(leaves(call))
    assert same_bits(values, tensors_of(run_layer(call)))
    assert same_bits(gradients(values, leaves(call)), gradients(tensors_of(run_layer(call)), leaves(call)))


# ---- nothing is used up


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_graph_kept_gives_the_same_gradients_every_time(backend: str) -> None:
    call = with_option("gru_cho", "lengths", torch.float32)
    # torch asks this of whoever keeps a compiled graph.
    with torch._functorch.config.patch(donated_buffer=False):
        values = compile_call(call, backend)(leaves(call))
        first = gradients(values, leaves(call), retain_graph=True)
        other = gradients(values, leaves(call), seed=3, retain_graph=True)
        assert same_bits(first, gradients(values, leaves(call), retain_graph=True))
        assert same_bits(other, gradients(values, leaves(call), seed=3))
    eager = tensors_of(run_layer(call))
    assert same_bits(first, gradients(eager, leaves(call)))


@pytest.mark.parametrize("option", ["plain", "lengths", "zoneout", "projection"])
def test_the_way_back_leaves_what_was_kept_as_it_was(option: str) -> None:
    call = with_option("lstm", option, torch.float32)
    results = torch.ops.recurra.layer_training(*flatten(resting(call)), False)
    count = len(call.states)
    outputs = results[: count + 1]
    *extra, kept, ran = results[count + 1 :]
    before = [tensor.clone() for tensor in results]
    given = [torch.randn_like(value) for value in outputs]
    needs = [True] * len(leaves(call))
    arguments = (given, [results[0], *extra], kept, ran, needs, *flatten(resting(call)), False)
    first = torch.ops.recurra.layer_training_backward(*arguments)
    assert all(torch.equal(now.nan_to_num(), then.nan_to_num()) for now, then in zip(results, before, strict=True))
    assert same_bits(first, torch.ops.recurra.layer_training_backward(*arguments))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_checkpointed_layer_has_the_same_gradients(backend: str, counted: Callable[[str], Counted]) -> None:
    layer, counter = recurra.LSTM(4, 21), counted("lstm")
    x = torch.randn(6, 3, 4)

    def loss(x: Tensor) -> Tensor:
        return checkpoint(lambda value: layer(value)[0], x, use_reentrant=False).square().sum()

    found = []
    for run in (torch.compile(loss, fullgraph=True, backend=backend), loss):
        layer.zero_grad()
        counter.forwards = 0
        run(x).backward()
        found.append([parameter.grad for parameter in layer.parameters()])
        assert counter.forwards == 2
    assert same_bits(*found)


def test_only_the_gradients_that_are_needed_are_computed(counted: Callable[[str], Counted]) -> None:
    call, counter = make("lstm", 6, 5, 4, 37), counted("lstm")
    expected = gradients(tensors_of(run_layer(call)), leaves(call))
    for wanted in (1, 3, 4):
        values = [leaf.detach().requires_grad_(at == wanted) for at, leaf in enumerate(leaves(call))]
        torch._dynamo.reset()
        results = compile_call(call)(values)
        assert torch.equal(gradients(results, [values[wanted]])[0], expected[wanted])
        assert counter.arguments["d_input"] == [0, 0, 0]
        assert sum(address != 0 for address in counter.arguments["d_weights"]) == (wanted > 2)


# ---- where the graph and its run differ


def test_a_backend_forced_when_the_graph_runs_is_the_one_that_runs() -> None:
    for option in ("all states", "lengths"):
        call = with_option("lstm", option, torch.float64)
        run = compile_call(call)
        run(leaves(call))
        for forced in ("reference", "cpu"):
            with recurra.backend(forced), record_backends() as ran:
                values, expected = run(leaves(call)), tensors_of(run_layer(call))
                assert same_bits(gradients(values, leaves(call)), gradients(expected, leaves(call)))
            assert same_bits(values, expected)
            assert set(ran) == {forced}
        # Forced for the way there alone.
        with recurra.backend("reference"):
            values = run(leaves(call))
        exactly = gradients(tensors_of(run_layer(call)), leaves(call))
        for actual, exact in zip(gradients(values, leaves(call)), exactly, strict=True):
            torch.testing.assert_close(actual, exact, rtol=0, atol=1e-12)
    with recurra.backend("torch"), pytest.raises(RuntimeError, match="only h of each step"):
        call = with_option("lstm", "all states", torch.float64)
        compile_call(call)(leaves(call))


def test_under_autocast_too_another_backend_gives_what_it_gives_eagerly() -> None:
    for name in filter(lambda name: runs_under_autocast(name.upper()), ("lstm", "gru")):
        call = make(name, 6, 5, 4, 21, 2, torch.float32)
        run = compile_call(call)
        with torch.autocast("cpu", torch.bfloat16):
            run(leaves(call))
            with recurra.backend("torch"):
                values, expected = run(leaves(call)), tensors_of(run_layer(call))
        assert [value.dtype for value in values] == [value.dtype for value in expected]
        assert same_bits(values, expected)
        with recurra.backend("torch"):
            assert all(gradient.isfinite().all() for gradient in gradients(values, leaves(call)))


def test_a_graph_that_meets_no_engine_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    call = with_option("lstm", "lengths", torch.float64)
    run = compile_call(call)
    expected = run(leaves(call))
    wanted = gradients(expected, leaves(call))
    monkeypatch.setattr(engine, "engine", lambda: None)
    with record_backends() as ran:
        values = run(leaves(call))
        found = gradients(values, leaves(call))
    assert set(ran) == {"torch"}
    for actual, exact in zip([*values, *found], [*expected, *wanted], strict=True):
        torch.testing.assert_close(actual, exact, rtol=0, atol=1e-12)


def test_lengths_beyond_the_input_are_an_error_on_every_backend() -> None:
    call = with_option("lstm", "lengths", torch.float64)
    call = replace(call, lengths=torch.tensor([7, 1, 1, 1, 1]))
    for forced in ("cpu", "reference"):
        with recurra.backend(forced), pytest.raises(ValueError, match="between 0 and the input's 6 steps"):
            compile_call(call)(leaves(call))


def test_what_was_kept_of_another_layer_is_refused() -> None:
    call = resting(make("lstm", 6, 5, 4, 37, 1, torch.float32))
    output, h, c, cells, kept, ran = torch.ops.recurra.layer_training(*flatten(call), False)
    given, needs = [output, h, c], [True] * len(leaves(call))
    for wrong in (kept[:, 1:], kept[:, :, 1:], kept[..., 1:], kept.double()):
        with pytest.raises(RuntimeError, match="what was kept of a layer's run"):
            torch.ops.recurra.layer_training_backward(given, [output, cells], wrong, ran, needs, *flatten(call), False)


# ---- which operator stands in the graph


def test_what_is_not_trained_on_the_engine_is_the_plain_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    call = make("lstm", 6, 5, 4, 21, dtype=torch.float32)
    assert operators(call) == ["layer_training"]
    assert operators(resting(call)) == ["layer"]
    with torch.no_grad():
        assert operators(call) == ["layer"]
    half = with_leaves(call, [leaf.detach().half().requires_grad_() for leaf in leaves(call)])
    assert operators(half) == ["layer"]
    with torch.autocast("cpu", torch.float16):
        assert operators(call) == ["layer"]
    projected = make("lstm", 6, 5, 4, 21, projection=3)
    assert operators(replace(projected, zoneout=0.1)) == ["layer"]
    monkeypatch.setattr(engine, "engine", lambda: None)
    assert operators(call) == ["layer"]


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_layer_keeps_nothing(strict: bool) -> None:
    layer = recurra.LSTM(4, 21, 2).eval()
    program = torch.export.export(layer, (torch.randn(6, 3, 4),), strict=strict)
    assert operators_of([program.graph_module]) == ["layer", "layer"]


# ---- the operators' own promises


def test_rows_are_padded_as_the_engine_pads_them() -> None:
    for units in range(1, 700):
        assert layer_run.padded_units(units) == compiled.engine().padded_units(units)


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho"])
@pytest.mark.parametrize("autocast", [False, True])
def test_schema_fake_and_autograd_hold(name: str, autocast: bool) -> None:
    # Whole vectors of units, for what lies beyond them is never written nor read and differs from run to run.
    call = make(name, 6, 5, 4, 48, 2, torch.float32)
    arguments = (*flatten(call), autocast)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.recurra.layer_training.default, arguments, test_utils=tests)
    x = call.input.detach().transpose(0, 1).contiguous().transpose(0, 1)
    call = replace(resting(call), input=x, lengths=torch.tensor([6, 2, 0, 3, 6]))
    arguments = (*flatten(call), autocast)
    results = torch.ops.recurra.layer_training(*arguments)
    count = len(call.states)
    *extra, kept, ran = results[count + 1 :]
    recorded = [results[0], *extra][-count:]
    given = [results[0], *(None for _ in call.states)]
    needs = [True, *([True, False] * len(leaves(call)))][: len(leaves(call))]
    torch.library.opcheck(
        torch.ops.recurra.layer_training_backward.default, (given, recorded, kept, ran, needs, *arguments)
    )
