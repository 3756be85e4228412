"""The engine's short way: which calls take it, and that it changes no bit; others go the long way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import recurra
from recurra.kernels import LayerCall, LayerResult, record_backends, run_layer
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu import run as engine

from .engine_calls import make, resting, same_bits, tensors_of

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")


def plain(name: str = "lstm", dtype: torch.dtype = torch.float32, directions: int = 2, **options: Any) -> LayerCall:
    return resting(make(name, 3, 4, 5, 37, directions, dtype, **options))


def short(call: LayerCall) -> LayerResult | None:
    """What the short way gives."""
    return engine.run_at_once(call)


@pytest.mark.parametrize("name", sorted(recurra.cells.CELLS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_gives_the_same_bits(name: str, dtype: torch.dtype, directions: int, bias: bool) -> None:
    call = plain(name, dtype, directions, bias=bias)
    found = short(call)
    assert found is not None
    assert same_bits(tensors_of(found), tensors_of(engine.run(call)))


def test_takes_a_batch_first_input_and_threads() -> None:
    call = resting(make("gru", 6, 5, 8, 130, 1))
    turned = replace(call, input=call.input.transpose(0, 1).contiguous().transpose(0, 1))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found = short(turned)
            assert found is not None
            assert same_bits(tensors_of(found), tensors_of(engine.run(call)))
    finally:
        torch.set_num_threads(before)


def test_no_step_leaves_the_states() -> None:
    call = plain()
    found = short(replace(call, input=call.input[:0]))
    assert found is None or same_bits(tensors_of(found), [torch.empty(0, 4, 74), *call.states])


def test_weights_that_want_gradients_take_it_where_none_are_recorded() -> None:
    call = make("lstm", 3, 4, 5, 8, 1)
    assert short(call) is None
    with torch.no_grad():
        assert short(call) is not None


class Own(Tensor):
    pass


def weights(change: Callable[[Tensor], Tensor], name: str = "weight_hh") -> Callable[[LayerCall], LayerCall]:
    def changed(call: LayerCall) -> LayerCall:
        first, *others = call.weights
        return replace(call, weights=({**first, name: change(first[name])}, *others))

    return changed


def states(change: Callable[[Tensor], Tensor]) -> Callable[[LayerCall], LayerCall]:
    return lambda call: replace(call, states=(call.states[0], change(call.states[1])))


def input(change: Callable[[Tensor], Tensor]) -> Callable[[LayerCall], LayerCall]:
    return lambda call: replace(call, input=change(call.input))


def strided(tensor: Tensor) -> Tensor:
    """The same numbers, each twice as far from the next."""
    return torch.stack([tensor, torch.full_like(tensor, 7.0)], dim=-1)[..., 0]


def negated(tensor: Tensor) -> Tensor:
    return torch._neg_view(-tensor)


MENDED: dict[str, Callable[[LayerCall], LayerCall]] = {
    "strided weight": weights(strided),
    "strided bias": weights(strided, "bias_hh"),
    "strided peephole": weights(strided, "weight_co"),
    "strided state": states(strided),
    "strided input": input(strided),
    "negated weight": weights(negated),
    "negated state": states(negated),
    "negated input": input(negated),
    "subclass of a weight": weights(lambda weight: weight.as_subclass(Own)),
    "subclass of a state": states(lambda state: state.as_subclass(Own)),
    "subclass of an input": input(lambda value: value.as_subclass(Own)),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_the_engine_cannot_read_as_it_lies_goes_the_long_way(case: str) -> None:
    call = plain("lstm_peephole")
    changed = MENDED[case](call)
    assert short(changed) is None
    for found, right in zip(tensors_of(run_layer(changed)), tensors_of(engine.run(call)), strict=True):
        torch.testing.assert_close(found.as_subclass(Tensor), right)


def emptied(tensor: Tensor) -> Tensor:
    """A tensor whose memory is gone, and which does not begin where that began."""
    copy = torch.cat([tensor.flatten(), tensor.flatten()])[tensor.numel() :].view(tensor.shape)
    copy.untyped_storage().resize_(0)
    return copy


REFUSED: dict[str, Callable[[LayerCall], LayerCall]] = {
    "shape of a weight": weights(lambda weight: weight[:-1]),
    "dimensions of a weight": weights(lambda weight: weight.flatten()),
    "dtype of a weight": weights(lambda weight: weight.double()),
    "dtype of a state": states(lambda state: state.double()),
    "shape of a state": states(lambda state: state[:, :-1].contiguous()),
    "dimensions of a state": states(lambda state: state[0]),
    "one state": lambda call: replace(call, states=call.states[:1]),
    "no state": lambda call: replace(call, states=()),
    "no direction": lambda call: replace(call, weights=()),
    "three directions": lambda call: replace(call, weights=call.weights[:1] * 3),
    "features of the input": input(lambda value: value[..., :-1].contiguous()),
    "dimensions of the input": input(lambda value: value[0]),
    "memory of a weight": weights(emptied),
    "memory of a state": states(emptied),
    "memory of the input": input(emptied),
    "sparse weight": weights(lambda weight: weight.to_sparse()),
    "sparse input": input(lambda value: value.to_sparse()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fits_nothing_is_left_to_the_long_way_to_refuse(case: str) -> None:
    changed = REFUSED[case](plain())
    assert short(changed) is None
    # In a sentence of the layer's own.
    with pytest.raises(RuntimeError, match=r"layer|state|input|dimensions"):
        run_layer(changed)


OPTIONS: dict[str, Callable[[LayerCall], LayerCall]] = {
    "all states": lambda call: replace(call, all_states=True),
    "lengths": lambda call: replace(call, lengths=torch.tensor([3, 1, 2, 3])),
    "zoneout": lambda call: replace(call, zoneout=0.5),
    "mask": lambda call: replace(call, recurrent_mask=torch.full_like(call.states[0], 2.0)),
    "resets": lambda call: replace(
        call, resets=torch.eye(3, 4, dtype=torch.bool), restart=tuple(state[:, :1] for state in call.states)
    ),
    "packed": lambda call: replace(call, input=call.input.flatten(0, 1), batch_sizes=torch.tensor([4, 4, 4])),
    "narrow": lambda call: call.to(torch.bfloat16),
    "projection": lambda call: plain("lstm", projection=9),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_go_the_long_way(case: str) -> None:
    assert short(OPTIONS[case](plain())) is None


def test_nothing_takes_it_under_a_transform_autocast_or_another_backend() -> None:
    call = plain(directions=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert short(call) is None
    with recurra.backend("reference"), record_backends() as ran:
        run_layer(call)
    assert ran == ["reference"]
    with record_backends() as ran:
        run_layer(call)
    assert ran == ["cpu"]

    def one(value: Tensor) -> Tensor:
        inside = replace(call, input=value)
        assert short(inside) is None
        return run_layer(inside).outputs[0]

    found = torch.vmap(one)(torch.stack([call.input, call.input * 2]))
    torch.testing.assert_close(found[0], run_layer(call).outputs[0])
