"""Single steps: torch.nn's cells number for number, and every other cell as one step of a layer."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacfwd, jacrev, vmap
from torch.nn.utils import parametrizations

import recurra
from recurra.cells import Cell
from recurra.cells.algebra import State, sigmoid, tanh
from recurra.kernels import record_backends

from .builders import assert_close, randomise, states_of
from .oracles import CELLS

KINDS = ["RNNCell", "LSTMCell", "GRUCell"]
NAMES = sorted(CELLS)
B, I, H = 3, 4, 5


class Mine(Cell):
    """Two states, a vector and a matrix of its own."""

    states = ("h", "c")
    gates = ("a", "n")
    vectors = ("leak",)
    matrices = ("mix",)

    def step(self, gate, state, weight):
        a = sigmoid(gate.a + weight.leak * state.c)
        c = a * state.c + (1 - a) * tanh(gate.n)
        return State(h=tanh(weight.mix @ c), c=c)


def numbers(*shape: int, seed: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def step_of(cell: str | Cell, **options: Any) -> nn.Module:
    options.setdefault("dtype", torch.float64)
    module = recurra.RecurrentCell(cell, I, H, **options)
    randomise(module)
    return module


def states_for(module: nn.Module, *batch: int) -> tuple[Tensor, ...]:
    return tuple(numbers(*batch, H, seed=seed) for seed, _ in enumerate(module.cell.states))


def hx_of(states: tuple[Tensor, ...]) -> Any:
    return states if len(states) > 1 else states[0]


def pair(kind: str, *args: Any, **options: Any) -> tuple[nn.Module, nn.Module]:
    """torch.nn's cell and ours, each made from the same seed."""
    made = []
    for library in (nn, recurra):
        torch.manual_seed(5)
        made.append(getattr(library, kind)(*args, **options))
    return made[0], made[1]


# ---- torch.nn's cells


