"""The layers inside torch's own machinery: copies, parametrisations, autocast, compile, export, function transforms."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils import parametrizations

import recurra

from ..torch_limits import needs_autocast
from .builders import assert_close, build, states_of, zeros_or_random
from .oracles import CELLS

NAMES = sorted(CELLS)
SOME = ["rnn_tanh", "lstm", "gru", "gru_cho", "lstm_peephole", "mgu"]
COMPILED = ["lstm", "gru", "lstm_peephole", "gru_cho"]
T, B, I, H = 6, 3, 4, 5


def sequence(*shape: int, seed: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape or (T, B, I), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_equal_and_independent(name: str, way: str) -> None:
    layer = build(name, I, H, 2, bidirectional=True, learn_initial_state=True, weight_dropout=0.1).eval()
    expected, _ = layer(sequence())  # a run first: caches of packed weights must not leak into the copy
    if way == "deepcopy":
        other = copy.deepcopy(layer)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    else:
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    assert torch.equal(other(sequence())[0], expected)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert torch.equal(other(sequence())[0], expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not torch.equal(other(sequence())[0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_through_a_file(name: str) -> None:
    layer = build(name, I, H, 2)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other = recurra.Recurrent(name, I, H, 2, dtype=torch.float64)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(sequence())[0], layer(sequence())[0])


@pytest.mark.parametrize("name", SOME)
def test_weight_norm_is_honoured(name: str) -> None:
    layer, plain = build(name), build(name)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(layer(sequence())[0], plain(sequence())[0])
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
        plain.weight_hh_l0.mul_(2)
    output, _ = layer(sequence())
    assert_close(output, plain(sequence())[0])
    output.square().sum().backward()
    assert layer.parametrizations.weight_hh_l0.original0.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SOME)
def test_spectral_norm_is_honoured(name: str) -> None:
    layer, plain = build(name), build(name)
    parametrizations.spectral_norm(layer, "weight_hh_l0")
    layer.eval()
    with torch.no_grad():
        plain.weight_hh_l0.copy_(layer.weight_hh_l0)
    assert not torch.equal(plain.weight_hh_l0, build(name).weight_hh_l0)
    assert_close(layer(sequence())[0], plain(sequence())[0])


@pytest.mark.parametrize("name", SOME)
def test_assigned_and_edited_weights_are_honoured(name: str) -> None:
    layer, plain = build(name), build(name)
    layer(sequence())
    with torch.no_grad():
        plain.weight_hh_l0.mul_(0.5)
        layer.weight_hh_l0.mul_(0.5)
    assert_close(layer(sequence())[0], plain(sequence())[0])
    with torch.no_grad():
        plain.weight_ih_l0.mul_(-1)
    layer.weight_ih_l0 = nn.Parameter(plain.weight_ih_l0.detach().clone())
    assert_close(layer(sequence())[0], plain(sequence())[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_autocast_gives_what_torch_gives(kind: str, device: torch.device) -> None:
    if device.type == "cpu":
        needs_autocast(kind)
    theirs = getattr(nn, kind)(I, H, 2, device=device)
    ours = getattr(recurra, kind)(I, H, 2, device=device)
    ours.load_state_dict(theirs.state_dict())
    x = sequence(dtype=torch.float32).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        expected, expected_last = theirs(x)
        with recurra.backend("torch"):
            output, last = ours(x)
        default, _ = ours(x)
    assert output.dtype == expected.dtype == default.dtype
    assert torch.equal(output, expected)
    for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
        assert torch.equal(state, expected_state)
    exact, _ = theirs.double()(x.double())
    # The engine rounds less often than torch does; one rounding more or less is within either's error.
    assert (default - exact).abs().max() <= (expected - exact).abs().max() + torch.finfo(torch.bfloat16).eps / 2
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ours.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_autocast_runs_every_cell(name: str, device: torch.device) -> None:
    layer = build(name, I, H, 2, bidirectional=True, dtype=torch.float32, device=device)
    x = sequence(dtype=torch.float32).to(device)
    expected, _ = layer(x)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output, _ = layer(x, lengths=[T] * B)
    assert output.is_floating_point()
    # bfloat16 rounds each operand by up to 2**-9; a few dozen roundings stay under 0.05 on values near one.
    assert_close(output.float(), expected, 0.05)
    output.float().square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_layers(name: str, dtype: torch.dtype, device: torch.device) -> None:
    layer = build(name, I, H, 2, device=device)
    expected, _ = layer(sequence().to(device))
    output, last = layer.to(dtype)(sequence().to(device, dtype))
    assert output.dtype == dtype and all(state.dtype == dtype for state in states_of(last))
    assert_close(output.double(), expected, 0.05 if dtype == torch.bfloat16 else 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_meta_device(name: str) -> None:
    layer = recurra.Recurrent(name, I, H, 2, bidirectional=True, device="meta", dtype=torch.float64)
    assert all(parameter.is_meta for parameter in layer.parameters())
    output, last = layer(torch.empty(T, B, I, device="meta", dtype=torch.float64))
    assert output.is_meta and output.shape == (T, B, 2 * H)
    assert all(state.is_meta and state.shape == (4, B, H) for state in states_of(last))
    real = build(name, I, H, 2, bidirectional=True)
    layer.to_empty(device="cpu").load_state_dict(real.state_dict())
    assert torch.equal(layer(sequence())[0], real(sequence())[0])


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_once_for_every_length_and_batch(name: str, num_layers: int) -> None:
    torch._dynamo.reset()
    layer = build(name, I, H, num_layers)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for time, batch in ((5, 3), (9, 4), (17, 2)):
        x = sequence(time, batch, I)
        torch._dynamo.mark_dynamic(x, 0)
        torch._dynamo.mark_dynamic(x, 1)
        results = []
        for run in (compiled, layer):
            layer.zero_grad()
            output, last = run(x)
            (output.square().sum() + states_of(last)[-1].sum()).backward()
            results.append([output, *states_of(last), *(parameter.grad for parameter in layer.parameters())])
        for actual, expected in zip(*results, strict=True):
            assert_close(actual, expected)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_compiles_with_states_lengths_and_directions(name: str) -> None:
    torch._dynamo.reset()
    layer = build(name, I, H, 2, bidirectional=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for lengths in (None, torch.tensor([4, 6, 1])):
        results = []
        for run in (compiled, layer):
            x, hx = sequence().requires_grad_(), zeros_or_random(name, 4, B, H)
            for state in states_of(hx):
                state.requires_grad_()
            output, last = run(x, hx, lengths=lengths)
            (output.square().sum() + states_of(last)[-1].sum()).backward()
            results.append([output, *states_of(last), x.grad, *(state.grad for state in states_of(hx))])
        for actual, expected in zip(*results, strict=True):
            assert_close(actual, expected)


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout", "locked_dropout", "dropout"])
@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_compiles_with_regularisers(name: str, option: str) -> None:
    torch._dynamo.reset()
    layer = build(name, I, H, 2, **{option: 0.5})
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (compiled, compiled):
        layer.zero_grad()
        run(sequence())[0].square().sum().backward()
        gradients.append(layer.weight_ih_l0.grad)
    # Random, yet alive: the compiled graph may draw its masks in another order than the eager run.
    assert not torch.equal(*gradients) and all(gradient.abs().sum() > 0 for gradient in gradients)
    layer.eval()
    assert_close(compiled(sequence())[0], layer(sequence())[0])


@pytest.mark.parametrize("name", COMPILED)
def test_compiles_under_autocast(name: str) -> None:
    torch._dynamo.reset()
    layer = build(name, I, H, dtype=torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for run in (compiled, layer):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, _ = run(sequence(dtype=torch.float32))
        output.float().square().sum().backward()
        results.append([output, *(parameter.grad for parameter in layer.parameters())])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        assert_close(actual.float(), expected.float(), 0.05)  # bfloat16 rounds by up to 2**-9, a few dozen times


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", COMPILED)
def test_exports_with_any_length_and_batch(name: str, bidirectional: bool) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional).eval()
    rows = 2 * (1 + bidirectional)
    time, batch = torch.export.Dim("time", max=4096), torch.export.Dim("batch", max=4096)
    for with_states in (False, True):
        arguments: tuple[Any, ...] = (sequence(),)
        dynamic: tuple[Any, ...] = ({0: time, 1: batch},)
        if with_states:
            hx = zeros_or_random(name, rows, B, H)
            arguments += (hx,)
            dynamic += (tuple({1: batch} for _ in hx) if isinstance(hx, tuple) else {1: batch},)
        program = torch.export.export(layer, arguments, dynamic_shapes=dynamic).module()
        for length, width in ((6, 3), (2, 7), (23, 5)):
            x = sequence(length, width, I)
            more = (zeros_or_random(name, rows, width, H),) if with_states else ()
            (output, last), (expected, expected_last) = program(x, *more), layer(x, *more)
            assert_close(output, expected)
            for state, expected_state in zip(states_of(last), states_of(expected_last), strict=True):
                assert_close(state, expected_state)


@pytest.mark.parametrize("name", NAMES)
def test_functional_call_uses_the_parameters_it_is_given(name: str) -> None:
    layer, other = build(name, I, H, 2), build(name, I, H, 2)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    given = {key: value.detach().clone().requires_grad_() for key, value in other.named_parameters()}
    output, _ = functional_call(layer, given, (sequence(),))
    expected, _ = other(sequence())
    assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for key, value in other.named_parameters():
        assert_close(given[key].grad, value.grad)
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", SOME)
def test_vmap_over_inputs(name: str, bidirectional: bool) -> None:
    layer = build(name, I, H, 2, bidirectional=bidirectional)
    xs = sequence(4, T, B, I)
    output = vmap(lambda x: layer(x)[0])(xs)
    assert_close(output, torch.stack([layer(x)[0] for x in xs]))


@pytest.mark.parametrize("name", SOME)
def test_vmap_over_stacked_parameters(name: str) -> None:
    layers = [build(name, I, H) for _ in range(3)]
    for index, layer in enumerate(layers):
        with torch.no_grad():
            layer.weight_hh_l0.mul_(index)
    parameters, buffers = stack_module_state(layers)
    x = sequence()

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(layers[0], (parameters, buffers), (x,))[0]

    assert_close(vmap(run)(parameters, buffers), torch.stack([layer(x)[0] for layer in layers]))


@pytest.mark.parametrize("name", SOME)
def test_gradients_of_each_sample(name: str) -> None:
    """vmap of grad, as for per-sample clipping, against one backward a sample."""
    layer = build(name, I, H, 2)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    xs = sequence(4, T, 1, I)
    gradients = vmap(grad(lambda p, x: functional_call(layer, p, (x,))[0].square().sum()), (None, 0))(parameters, xs)
    for index, x in enumerate(xs):
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        for key, parameter in layer.named_parameters():
            assert_close(gradients[key][index], parameter.grad)


@pytest.mark.parametrize("name", SOME)
def test_jacobian_by_reverse_and_forward_mode(name: str) -> None:
    layer = build(name, I, H)
    x, direction = sequence(3, 2, I), sequence(3, 2, I, seed=9)
    expected = torch.autograd.functional.jacobian(lambda value: layer(value)[0], x)
    jacobian = jacrev(lambda value: layer(value)[0])(x)
    assert_close(jacobian, expected)
    _, tangent = jvp(lambda value: layer(value)[0], (x,), (direction,))
    assert_close(tangent, torch.tensordot(expected, direction, dims=3))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_a_gradient_norm(name: str) -> None:
    """Second derivatives of the public call, against a central difference of first derivatives."""
    layer = build(name, I, H)

    def penalty(x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(x)[0].tanh().sum(), x, create_graph=True)
        return gradient.square().sum()

    x, direction = sequence().requires_grad_(), sequence(seed=9)
    (second,) = torch.autograd.grad(penalty(x), x, allow_unused=True)
    step = 1e-5
    numeric = (penalty(x.detach() + step * direction) - penalty(x.detach() - step * direction)) / (2 * step)
    # Truncation (step squared) and cancellation (1e-16 / step) both stay near 1e-10 here.
    assert_close((second * direction).sum(), numeric, 1e-7)


@pytest.mark.parametrize("name", SOME)
def test_moves_between_dtypes(name: str) -> None:
    layer = build(name, I, H, 2)
    expected, _ = layer(sequence())
    single, _ = layer.float()(sequence(dtype=torch.float32))
    assert single.dtype == torch.float32
    assert_close(single.double(), expected, 1e-5)
    assert layer.double()(sequence())[0].dtype == torch.float64
