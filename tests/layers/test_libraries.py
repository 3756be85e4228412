"""What docs/libraries.md says of the libraries that every installation has: torch's own tools and accelerate."""

from __future__ import annotations

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn
from torch.nn.utils import prune

import recurra

from .builders import assert_close, build

NAMES = ["lstm", "gru", "gru_cho"]
I, H = 4, 5


class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(H, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][-1])


@pytest.fixture(params=NAMES)
def net(request: pytest.FixtureRequest) -> Net:
    return Net(build(request.param, I, H))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, I, dtype=torch.float64)


def test_offloaded_weights(net: Net, x: Tensor) -> None:
    expected = net(x).detach()
    offloaded = cpu_offload(net, execution_device=torch.device("cpu"))
    assert offloaded.layer.weight_hh_l0.is_meta
    assert torch.equal(offloaded(x), expected)


def test_pruned_weights(net: Net, x: Tensor) -> None:
    prune.l1_unstructured(net.layer, "weight_hh_l0", 0.5)
    pruned = net(x)
    pruned.sum().backward()
    assert (net.layer.weight_hh_l0_orig.grad[net.layer.weight_hh_l0_mask == 0] == 0).all()
    prune.remove(net.layer, "weight_hh_l0")
    assert 0.4 < (net.layer.weight_hh_l0 == 0).double().mean() < 0.6
    assert_close(net(x), pruned)


def test_dynamic_quantization_leaves_a_layer_alone(net: Net, x: Tensor) -> None:
    net = net.float().eval()
    with pytest.warns(UserWarning, match="quanti"):
        quantized = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM, nn.GRU, nn.Linear, type(net.layer)})
    assert type(quantized.layer) is type(net.layer) and type(quantized.out) is not nn.Linear
    assert torch.equal(quantized.layer(x.float())[0], net.layer(x.float())[0])


def test_symbolic_trace_takes_a_layer_as_one_call(net: Net, x: Tensor) -> None:
    graph = torch.fx.symbolic_trace(net)
    assert "call_module" in {node.op for node in graph.graph.nodes if node.target == "layer"}
    assert torch.equal(graph(x), net(x))


def test_symbolic_trace_takes_a_cell_as_one_call() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = recurra.LSTMCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            h, c = self.cell(x)
            return self.cell(x, (h, c))[0]

    steps, x = Steps(), torch.randn(2, 3)
    assert torch.equal(torch.fx.symbolic_trace(steps)(x), steps(x))


def test_no_layer_is_torchs() -> None:
    assert not isinstance(recurra.LSTM(I, H), nn.RNNBase) and isinstance(recurra.LSTM(I, H), recurra.Recurrent)
    cell = recurra.LSTMCell(I, H)
    assert not isinstance(cell, nn.RNNCellBase) and isinstance(cell, recurra.RecurrentCell)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_weights_go_to_torchs_layer_for_onnx(kind: str) -> None:
    layer, theirs = getattr(recurra, kind)(I, H, 2), getattr(nn, kind)(I, H, 2)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(6, 3, I)
    assert_close(theirs(x)[0], layer(x)[0], 1e-5)
