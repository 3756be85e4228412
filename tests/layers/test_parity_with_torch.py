"""recurra.LSTM, GRU and RNN stand in for torch.nn's: same weights, same bits, same errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import recurra
from recurra.kernels import cpu_engine

from .builders import assert_close, states_of

KINDS = ["LSTM", "GRU", "RNN"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 3, "bias": False, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 0.4},
    {"num_layers": 3, "dropout": 0.4, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 1.0},
]
CASES = (
    [(kind, options) for kind in KINDS for options in OPTIONS]
    + [("RNN", {"nonlinearity": "relu", **options}) for options in OPTIONS]
    + [("LSTM", {"proj_size": 2, **options}) for options in OPTIONS]
)
IDS = [f"{kind}-{'-'.join(f'{k}={v}' for k, v in options.items())}" for kind, options in CASES]
I, H = 3, 5


def pair(kind: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(I, H, **options)
    torch.manual_seed(0)
    return theirs, getattr(recurra, kind)(I, H, **options)


def make_input(batched: bool, batch_first: bool, **to: Any) -> Tensor:
    shape = ((4, 7, I) if batch_first else (7, 4, I)) if batched else (7, I)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(**to)


def make_hx(layer: nn.Module, batch: tuple[int, ...], **to: Any) -> Any:
    generator = torch.Generator().manual_seed(6)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [getattr(layer, "proj_size", 0) or H, H] if isinstance(layer, nn.LSTM) else [H]
    states = [torch.randn(rows, *batch, size, generator=generator, dtype=torch.float64).to(**to) for size in sizes]
    return tuple(states) if len(states) > 1 else states[0]


def run(layer: nn.Module, x: Any, hx: Any) -> dict[str, Tensor]:
    """Outputs, final states and the gradients of everything, for one fixed random weighting of the outputs."""
    layer.zero_grad()
    states = () if hx is None else tuple(state.clone().requires_grad_() for state in states_of(hx))
    packed = isinstance(x, PackedSequence)
    data = (x.data if packed else x).clone().requires_grad_()
    call_input = PackedSequence(data, *x[1:]) if packed else data
    torch.manual_seed(11)  # dropout draws from the global generator
    output, last = layer(call_input, (states if len(states) > 1 else states[0]) if states else None)
    results = {"output": output.data if packed else output}
    results |= {f"last{index}": state for index, state in enumerate(states_of(last))}
    generator = torch.Generator().manual_seed(12)
    loss = sum(
        (value * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)).sum()
        for value in list(results.values())
    )
    loss.backward()
    results |= {f"grad of state {index}": state.grad for index, state in enumerate(states)}
    results |= {f"grad of {name}": parameter.grad for name, parameter in layer.named_parameters()}
    return {key: value.detach() for key, value in (results | {"grad of input": data.grad}).items()}


@pytest.fixture(params=["torch's kernels", "default"])
def same_bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, device: torch.device) -> bool:
    """Whether torch's own kernels run, so that float32 agrees bit for bit; else what runs by default."""
    if request.param == "default":
        return device.type != "cpu" or cpu_engine.engine() is None
    monkeypatch.setattr(cpu_engine, "engine", lambda: None)
    return True


