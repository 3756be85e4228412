"""Which backend runs, and that all of them agree."""

import pickle

import pytest
import torch

import recurra
from recurra.kernels import cpu_engine, record_backends, reference
from recurra.kernels.dispatch import running_layers

T, B, I, H = 7, 3, 4, 5


needs_engine = pytest.mark.skipif(cpu_engine.engine() is None, reason="built without the engine")


@pytest.fixture
def without_engine(monkeypatch):
    """As an installation without compiled code runs, and every device but the CPU."""
    monkeypatch.setattr(cpu_engine, "engine", lambda: None)


def backends_of(layer, *args, **kwargs):
    with record_backends() as ran:
        layer(*args, **kwargs)
    return ran


@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_torch_runs_its_own_cells_as_one_stack(name, without_engine):
    layer = recurra.Recurrent(name, I, H, 3, bidirectional=True)
    assert backends_of(layer, torch.randn(T, B, I)) == ["torch"]
    assert backends_of(layer, torch.randn(T, B, I), lengths=[7, 2, 0]) == ["torch"]


@pytest.mark.parametrize("name", [name for name in recurra.cells.names() if name not in ("lstm", "gru")])
def test_the_reference_runs_the_others_layer_by_layer(name, without_engine):
    layer = recurra.Recurrent(name, I, H, 2)
    expected = ["torch"] if name.startswith("rnn") else ["reference", "reference"]
    assert backends_of(layer, torch.randn(T, B, I)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight_dropout": 0.5}, ["torch"]),
        ({"input_dropout": 0.5}, ["torch"]),
        ({"dropout": 0.5}, ["torch"]),
        ({"locked_dropout": 0.5}, ["torch", "torch"]),
        ({"residual": "residual"}, ["torch", "torch"]),
        ({"learn_initial_state": True}, ["torch"]),
        ({"zoneout": 0.5}, ["reference", "reference"]),
        ({"recurrent_dropout": 0.5}, ["reference", "reference"]),
    ],
)
def test_what_keeps_torch_from_running(options, expected, without_engine):
    layer = recurra.LSTM(I, H, 2, **options)
    assert backends_of(layer, torch.randn(T, B, I)) == expected


def test_sizes_by_layer_still_run_on_torch(without_engine):
    assert backends_of(recurra.GRU(I, [6, 5], 2), torch.randn(T, B, I)) == ["torch", "torch"]


def test_regularisation_does_not_slow_evaluation(without_engine):
    layer = recurra.LSTM(I, H, 2, recurrent_dropout=0.5).eval()
    assert backends_of(layer, torch.randn(T, B, I)) == ["torch"]


def test_all_states_of_a_cell_with_one_state_need_no_reference(without_engine):
    assert backends_of(recurra.GRU(I, H), torch.randn(T, B, I), return_all_states=True) == ["torch"]
    assert backends_of(recurra.LSTM(I, H), torch.randn(T, B, I), return_all_states=True) == ["reference"]


def test_a_backend_can_be_forced(without_engine):
    layer = recurra.LSTM(I, H)
    with recurra.backend("reference"):
        assert backends_of(layer, torch.randn(T, B, I)) == ["reference"]
    assert backends_of(layer, torch.randn(T, B, I)) == ["torch"]
    with recurra.backend("torch"), pytest.raises(RuntimeError, match="torch has no kernel"):
        recurra.Recurrent("mgu", I, H)(torch.randn(T, B, I))
    with pytest.raises(ValueError, match="there are cpu, torch, reference"), recurra.backend("cudnn"):
        pass


@needs_engine
@pytest.mark.parametrize("name", recurra.cells.names())
def test_the_engine_runs_every_cell_layer_by_layer(name):
    layer = recurra.Recurrent(name, I, H, 2, bidirectional=True)
    assert backends_of(layer, torch.randn(T, B, I)) == ["cpu", "cpu"]
    assert backends_of(layer, torch.randn(T, B, I), lengths=[7, 2, 0], return_all_states=True) == ["cpu", "cpu"]
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert backends_of(compiled, torch.randn(T, B, I)) == ["cpu", "cpu"]
    with recurra.backend("reference"):
        assert backends_of(layer, torch.randn(T, B, I)) == ["reference", "reference"]


