"""Reported faults about arguments of the wrong shape or type: of the operator, and weights of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import recurra

from ..builders import build

__all__ = ["REPORTS"]

REPORTS: list[Callable[[], None]] = []


def report(function: Callable[[], None]) -> Callable[[], None]:
    REPORTS.append(function)
    return function


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def schema_call(**changes: Any) -> Sequence[Tensor]:
    arguments: dict[str, Any] = {
        "states": [noise(1, 2, 4), noise(1, 2, 4)],
        "weights": [noise(16, 3), noise(16, 4), noise(16), noise(16)],
        "input": noise(5, 2, 3),
        "lengths": None,
        "recurrent_mask": None,
        "zoneout": 0.0,
        "zoneout_masks": [],
        "all_states": False,
        "bias": True,
        "projection": False,
        "resets": None,
        "restart": [],
    }
    arguments |= changes
    if "cell" not in arguments:
        arguments["cell"] = captured_cell()
    return torch.ops.recurra.layer(**arguments)


def captured_cell() -> str:
    """How the operator names a cell, read off a compiled call."""
    names: list[str] = []

    def look(graph: Any, example: Any) -> Any:
        for node in graph.graph.nodes:
            names.extend(a for a in (*node.args, *node.kwargs.values()) if isinstance(a, str) and "LSTM" in a)
        return graph.forward

    torch._dynamo.reset()
    layer = build("lstm", 3, 4, 1)
    with torch.no_grad():
        torch.compile(layer, backend=look, fullgraph=True)(noise(5, 2, 3))
    return names[0]


@report
def wrong_arguments_of_the_operator() -> None:
    """Each is an error in a sentence; none reads beyond a tensor."""
    cell = captured_cell()
    schema_call(cell=cell)
    h, w = noise(1, 2, 4), [noise(16, 3), noise(16, 4), noise(16), noise(16)]
    wrong: list[dict[str, Any]] = [
        {"states": []},
        {"states": [h]},
        {"states": [h, h, h]},
        {"states": [h, noise(1, 2, 5)]},
        {"states": [h, noise(1, 3, 4)]},
        {"states": [noise(2, 4), noise(2, 4)]},
        {"states": [h.float(), h]},
        {"states": [noise(3, 2, 4), noise(3, 2, 4)], "weights": w * 3},
        {"weights": []},
        {"weights": w[:1]},
        {"weights": w[:3]},
        {"weights": w + w[:1]},
        {"weights": [noise(16, 2), *w[1:]]},
        {"weights": [w[0], noise(16, 5), *w[2:]]},
        {"weights": [w[0], noise(12, 4), *w[2:]]},
        {"weights": [*w[:3], noise(4)]},
        {"weights": [*w[:3], noise(16).float()]},
        {"weights": [w[0].long(), *w[1:]]},
        {"input": noise(5, 3)},
        {"input": noise(5)},
        {"input": noise(5, 7, 3)},
        {"input": noise(5, 2, 3).float()},
        {"input": torch.ones(5, 2, 3, dtype=torch.long)},
        {"lengths": torch.tensor([5])},
        {"lengths": torch.tensor([5, 99])},
        {"lengths": torch.tensor([5, -1])},
        {"lengths": torch.tensor([5.0, 1.0])},
        {"recurrent_mask": noise(1, 2, 9)},
        {"recurrent_mask": noise(3)},
        {"zoneout": 0.5, "zoneout_masks": [noise(5, 2, 4)]},
        {"zoneout": 0.5, "zoneout_masks": [noise(4, 2, 4), noise(4, 2, 4)]},
        {"zoneout": 2.0},
        {"bias": False},
        {"projection": True},
        {"resets": torch.zeros(5, 2, dtype=torch.bool)},
        {"resets": torch.zeros(5, 2), "restart": [noise(1, 1, 4), noise(1, 1, 4)]},
        {"resets": torch.zeros(2, 5, dtype=torch.bool), "restart": [noise(1, 1, 4), noise(1, 1, 4)]},
        {"resets": torch.zeros(5, 2, dtype=torch.bool), "restart": [noise(1, 2, 4), noise(1, 2, 4)]},
        {"cell": "no.such.module:Cell"},
        {"cell": ""},
    ]
    from .matrix import is_refusal

    faults = []
    for change in wrong:
        words = {
            key: value if isinstance(value, (str, float, bool)) else describe(value) for key, value in change.items()
        }
        try:
            schema_call(**{"cell": cell} | change)
        except Exception as error:
            if not is_refusal(error):
                faults.append(f"{words}: {type(error).__name__}: {str(error)[:200]}")
        else:
            faults.append(f"{words}: no error")
    assert not faults, "\n".join(faults)


def describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    return [describe(item) for item in value]


def changed_weight(value: Tensor) -> nn.Module:
    layer = build("lstm", 3, 4, 1, dtype=torch.float32)
    layer(noise(4, 2, 3, dtype=torch.float32))
    layer.weight_hh_l0 = nn.Parameter(value)
    return layer


@report
def a_weight_of_another_shape() -> None:
    for shape in ((16, 5), (12, 4), (4, 16), (16,), (64, 1)):
        try:
            changed_weight(noise(*shape, dtype=torch.float32))(noise(4, 2, 3, dtype=torch.float32))
        except (RuntimeError, ValueError) as error:
            assert "weight_hh" in str(error) or str(shape) in str(error), f"{shape}: {error}"
        else:
            raise AssertionError(f"a weight_hh_l0 of shape {shape} gave numbers")


@report
def a_stream_of_a_weight_of_another_shape() -> None:
    for shape in ((16, 5), (12, 4), (4, 16), (16,), (64, 1)):
        try:
            changed_weight(noise(*shape, dtype=torch.float32)).stream(2).step(noise(2, 3, dtype=torch.float32))
        except (RuntimeError, ValueError) as error:
            assert "weight_hh" in str(error) or str(shape) in str(error), f"{shape}: {error}"
        else:
            raise AssertionError(f"a weight_hh_l0 of shape {shape} gave numbers")


def mixed_layer() -> tuple[nn.Module, Tensor, Tensor]:
    """One weight in bfloat16, and what the numbers are in float32."""
    weight = noise(16, 4, dtype=torch.bfloat16) / 4
    x = noise(4, 2, 3, dtype=torch.float32)
    with recurra.backend("reference"):
        right = changed_weight(weight.float())(x)[0].detach()
    return changed_weight(weight), x, right


@report
def one_bfloat16_weight() -> None:
    layer, x, right = mixed_layer()
    output = layer(x)[0]
    assert (output.float() - right).abs().max() < 0.05  # bfloat16's rounding of numbers near one, some dozens of times
    output.float().sum().backward()


@report
def one_bfloat16_weight_under_autocast() -> None:
    layer, x, right = mixed_layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)[0]
    assert (output.float() - right).abs().max() < 0.05
    output.float().sum().backward()
    assert all(value.grad.dtype == value.dtype for value in layer.parameters())


@report
def a_stream_of_one_bfloat16_weight() -> None:
    layer, x, right = mixed_layer()
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            steps = layer.stream(2)
            output = torch.stack([steps.step(value) for value in x])
        assert (output.float() - right).abs().max() < 0.05
