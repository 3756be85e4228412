"""layer.stream(): one step at a time gives what forward gives for the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import recurra
from recurra.kernels import cpu_engine

from .builders import assert_close, build, states_of, zeros_or_random
from .oracles import CELLS

NAMES = sorted(CELLS)
T, B, I, H = 6, 3, 4, 5
STACKS: list[dict[str, Any]] = [
    {"residual": "residual"},
    {"residual": "highway"},
    {"bias": False},
    {"batch_first": True},
    {"learn_initial_state": True},
    {"forget_bias": 1.0},
]


def sequence(device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(device)


def stream_on(backend: str, layer: nn.Module) -> recurra.layers.Stream:
    with recurra.backend(backend) if backend != "default" else nullcontext():
        return layer.stream(B)


def copy_of(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    return type(state)(copy_of(part) for part in state)


def flat(state: Any) -> list[torch.Tensor]:
    return [state] if isinstance(state, torch.Tensor) else [tensor for part in state for tensor in flat(part)]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_forward(name: str, num_layers: int, device: torch.device) -> None:
    layer = build(name, I, H, num_layers, device=device).eval()
    x = sequence(device)
    expected, last = layer(x)
    stream = layer.stream(B)
    for step, expected_step in zip(x, expected, strict=True):
        output = stream.step(step)
        assert output.shape == (B, H)
        assert_close(output, expected_step)
    for state, expected_state in zip(states_of(stream.state), states_of(last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("options", STACKS, ids=str)
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_steps_equal_forward_in_every_stack(name: str, options: dict[str, Any]) -> None:
    options = {key: value for key, value in options.items() if key != "forget_bias" or name == "lstm"}
    layer = build(name, I, H, 3, **options).eval()
    x = sequence()
    expected, _ = layer(x.transpose(0, 1) if options.get("batch_first") else x)
    expected = expected.transpose(0, 1) if options.get("batch_first") else expected
    stream = layer.stream(B)
    assert_close(torch.stack([stream.step(step) for step in x]), expected)


def test_steps_equal_forward_with_projection_and_zoneout() -> None:
    for layer in (build("lstm", I, H, 2, proj_size=2), build("lstm", I, H, 2, zoneout=0.2)):
        expected, _ = layer.eval()(sequence())
        stream = layer.stream(B)
        assert_close(torch.stack([stream.step(step) for step in sequence()]), expected)


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_a_width_for_each_layer(name: str) -> None:
    layer = build(name, I, [5, 3], 2).eval()
    expected, last = layer(sequence())
    stream = layer.stream(B)
    assert_close(torch.stack([stream.step(step) for step in sequence()]), expected)
    for state, expected_state in zip(flat(stream.state), flat(last), strict=True):
        assert_close(state, expected_state)


@pytest.mark.parametrize("name", NAMES)
def test_state_can_be_given(name: str) -> None:
    layer = build(name, I, H, 2).eval()
    hx = zeros_or_random(name, 2, B, H)
    expected, _ = layer(sequence(), hx)
    stream = layer.stream(B)
    stream.state = hx
    assert_close(torch.stack([stream.step(step) for step in sequence()]), expected)
    for state, original in zip(states_of(hx), states_of(zeros_or_random(name, 2, B, H)), strict=True):
        assert torch.equal(state, original)  # the stream may not write into the caller's tensors


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "lstm_fgr"])
def test_state_can_be_kept_and_put_back(name: str) -> None:
    layer = build(name, I, H, 2).eval()
    stream = layer.stream(B)
    for step in sequence()[:3]:
        stream.step(step)
    kept = stream.state
    copied = copy_of(kept)
    first = [stream.step(step).clone() for step in sequence()[3:]]
    for state, before in zip(states_of(kept), states_of(copied), strict=True):
        assert torch.equal(state, before)
    stream.state = kept
    for step, expected in zip(sequence()[3:], first, strict=True):
        assert torch.equal(stream.step(step), expected)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("convert", [list, torch.tensor], ids=["list", "tensor"])
@pytest.mark.parametrize("name", NAMES)
def test_single_rows_start_again(name: str, convert: Any, learn: bool, device: torch.device) -> None:
    layer = build(name, I, H, 2, learn_initial_state=learn, device=device).eval()
    x = sequence(device)
    stream = layer.stream(B)
    for step in x[:3]:
        stream.step(step)
    stream.reset(convert([0, 2]))
    output = torch.stack([stream.step(step) for step in x[3:]])
    assert_close(output[:, 1], layer(x)[0][3:, 1])
    assert_close(output[:, [0, 2]], layer(x[3:])[0][:, [0, 2]])


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_all_rows_start_again(name: str) -> None:
    layer = build(name, I, H, 2).eval()
    stream = layer.stream(B)
    first = [stream.step(step).clone() for step in sequence()]
    stream.reset()
    for step, expected in zip(sequence(), first, strict=True):
        assert torch.equal(stream.step(step), expected)


def test_streams_of_one_layer_do_not_meet() -> None:
    layer = build("lstm", I, H).eval()
    one, other = layer.stream(B), layer.stream(B)
    expected, _ = layer(sequence())
    for step, expected_step in zip(sequence(), expected, strict=True):
        other.step(torch.randn(B, I, dtype=torch.float64))
        assert_close(one.step(step), expected_step)


def test_drop_ins_stream() -> None:
    for kind in (recurra.LSTM, recurra.GRU, recurra.RNN):
        layer = kind(I, H, 2, dtype=torch.float64).eval()
        stream = layer.stream(B)
        assert_close(torch.stack([stream.step(step) for step in sequence()]), layer(sequence())[0])


def test_what_cannot_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="bidirectional"):
        build("lstm", I, H, bidirectional=True).stream(B)
    with pytest.raises(ValueError, match="batch_size"):
        build("lstm", I, H).stream(-1)
    stream = build("lstm", I, H).stream(B)
    for shape in ((B + 1, I), (B, I + 1), (1, B, I)):
        with pytest.raises((RuntimeError, ValueError)):
            stream.step(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises((RuntimeError, ValueError)):
        stream.state = zeros_or_random("lstm", 1, B + 1, H)
    with pytest.raises((IndexError, ValueError)):
        stream.reset([B])


def test_a_stream_keeps_the_weights_it_was_made_with_and_resets_nothing_for_no_rows() -> None:
    for name in ("lstm", "gru_cho", "mgu"):
        layer = build(name, I, H)
        x = torch.randn(B, I, dtype=torch.float64)
        expected = layer.stream(B).step(x)
        stream = layer.stream(B)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(1.0)
        assert torch.equal(stream.step(x), expected)
        stream.reset([])
        h = stream.state[0] if isinstance(stream.state, tuple) else stream.state
        assert bool((h != 0).any())


@pytest.mark.parametrize("residual", ["none", "residual", "highway"])
def test_a_later_update_does_not_reach_a_stream(residual: str) -> None:
    layer = build("lstm", 4, 4, 3, residual=residual)
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    expected = layer(x)[0].detach()
    stream = layer.stream(2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)
    steps = [stream.step(step) for step in x]
    assert not any(step.requires_grad for step in steps)
    assert_close(torch.stack(steps), expected)


@pytest.mark.skipif(cpu_engine.engine() is None, reason="built without the engine")
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_steps_on_the_engine_equal_forward_bit_for_bit(name: str, batch: int) -> None:
    torch.manual_seed(0)
    layer = recurra.Recurrent(name, 19, 37, 2)
    x = torch.randn(9, batch, 19)
    with recurra.kernels.record_backends() as names:
        stream = layer.stream(batch)
    assert names == ["cpu", "cpu"]
    with torch.no_grad():
        expected, last = layer(x)
    assert torch.equal(torch.stack([stream.step(step) for step in x]), expected)
    for state, expected_state in zip(states_of(stream.state), states_of(last), strict=True):
        assert torch.equal(state, expected_state)


@pytest.mark.skipif(cpu_engine.engine() is None, reason="built without the engine")
def test_a_step_on_the_engine_refuses_another_dtype_and_takes_any_layout() -> None:
    layer = recurra.LSTM(4, 5)
    stream = layer.stream(3)
    with pytest.raises(ValueError, match=r"takes torch\.float32"):
        stream.step(torch.zeros(3, 4, dtype=torch.float64))
    x = torch.randn(4, 3)
    expected, _ = layer(x.t().unsqueeze(0).contiguous())
    assert torch.equal(stream.step(x.t()), expected[0].detach())


@pytest.mark.parametrize("backend", ["default", "reference"])
def test_a_later_update_of_a_learnt_initial_state_does_not_reach_a_stream(backend: str) -> None:
    layer = build("lstm", I, H, 2, learn_initial_state=True)
    x = sequence()[0]
    stream = stream_on(backend, layer)
    expected = stream.step(x)
    with torch.no_grad():
        layer.initial_h_l0.add_(1.0)
        layer.initial_c_l1.add_(1.0)
    stream.reset()
    assert torch.equal(stream.step(x), expected)
    stream.reset([0, 1, 2])
    assert torch.equal(stream.step(x), expected)


def test_making_a_stream_leaves_every_training_flag() -> None:
    class Noisy(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + torch.rand_like(weight) if self.training else weight

    layer = build("lstm", I, H, weight_dropout=0.5)
    parametrize.register_parametrization(layer, "weight_hh_l0", Noisy())
    for outer, inner in ((True, False), (False, True), (True, True)):
        layer.train(outer)
        noisy = layer.parametrizations["weight_hh_l0"][0]
        noisy.training = inner
        before = {name: module.training for name, module in layer.named_modules()}
        stream = layer.stream(B)
        assert {name: module.training for name, module in layer.named_modules()} == before
        expected, _ = layer.eval()(sequence())
        assert_close(torch.stack([stream.step(step) for step in sequence()]), expected)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        weight_norm,
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
    ],
    ids=["old weight_norm", "old spectral_norm", "weight_norm", "spectral_norm", "pruning"],
)
def test_a_stream_takes_weights_that_are_made_from_others_as_they_are_now(change: Callable[..., Any]) -> None:
    layer = build("lstm", I, H)
    change(layer, "weight_hh_l0")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    stream = layer.stream(B)
    expected, _ = layer.eval()(sequence())
    assert_close(torch.stack([stream.step(step) for step in sequence()]), expected)


@pytest.mark.parametrize("backend", ["default", "reference"])
def test_what_a_stream_returns_or_is_given_is_its_own_no_more(backend: str) -> None:
    for name in ("lstm", "gru_cho"):
        layer = build(name, I, H, 2).eval()
        expected, _ = layer(sequence())
        stream = stream_on(backend, layer)
        for step, expected_step in zip(sequence(), expected, strict=True):
            output = stream.step(step)
            assert_close(output, expected_step)
            output.zero_()
            for state in flat(stream.state):
                state.zero_()
            given = copy_of(stream.state)
            stream.state = given
            for state in flat(given):
                state.zero_()


class Subclass(torch.Tensor):
    pass


def forward_mode(step: Any, x: torch.Tensor) -> Any:
    with forward_ad.dual_level():
        return step(forward_ad.make_dual(x, x))


UNDER: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "vmap": lambda step, x: torch.vmap(step)(x.unsqueeze(0)),
    "jvp": lambda step, x: torch.func.jvp(step, (x,), (x,)),
    "grad": lambda step, x: torch.func.grad(lambda value: step(value).sum())(x),
    "functionalize": lambda step, x: torch.func.functionalize(step)(x),
    "forward mode": forward_mode,
    "torch.jit.trace": lambda step, x: torch.jit.trace(step, x),
    "make_fx": lambda step, x: make_fx(lambda value: step(value))(x),
    "fake tensors": lambda step, x: step(FakeTensorMode().from_tensor(x)),
    "a subclass": lambda step, x: step(x.as_subclass(Subclass)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["default", "reference"])
@pytest.mark.parametrize("way", UNDER)
def test_a_step_refuses_what_would_have_to_follow_its_state(way: str, backend: str) -> None:
    layer = build("lstm", I, H, 2).eval()
    x = sequence()[0]
    stream = stream_on(backend, layer)
    expected = stream.step(x)
    stream.reset()
    with pytest.raises(RuntimeError, match="a stream takes plain tensors"):
        UNDER[way](stream.step, x)
    assert torch.equal(stream.step(x), expected)
    with torch.inference_mode():
        stream.step(nn.Parameter(x))


def test_a_compiled_step_equals_a_step() -> None:
    torch._dynamo.reset()
    layer = build("lstm", I, H, 2).eval()
    expected, _ = layer(sequence())
    for wrap in (lambda stream: stream.step, lambda stream: lambda x: stream.step(x * 2) / 2 * 2):
        stream = layer.stream(B)
        compiled = torch.compile(wrap(stream), backend="aot_eager")
        scale = 1.0 if wrap(stream) == stream.step else 0.5
        assert_close(torch.stack([compiled(step * scale) for step in sequence()]), expected)


def test_a_stream_on_the_reference_under_another_default_device() -> None:
    layer = build("lstm", I, H, 2, learn_initial_state=True).eval()
    x = sequence()
    expected, _ = layer(x)
    torch.set_default_device("meta")
    try:
        stream = stream_on("reference", layer)
        actual = torch.stack([stream.step(step) for step in x])
        stream.reset([0, 1, 2])
        again = stream.step(x[0])
        stream.state = stream.state
    finally:
        torch.set_default_device(None)
    assert_close(actual, expected)
    assert_close(again, expected[0])