@needs_engine
def test_what_the_engine_does_not_do_runs_elsewhere():
    layer = recurra.LSTM(I, H)
    projected = recurra.LSTM(I, H, proj_size=2, zoneout=0.1)
    assert backends_of(projected, torch.randn(T, B, I)) == ["reference"]
    with recurra.backend("cpu"), pytest.raises(RuntimeError, match="float32, float64 and bfloat16"):
        layer.half()(torch.randn(T, B, I).half())


@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, [7, 2, 0]])
def test_backends_agree(name, lengths):
    torch.manual_seed(0)
    layer = recurra.Recurrent(name, I, H, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)

    def results():
        output, hx = layer(x, lengths=lengths)
        final = hx if isinstance(hx, tuple) else (hx,)
        loss = output.square().sum() + sum(state.sin().sum() for state in final)
        return [output, *final, *torch.autograd.grad(loss, [x, *layer.parameters()])]

    default = results()
    for forced in ("reference", "torch"):
        with recurra.backend(forced):
            others = results()
        for one, other in zip(default, others, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_compiled_layer_runs_the_same_backends(without_engine):
    layer = recurra.LSTM(I, H, 2)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert backends_of(compiled, torch.randn(T, B, I)) == ["torch", "torch"]
    mine = torch.compile(recurra.Recurrent("mgu", I, H), fullgraph=True, backend="eager")
    assert backends_of(mine, torch.randn(T, B, I)) == ["reference"]


def test_operator_schema_fake_and_autograd_hold():
    from recurra.kernels.known_cells import key_of

    for name, states in (("lstm_peephole", 2), ("gru_cho", 1)):
        layer = recurra.Recurrent(name, I, H, bidirectional=True)
        weights = [w.detach().requires_grad_() for d in layer.layer_weights(0) for w in d.values()]
        initial = [torch.randn(2, B, H, requires_grad=True) for _ in range(states)]
        # As batch_first gives it: what comes out may not take over these strides.
        x = torch.randn(B, T, I).transpose(0, 1).requires_grad_()
        lengths = torch.tensor([7, 2, 0])
        arguments = (key_of(layer.cell), x, initial, weights, lengths, None, 0.0, [], True, True, False, None, [])
        tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(torch.ops.recurra.layer.default, arguments, test_utils=tests)


def test_a_layer_of_layers_trains_on_every_backend():
    """Each option that keeps the layers apart must still give gradients, on a GPU too, where torch needs to be told."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for options in ({"locked_dropout": 0.3}, {"residual": "residual"}, {"learn_initial_state": True}):
        layer = recurra.LSTM(H, H, 2, device=device, **options)
        output, _ = layer(torch.randn(T, B, H, device=device))
        output.sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_fgr"])
def test_all_states_compile_and_pickle(name):
    layer = recurra.Recurrent(name, I, H, 2)
    x = torch.randn(T, B, I)
    *_, expected = layer(x, return_all_states=True)
    *_, states = torch.compile(layer, fullgraph=True, backend="aot_eager")(x, return_all_states=True)
    kept = pickle.loads(pickle.dumps([tuple_.__class__(*(v.detach() for v in tuple_)) for tuple_ in expected]))
    for layer_states, compiled, unpickled in zip(expected, states, kept, strict=True):
        assert layer_states._fields == compiled._fields == unpickled._fields == tuple(layer.cell.states)
        for one, two, three in zip(layer_states, compiled, unpickled, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
            assert torch.equal(one, three)


@pytest.mark.parametrize("packed", [False, True])
def test_a_function_can_run_the_layers_of_a_stack_in_place_of_the_backends(packed):
    layers, x = recurra.LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3)
    given = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 3]) if packed else x
    wanted = layers(given)
    calls, seen = [], []

    def run(call):
        calls.append(call)
        return reference.run(call, lambda direction, t, states: seen.append((direction, t, tuple(states[0].shape))))

    with running_layers(run), record_backends() as backends:
        found = layers(given)
    assert [tuple(call.input.shape) for call in calls] == [(5, 2, 3), (5, 2, 8)]
    assert seen[0] == (0, 0, (2, 4)) and seen[5] == (1, 4, (2, 4)) and len(seen) == 20
    assert backends == []
    torch.testing.assert_close(found[0].data if packed else found[0], wanted[0].data if packed else wanted[0])
    torch.testing.assert_close(found[1], wanted[1])
    layers(given)
    assert len(calls) == 2
