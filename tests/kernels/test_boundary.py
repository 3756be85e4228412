"""Tensors are checked before the engine reads them by address; its backward pass changes nothing that it shares."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import pack_sequence

import recurra
from recurra.cells.algebra import State, relu, tanh
from recurra.kernels import record_backends, reference
from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import run as engine
from recurra.kernels.known_cells import key_of
from recurra.kernels.operators.arguments import flatten
from recurra.kernels.stepping import stepping
from recurra.kernels.surroundings import readable, whole

from .engine_calls import fused, gradients, leaves, make, same_bits, tensors_of


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def drop(call: LayerCall, index: int, of: str) -> LayerCall:
    return replace(call, **{of: getattr(call, of)[:index]})


WRONG: dict[str, Callable[[LayerCall], LayerCall]] = {
    "too few states": lambda call: drop(call, 1, "states"),
    "a state of another batch": lambda call: replace(call, states=(call.states[0][:, :2], call.states[1])),
    "a state of another width": lambda call: replace(call, states=(call.states[0], call.states[1][..., :3])),
    "too few masks": lambda call: replace(call, zoneout=0.1, zoneout_masks=(torch.zeros(5, 4, 6, dtype=torch.bool),)),
    "masks of numbers": lambda call: replace(call, zoneout=0.1, zoneout_masks=(torch.zeros(5, 4, 6),) * 2),
    "a short mask": lambda call: replace(call, recurrent_mask=torch.ones(1, 2, 6, dtype=torch.float64)),
    "an input of another width": lambda call: replace(call, input=call.input[..., :2]),
    "a short bias": lambda call: replace(
        call, weights=({**call.weights[0], "bias_ih": call.weights[0]["bias_ih"][:3]},)
    ),
    "a transposed matrix": lambda call: replace(
        call, weights=({**call.weights[0], "weight_ih": call.weights[0]["weight_ih"].T},)
    ),
    "lengths of another batch": lambda call: replace(call, lengths=torch.tensor([1, 2])),
    "resets of numbers": lambda call: replace(call, resets=torch.zeros(5, 4), restart=call.states),
    "resets to nothing": lambda call: replace(call, resets=torch.zeros(5, 4, dtype=torch.bool)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_operator_says_what_does_not_fit(wrong: str) -> None:
    call = WRONG[wrong](make("lstm"))
    with pytest.raises(RuntimeError, match=r"must have|were given|needs a mask|need a value"):
        torch.ops.recurra.layer(*flatten(call))
    with pytest.raises(RuntimeError, match=r"must have|were given|needs a mask|need a value"):
        torch.ops.recurra.layer_training(*flatten(call), False)


@pytest.mark.parametrize("count", [0, 1, 3, 9, 12])
def test_an_operator_says_which_weights_it_lacks(count: int) -> None:
    arguments = list(flatten(make("lstm")))
    arguments[3] = (arguments[3] * 3)[:count]
    with pytest.raises(RuntimeError, match="weight_ih, weight_hh, bias_ih, bias_hh"):
        torch.ops.recurra.layer(*arguments)


def fake(tensor: Tensor) -> Tensor:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return mode.from_tensor(tensor)


def emptied(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    copy.untyped_storage().resize_(0)
    return copy


UNREADABLE: dict[str, Callable[[Tensor], Tensor]] = {
    "fake": fake,
    "meta": lambda tensor: tensor.to("meta"),
    "sparse": lambda tensor: tensor.detach().to_sparse(),
    "emptied": emptied,
    "subclass": lambda tensor: tensor.detach().as_subclass(type("Own", (Tensor,), {})),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("where", ["input", "states", "weights"])
def test_the_engine_refuses_what_it_cannot_read(kind: str, where: str) -> None:
    call = make("lstm")
    other = UNREADABLE[kind](leaves(call)[{"input": 0, "states": 1, "weights": 4}[where]])
    changed = {
        "input": {"input": other},
        "states": {"states": (other, call.states[1])},
        "weights": {"weights": ({**call.weights[0], "weight_hh": other},)},
    }[where]
    assert not readable(other)
    call = replace(call, **changed)
    assert engine.refusal(call) is not None
    with pytest.raises(RuntimeError, match="cannot run this layer"):
        engine.ready(call)


def test_weights_of_a_subclass_run_on_the_reference_or_torch() -> None:
    layer = recurra.Recurrent("gru_cho", 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    own = type("Own", (Tensor,), {})
    weights = {name: value.detach().as_subclass(own) for name, value in layer.named_parameters()}
    with record_backends() as ran:
        output, _ = torch.func.functional_call(layer, weights, (x,))
    assert ran == ["reference"]
    assert_close(output.as_subclass(Tensor), layer(x)[0])


@pytest.mark.parametrize("way", ["forward", "stream"])
def test_a_weight_of_another_shape_or_dtype_is_said(way: str) -> None:
    def run(layer: Any, x: Tensor) -> Tensor:
        return layer(x)[0] if way == "forward" else layer.stream(2).step(x[0])

    x = torch.randn(5, 2, 3)
    layer = recurra.LSTM(3, 4)
    layer.weight_hh_l0 = torch.nn.Parameter(torch.randn(8, 4))
    with pytest.raises(RuntimeError, match="weight_hh must have shape"):
        run(layer, x)
    layer = recurra.LSTM(3, 4)
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.detach().bfloat16())
    with pytest.raises(RuntimeError, match="dtype"):
        run(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        if way == "forward":
            other = recurra.LSTM(3, 4)
            other.load_state_dict({name: value.float() for name, value in layer.state_dict().items()})
            assert same_bits([run(layer, x)], [run(other, x)])
        else:
            with pytest.raises(RuntimeError, match="dtype"):
                run(layer, x)


def test_a_stream_checks_what_it_is_made_of() -> None:
    call = make("lstm", dtype=torch.float32)
    states = tuple(state[0, :, :2] for state in call.states)
    with pytest.raises(RuntimeError, match="must have shape"):
        stepping(call.cell, {name: weight.detach() for name, weight in call.weights[0].items()}, states, 0.0)


def layer_and_graph(retain: bool = True) -> tuple[Tensor, list[Tensor]]:
    layer = recurra.LSTM(16, 64)
    output, (h, c) = layer(torch.randn(20, 4, 16))
    return output.square().sum() + h.sum() + c.sum(), list(layer.parameters())


def test_two_threads_go_the_same_way_back() -> None:
    loss, weights = layer_and_graph()
    expected = torch.autograd.grad(loss, weights, retain_graph=True)
    wrong: list[int] = []

    def go(seed: int) -> None:
        for _ in range(30):
            if not same_bits(torch.autograd.grad(loss, weights, retain_graph=True), expected):
                wrong.append(seed)

    threads = [threading.Thread(target=go, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert same_bits(torch.autograd.grad(loss, weights), expected)


def test_batch_sizes_may_change_after_the_call() -> None:
    layer = recurra.GRU(3, 4)
    packed = pack_sequence([torch.randn(n, 3) for n in (5, 3, 1)])
    weights = list(layer.parameters())
    expected = torch.autograd.grad(layer(packed)[0].data.sum(), weights)
    output, _ = layer(packed)
    packed.batch_sizes.fill_(1_000_000)
    assert same_bits(torch.autograd.grad(output.data.sum(), weights), expected)


def restrided(tensor: Tensor) -> Tensor:
    if tensor.dim() < 2:
        return torch.stack([tensor, tensor], -1)[..., 0]
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho"])
def test_hooks_may_give_back_other_strides(name: str) -> None:
    call = make(name, directions=2, lengths=[5, 0, 2, 3])
    expected = gradients(tensors_of(fused(call)), leaves(call))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, restrided):
        values = tensors_of(fused(call))
    assert same_bits(gradients(values, leaves(call)), expected)


def test_hooks_may_give_back_memory_that_is_read_only(tmp_path: Any) -> None:
    import numpy as np

    def pack(tensor: Tensor) -> Any:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(file, tensor.detach().contiguous().numpy())
        return file

    def unpack(file: Any) -> Tensor:
        return torch.from_numpy(np.load(file, mmap_mode="r"))

    call = make("gru_cho")
    expected = gradients(tensors_of(fused(call)), leaves(call))
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        values = tensors_of(fused(call))
    for _ in range(2):
        assert same_bits(gradients(values, leaves(call), retain_graph=True), expected)


def test_hooks_that_give_back_another_dtype_are_an_error() -> None:
    call = make("gru_cho")
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor.float()):
        values = tensors_of(fused(call))
    with pytest.raises(RuntimeError, match="dtype"):
        gradients(values, leaves(call))


def test_all_that_the_way_back_needs_is_kept_by_autograd() -> None:
    """Hooks see every byte that stays alive, which is what checkpoints and offloading build on."""
    seen = 0

    def pack(tensor: Tensor) -> int:
        nonlocal seen
        seen += tensor.numel() * tensor.element_size()
        return 0

    call = make("lstm", 50, 8, 16, 32, 2)
    masks = tuple(torch.rand(50, 8, 64) < 0.1 for _ in call.states)
    call = replace(call, zoneout=0.1, zoneout_masks=masks)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda _: torch.empty(0)):
        result = fused(call)
    node = result.outputs[0].grad_fn
    held = [value for value in vars(node).values() if isinstance(value, Tensor)] if hasattr(node, "__dict__") else []
    assert sum(tensor.numel() for tensor in held) == 0
    # At the least gates, c of every step, the masks and what came in.
    assert seen > 50 * 8 * 64 * (4 + 1) * 8 + 2 * 50 * 8 * 64


def test_batched_gradients_are_those_of_each() -> None:
    call = make("lstm_peephole", lengths=[5, 1, 0, 3])
    values = tensors_of(fused(call))
    batch = torch.eye(4, dtype=torch.float64)[:, None, :, None].expand(4, *values[0].shape).contiguous()
    found = torch.autograd.grad(values[0], leaves(call), batch, is_grads_batched=True, retain_graph=True)
    for index in range(4):
        single = torch.autograd.grad(values[0], leaves(call), batch[index], retain_graph=True)
        for together, alone in zip(found, single, strict=True):
            assert_close(together[index], alone)


def test_a_zero_that_torch_has_yet_to_write_out_is_written_out() -> None:
    zero = torch._efficientzerotensor((2, 3), dtype=torch.float64)
    assert whole(zero).data_ptr() != 0
    assert torch.equal(whole(zero), torch.zeros(2, 3, dtype=torch.float64))


def factory(function: Callable[[Any], Any]) -> recurra.Cell:
    class Made(recurra.Cell):
        gates = ("h",)

        def step(self, gate: Any, state: Any, weight: Any) -> State:
            return State(h=function(gate.h))

    return Made()


def test_cells_of_one_name_are_known_by_their_equations() -> None:
    first, second, again = factory(tanh), factory(relu), factory(tanh)
    assert key_of(first) == key_of(again) != key_of(second)
    x = torch.randn(5, 2, 3)
    for cell in (first, second):
        layer = recurra.Recurrent(cell, 3, 4)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        with torch.no_grad():
            assert same_bits([compiled(x)[0]], [layer(x)[0]])


def test_resets_on_the_reference_are_separate_calls() -> None:
    call = make("lstm_peephole", steps=6, batch=2, directions=2)
    restart = tuple(torch.randn(2, 1, 6, dtype=torch.float64) for _ in call.states)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[0, 1] = resets[4] = True
    whole_run = reference.run(replace(call, resets=resets, restart=restart, all_states=True))
    fresh = tuple(state.expand(2, 2, 6) for state in restart)
    first = tuple(torch.stack([old[:, 0], new[:, 1]], 1) for old, new in zip(call.states, fresh, strict=True))
    # The direction that runs backwards comes to the first piece last.
    first = tuple(torch.stack([forward[0], back[1]]) for forward, back in zip(first, fresh, strict=True))
    last = tuple(torch.stack([new[0], old[1]]) for new, old in zip(fresh, call.states, strict=True))
    one = reference.run(replace(call, input=call.input[:4], states=first, all_states=True))
    two = reference.run(replace(call, input=call.input[4:], states=last, all_states=True))
    for index, outputs in enumerate(whole_run.outputs):
        assert_close(outputs, torch.cat([one.outputs[index], two.outputs[index]]))
        assert_close(whole_run.final[index][0], two.final[index][0])
        assert_close(whole_run.final[index][1], one.final[index][1])