def assert_parity(
    theirs: nn.Module, ours: nn.Module, x: Any, hx: Any, dtype: torch.dtype, same_bits: bool = True
) -> None:
    expected, actual = run(theirs, x, hx), run(ours, x, hx)
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype, key
        if dtype == torch.float32 and same_bits:
            assert torch.equal(actual[key], value), key
        elif dtype == torch.float32:
            torch.testing.assert_close(actual[key], value, msg=lambda text, key=key: f"{key}: {text}")
        else:
            assert_close(actual[key], value)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_same_seed_gives_the_same_weights_and_state_dict(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = pair(kind, **options)
    expected, actual = theirs.state_dict(), ours.state_dict()
    assert list(actual) == list(expected)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    torch.manual_seed(1)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    torch.manual_seed(2)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_same_results_and_gradients(
    kind: str, options: dict[str, Any], training: bool, dtype: torch.dtype, device: torch.device, same_bits: bool
) -> None:
    theirs, ours = pair(kind, **options, dtype=dtype, device=device)
    theirs.train(training), ours.train(training)
    x = make_input(True, options.get("batch_first", False), dtype=dtype, device=device)
    assert_parity(theirs, ours, x, make_hx(theirs, (4,), dtype=dtype, device=device), dtype, same_bits)
    assert_parity(theirs, ours, x, None, dtype, same_bits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_unbatched_input(
    kind: str, options: dict[str, Any], dtype: torch.dtype, device: torch.device, same_bits: bool
) -> None:
    theirs, ours = pair(kind, **options, dtype=dtype, device=device)
    x = make_input(False, False, dtype=dtype, device=device)
    assert_parity(theirs, ours, x, make_hx(theirs, (), dtype=dtype, device=device), dtype, same_bits)
    assert_parity(theirs, ours, x, None, dtype, same_bits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_packed_sequences(
    kind: str, options: dict[str, Any], dtype: torch.dtype, device: torch.device, same_bits: bool
) -> None:
    theirs, ours = pair(kind, **options, dtype=dtype, device=device)
    if 0 < options.get("dropout", 0) < 1 and not same_bits:
        theirs.eval(), ours.eval()  # only torch's own kernels draw their masks in torch's order
    batch_first = options.get("batch_first", False)
    x = make_input(True, batch_first, dtype=dtype, device=device)
    hx = make_hx(theirs, (4,), dtype=dtype, device=device)
    for lengths, enforce_sorted in (([3, 7, 1, 5], False), ([7, 5, 5, 2], True)):
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted)
        assert_parity(theirs, ours, packed, hx, dtype, same_bits)
        assert_parity(theirs, ours, packed, None, dtype, same_bits)
        expected, actual = theirs.eval()(packed)[0], ours.eval()(packed)[0]
        assert isinstance(actual, PackedSequence)
        assert torch.equal(actual.batch_sizes, expected.batch_sizes)
        for indices in ("sorted_indices", "unsorted_indices"):
            one, other = getattr(actual, indices), getattr(expected, indices)
            assert (one is None and other is None) or torch.equal(one, other)


def test_torch_kernels_ran(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_engine, "engine", lambda: None)
    for kind, options in CASES:
        _, ours = pair(kind, **options, device=device)
        with recurra.kernels.record_backends() as names:
            ours(make_input(True, options.get("batch_first", False), dtype=torch.float32, device=device))
        assert set(names) == {"torch"}


@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_forced_reference_agrees(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = pair(kind, **options, dtype=torch.float64)
    if 0 < options.get("dropout", 0) < 1:
        theirs.eval(), ours.eval()  # only torch's own kernel need draw its masks in torch's order
    x = make_input(True, options.get("batch_first", False))
    with recurra.backend("reference"), recurra.kernels.record_backends() as names:
        assert_parity(theirs, ours, x, make_hx(theirs, (4,)), torch.float64)
    assert set(names) == {"reference"}


@pytest.mark.parametrize("kind", KINDS)
def test_drop_in_surface(kind: str) -> None:
    theirs, ours = pair(kind, num_layers=2, bidirectional=True)
    for attribute in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    ours.flatten_parameters()
    assert [[w.shape for w in ws] for ws in ours.all_weights] == [[w.shape for w in ws] for ws in theirs.all_weights]


def test_positional_arguments() -> None:
    for one, other in (
        (recurra.LSTM(3, 4, 2, False, True, 0.0, True, 2), nn.LSTM(3, 4, 2, False, True, 0.0, True, 2)),
        (recurra.GRU(3, 4, 2, False, True, 0.0, True), nn.GRU(3, 4, 2, False, True, 0.0, True)),
        (recurra.RNN(3, 4, 2, "relu", False, True, 0.0, True), nn.RNN(3, 4, 2, "relu", False, True, 0.0, True)),
    ):
        shapes = {name: value.shape for name, value in one.state_dict().items()}
        assert shapes == {name: value.shape for name, value in other.state_dict().items()}
        assert one.batch_first is True


def error_of(call: Callable[[], Any]) -> type[BaseException] | None:
    try:
        call()
    except Exception as error:
        return type(error)
    return None


BAD_ARGUMENTS: list[dict[str, Any]] = [
    {"input_size": 0}, {"input_size": -1}, {"input_size": 3.0}, {"hidden_size": 0}, {"hidden_size": -4},
    {"hidden_size": 4.0}, {"hidden_size": "4"}, {"num_layers": 0}, {"num_layers": -1}, {"num_layers": 2.0},
    {"num_layers": "2"}, {"dropout": 2}, {"dropout": -0.1}, {"dropout": True}, {"dropout": "a"}, {"bias": 1},
    {"batch_first": 0}, {"proj_size": 5}, {"proj_size": 6}, {"proj_size": -1}, {"unknown": 1}, {"dtype": torch.int64},
    {"device": "nowhere"}, {"nonlinearity": "gelu"},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [*BAD_ARGUMENTS, {"proj_size": 2}], ids=str)
def test_bad_constructor_arguments_raise_as_torch_does(kind: str, bad: dict[str, Any]) -> None:
    arguments = {"input_size": I, "hidden_size": H, **bad}
    expected = error_of(lambda: getattr(nn, kind)(**arguments))
    assert error_of(lambda: getattr(recurra, kind)(**arguments)) is expected
    assert expected is not None or (kind, bad) == ("LSTM", {"proj_size": 2})


def bad_calls(kind: str) -> dict[str, tuple[Any, Any]]:
    def hx(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
        state = torch.zeros(shape, dtype=dtype)
        return (state, state) if kind == "LSTM" else state

    x = torch.zeros(6, 2, I)
    return {
        "one dimension": (torch.zeros(I), None),
        "four dimensions": (torch.zeros(2, 6, 2, I), None),
        "feature size": (torch.zeros(6, 2, I + 1), None),
        "unbatched feature size": (torch.zeros(6, I + 1), None),
        "float64 input": (x.double(), None),
        "integer input": (x.long(), None),
        "layers of hx": (x, hx(2, 2, H)),
        "batch of hx": (x, hx(1, 3, H)),
        "width of hx": (x, hx(1, 2, H + 1)),
        "hx of one sequence for a batch": (x, hx(1, H)),
        "hx of a batch for one sequence": (torch.zeros(6, I), hx(1, 1, H)),
        "packed feature size": (pack_padded_sequence(torch.zeros(6, 2, I + 1), torch.tensor([6, 3])), None),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", list(bad_calls("LSTM")))
def test_bad_forward_calls_raise_as_torch_does(kind: str, case: str) -> None:
    theirs, ours = pair(kind)
    x, hx = bad_calls(kind)[case]
    expected = error_of(lambda: theirs(x, hx))
    assert expected is not None
    assert error_of(lambda: ours(x, hx)) is expected


def test_lstm_refuses_a_cell_state_of_the_wrong_size_as_torch_does() -> None:
    theirs, ours = pair("LSTM", proj_size=2)
    x, good, bad = torch.zeros(6, 2, I), torch.zeros(1, 2, 2), torch.zeros(1, 2, H + 1)
    expected = error_of(lambda: theirs(x, (good, bad)))
    assert expected is not None
    assert error_of(lambda: ours(x, (good, bad))) is expected