# What PyTorch's own tests of modules give the cells.
SAMPLES = [(kind, options) for kind in KINDS for options in ({}, {"bias": True}, {"bias": False})]
SAMPLES.append(("RNNCell", {"bias": True, "nonlinearity": "relu"}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), SAMPLES, ids=str)
def test_everything_is_torchs(kind: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    theirs, ours = pair(kind, 5, 10, **options, dtype=dtype)
    assert repr(ours) == repr(theirs) and ours.state_dict().keys() == theirs.state_dict().keys()
    leaves = [numbers(*shape, dtype=dtype).requires_grad_() for shape in ((5,), (10,), (10,))]
    leaves = leaves if kind == "LSTMCell" else leaves[:2]
    x, hx = leaves[0], hx_of(tuple(leaves[1:]))
    expected, given = theirs(x, hx), ours(x, hx)
    for other in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        for one, copied in zip(states_of(given), states_of(other(x, hx)), strict=True):
            assert torch.equal(one, copied)
    gradients = [
        torch.autograd.grad(sum(state.sum() for state in states_of(result)), [*leaves, *module.parameters()])
        for result, module in ((expected, theirs), (given, ours))
    ]
    for one, other in zip([*states_of(given), *gradients[1]], [*states_of(expected), *gradients[0]], strict=True):
        assert torch.equal(one, other) and one.shape == other.shape


@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_same_random_and_other_numbers(kind: str, options: dict[str, bool], dtype: torch.dtype) -> None:
    theirs, ours = pair(kind, 40, 33, **options)
    assert repr(ours) == repr(theirs)
    for (name, one), (their_name, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == their_name and torch.equal(one, other)
    assert (ours.bias_ih is None) == (theirs.bias_ih is None)
    theirs, ours = theirs.to(dtype), ours.to(dtype)
    for batch in ((), (0,), (1,), (7,)):
        x, states = numbers(*batch, 40, dtype=dtype), [numbers(*batch, 33, seed=k, dtype=dtype) for k in (1, 2)]
        for hx in (None, tuple(states) if kind == "LSTMCell" else states[0]):
            for one, other in zip(states_of(ours(x, hx)), states_of(theirs(x, hx)), strict=True):
                assert torch.equal(one, other) and one.dtype == other.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_the_constructors_arguments_have_the_same_order(kind: str) -> None:
    theirs, ours = (list(inspect.signature(getattr(library, kind)).parameters) for library in (nn, recurra))
    assert ours[: len(theirs)] == theirs
    theirs, ours = pair(kind, *([I, H, False, "relu"] if kind == "RNNCell" else [I, H, False]), "meta", torch.float64)
    assert repr(ours) == repr(theirs) and ours.weight_hh.is_meta and ours.weight_hh.dtype == torch.float64
    for one, other in zip(
        *(states_of(cell(torch.empty(B, I, device="meta", dtype=torch.float64))) for cell in (ours, theirs)),
        strict=True,
    ):
        assert one.is_meta and one.shape == other.shape and one.dtype == other.dtype


WRONG = {
    "input of 3 dimensions": ((2, I, 1), (2, H)),
    "input of 0 dimensions": ((), (H,)),
    "input size": ((2, I + 1), (2, H)),
    "state of 3 dimensions": ((2, I), (2, 1, H)),
    "state size": ((2, I), (2, H + 1)),
    "rows": ((2, I), (3, H)),
    "one row for several": ((2, I), (1, H)),
    "state of one row": ((2, I), (H,)),
    "state of several rows": ((I,), (1, H)),
}


@pytest.mark.parametrize("wrong", list(WRONG))
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes_raise_the_same(kind: str, wrong: str) -> None:
    x, state = (torch.zeros(shape) for shape in WRONG[wrong])
    theirs, ours = pair(kind, I, H)
    hx = (state, state) if kind == "LSTMCell" else state
    with pytest.raises((RuntimeError, ValueError)) as expected:
        theirs(x, hx)
    for backend in ("torch", "reference"):
        with recurra.backend(backend), pytest.raises(type(expected.value)) as raised:
            ours(x, hx)
        # torch takes a state without rows for one with another size, or with one row.
        if wrong not in ("state of one row", "state of several rows"):
            assert str(raised.value) == str(expected.value).splitlines()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_dtypes_raise_the_same(kind: str) -> None:
    theirs, ours = pair(kind, I, H)
    for x in (torch.zeros(2, I, dtype=torch.float64), torch.zeros(2, I, dtype=torch.int64)):
        for module in (theirs, ours):
            with pytest.raises(RuntimeError, match="dtype"):
                module(x)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_torchs(kind: str) -> None:
    theirs, ours = pair(kind, I, H)
    x = numbers(B, I, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(states_of(ours(x)), states_of(theirs(x)), strict=True):
            assert torch.equal(one, other) and one.dtype == other.dtype


# ---- any cell


def as_layer(module: nn.Module) -> nn.Module:
    layer = recurra.Recurrent(module.cell, I, H, bias=module.bias, dtype=torch.float64)
    layer.load_state_dict({f"{name}_l0": value for name, value in module.state_dict().items()})
    return layer


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("cell", [*NAMES, Mine()], ids=str)
def test_steps_are_a_layers_and_weights_convert_by_name(cell: Any, bias: bool) -> None:
    module = step_of(cell, bias=bias)
    layer = as_layer(module)
    other = recurra.RecurrentCell(module.cell, I, H, bias, dtype=torch.float64)
    other.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, hx = numbers(6, B, I), hx_of(states_for(module, B))
    layers_hx = hx_of(tuple(state[None] for state in states_of(hx)))
    expected, last = layer(x, layers_hx)
    outputs = []
    for step in x:
        hx = other(step, hx)
        outputs.append(states_of(hx)[0])
    assert_close(torch.stack(outputs), expected)
    for one, whole in zip(states_of(hx), states_of(last), strict=True):
        assert_close(one, whole[0])
    ours = torch.autograd.grad(torch.stack(outputs).square().sum(), list(other.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    for one, other_gradient in zip(ours, theirs, strict=True):
        assert_close(one, other_gradient)


@pytest.mark.parametrize("cell", [*NAMES, Mine()], ids=str)
def test_parameters_are_a_layers_from_the_same_seed(cell: Any) -> None:
    torch.manual_seed(1)
    layer = recurra.Recurrent(cell, I, H)
    torch.manual_seed(1)
    module = recurra.RecurrentCell(cell, I, H)
    assert [f"{name}_l0" for name in module.state_dict()] == list(layer.state_dict())
    for one, other in zip(module.parameters(), layer.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cell", [*NAMES, Mine()], ids=str)
def test_one_row_no_rows_and_no_states(cell: Any) -> None:
    module = step_of(cell)
    x, states = numbers(I), states_for(module)
    batched = module(x[None], hx_of(tuple(state[None] for state in states)))
    for one, whole in zip(states_of(module(x, hx_of(states))), states_of(batched), strict=True):
        assert one.shape == (H,) and torch.equal(one, whole[0])
    zeros = hx_of(tuple(torch.zeros_like(state) for state in states))
    for one, other in zip(states_of(module(x)), states_of(module(x, zeros)), strict=True):
        assert torch.equal(one, other)
    assert all(state.shape == (0, H) for state in states_of(module(numbers(0, I))))
    assert isinstance(module(x), tuple) == (len(states) > 1)


@pytest.mark.parametrize("cell", [*NAMES, Mine()], ids=str)
def test_derivatives(cell: Any) -> None:
    module = step_of(cell)
    x, states = numbers(2, I).requires_grad_(), [state.requires_grad_() for state in states_for(module, 2)]
    names = [name for name, _ in module.named_parameters()]

    def run(*flat: Tensor) -> Any:
        weights = dict(zip(names, flat[1 + len(states) :], strict=True))
        return functional_call(module, weights, (flat[0], hx_of(flat[1 : 1 + len(states)])))

    flat = [x, *states, *module.parameters()]
    assert torch.autograd.gradcheck(run, flat, check_forward_ad=True)
    # In random directions alone, as there are a hundred numbers.
    assert torch.autograd.gradgradcheck(run, flat, fast_mode=True)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_cho", "lstm_peephole", Mine()], ids=str)
def test_function_transforms(cell: Any) -> None:
    module = step_of(cell)
    weights = {name: value.detach() for name, value in module.named_parameters()}
    x = numbers(B, I)

    def loss(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        return sum(state.square().sum() for state in states_of(functional_call(module, weights, (row,))))

    together = vmap(grad(loss), (None, 0))(weights, x)
    for row in range(B):
        for name, gradient in grad(loss)(weights, x[row]).items():
            assert_close(together[name][row], gradient)
    assert_close(jacfwd(loss, 1)(weights, x), jacrev(loss, 1)(weights, x))
    # Several sets of weights at once, for which torch's own steps have no rule.
    stacked = {name: torch.stack([value, 2 * value]) for name, value in weights.items()}
    assert_close(vmap(loss, (0, None))(stacked, x)[0], loss(weights, x))


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru", "gru_cho", "lstm_peephole", "mgu", Mine()], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_compiles_whole(cell: Any, autocast: bool) -> None:
    torch._dynamo.reset()
    module = step_of(cell, dtype=torch.float32 if autocast else torch.float64)
    dtype = module.weight_ih.dtype
    compiled = torch.compile(pickle.loads(pickle.dumps(module)), fullgraph=True, backend="aot_eager")
    results = []
    for run in (compiled, module):
        x, states = numbers(B, I, dtype=dtype), tuple(s.to(dtype).requires_grad_() for s in states_for(module, B))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            new = states_of(run(x, hx_of(states)))
        sum(state.float().square().sum() for state in new).backward()
        results.append([*new, *(state.grad for state in states)])
        results[-1] += [parameter.grad for parameter in (module if run is module else compiled._orig_mod).parameters()]
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        # bfloat16 rounds each operand by up to 2**-9.
        assert_close(one.double(), other.double(), 0.05 if autocast else 1e-12)


@pytest.mark.parametrize("cell", NAMES)
def test_exports(cell: str) -> None:
    module = step_of(cell)
    x, hx = numbers(B, I), hx_of(states_for(module, B))
    program = torch.export.export(module, (x, hx))
    for one, other in zip(states_of(program.module()(x, hx)), states_of(module(x, hx)), strict=True):
        assert_close(one, other)


def test_half_precision_meta_and_devices(device: torch.device) -> None:
    module = step_of("lstm_peephole", device=device)
    x = numbers(B, I).to(device)
    expected = module(x)
    half = module.to(torch.bfloat16)(x.to(torch.bfloat16))
    for one, other in zip(half, expected, strict=True):
        assert one.device.type == device.type and one.dtype == torch.bfloat16
        assert_close(one.double(), other, 0.05)
    shape = recurra.RecurrentCell("gru_cho", I, H, device="meta")(torch.empty(B, I, device="meta"))
    assert shape.is_meta and shape.shape == (B, H)


@pytest.mark.parametrize("cell", ["lstm", "gru_cho"])
def test_parametrized_and_edited_weights_are_honoured(cell: str) -> None:
    module, plain = step_of(cell), step_of(cell)
    parametrizations.weight_norm(module, "weight_hh")
    with torch.no_grad():
        module.parametrizations.weight_hh.original0.mul_(2)
        plain.weight_hh.mul_(2)
    hx = hx_of(states_for(module, B))
    for one, other in zip(states_of(module(numbers(B, I), hx)), states_of(plain(numbers(B, I), hx)), strict=True):
        assert_close(one, other)


def test_forget_bias() -> None:
    module = recurra.LSTMCell(I, H, forget_bias=1.0)
    assert (module.bias_ih[H : 2 * H] == 1).all() and (module.bias_hh[H : 2 * H] == 0).all()
    assert not (module.bias_ih[:H] == 1).any()
    assert repr(module) == f"LSTMCell({I}, {H}, forget_bias=1.0)"
    for wrong in ({"cell": "gru"}, {"cell": "lstm", "bias": False}):
        with pytest.raises(ValueError, match="forget_bias needs"):
            recurra.RecurrentCell(**{"input_size": I, "hidden_size": H, "forget_bias": 1.0, **wrong})


def test_what_is_no_cell_or_state_is_said() -> None:
    with pytest.raises(TypeError, match="cell must be"):
        recurra.RecurrentCell(3, I, H)
    with pytest.raises(ValueError, match="lstn"):
        recurra.RecurrentCell("lstn", I, H)
    with pytest.raises(ValueError, match="nonlinearity"):
        recurra.RNNCell(I, H, nonlinearity="sigmoid")
    x, h = torch.zeros(2, I), torch.zeros(2, H)
    with pytest.raises(RuntimeError, match="2 states, not of 1"):
        recurra.LSTMCell(I, H)(x, (h,))
    with pytest.raises(TypeError, match="must be a tensor, not tuple"):
        recurra.GRUCell(I, H)(x, (h,))


def test_representations() -> None:
    assert (
        repr(recurra.RecurrentCell("lstm_peephole", 3, 5, False))
        == "RecurrentCell(LSTM(peephole=True), 3, 5, bias=False)"
    )
    assert repr(recurra.RNNCell(3, 5, False, "relu")) == repr(nn.RNNCell(3, 5, False, "relu"))


def test_backends() -> None:
    x = torch.zeros(2, I)
    for kind, name in (("LSTMCell", "torch"), ("mgu", "reference")):
        module = recurra.RecurrentCell(kind, I, H) if kind == "mgu" else getattr(recurra, kind)(I, H)
        with record_backends() as ran:
            module(x)
            with recurra.backend("reference"):
                module(x)
        assert ran == [name, "reference"]
        with recurra.backend("cpu"), pytest.raises(RuntimeError, match="cannot run a single step"):
            module(x)


@pytest.mark.parametrize("name", ["GRUCell", "LSTMCell", "RNNCell", "RecurrentCell"])
def test_they_are_exported(name: str) -> None:
    assert getattr(recurra, name) is getattr(recurra.layers, name)
    assert name in dir(recurra) and name in recurra.layers.__all__
