"""Bidirectional layers with a bounded look-ahead: against torch's layers, chunk by chunk, and as a stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from recurra import Recurrent
from recurra.models.latency_controlled import LatencyControlled


def made(chunk: int, look_ahead: int, num_layers: int = 2, cell: str = "lstm") -> LatencyControlled:
    torch.manual_seed(1)
    return LatencyControlled(lambda size: Recurrent(cell, size, 4), 3, 4, num_layers, chunk, look_ahead).eval()


def by_definition(layers: LatencyControlled, row: Tensor) -> Tensor:
    """Chunk after chunk, each layer's backward direction begun anew at the end of what is seen."""
    size, ahead = layers.chunk, layers.look_ahead
    states = [None] * len(layers.onward)
    found = []
    for start in range(0, len(row), size):
        seen = row[start : start + size + ahead, None]
        count = min(size, len(seen))
        for number, (onward, back) in enumerate(zip(layers.onward, layers.back, strict=True)):
            first, after = onward(seen[:count], states[number])
            states[number] = after
            rest = onward(seen[count:], after)[0] if len(seen) > count else first[:0]
            behind = back(seen.flip(0))[0].flip(0)
            seen = torch.cat([torch.cat([first, rest]), behind], dim=2)
        found.append(seen[:count, 0])
    return torch.cat(found)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("chunk", "look_ahead"), [(1, 0), (3, 2), (4, 6), (5, 0), (20, 3)])
def test_it_is_what_its_definition_says(cell: str, chunk: int, look_ahead: int) -> None:
    layers = made(chunk, look_ahead, 3, cell)
    rows = [torch.randn(steps, 3) for steps in (13, 1, 4, 9)]
    lengths = torch.tensor([len(row) for row in rows])
    found, _ = layers(nn.utils.rnn.pad_sequence(rows), lengths=lengths)
    for place, row in enumerate(rows):
        torch.testing.assert_close(found[: len(row), place], by_definition(layers, row), rtol=1e-5, atol=1e-6)
        assert not found[len(row) :, place].any()


def test_a_chunk_that_holds_all_is_a_bidirectional_layer() -> None:
    layers = made(12, 0, 1)
    torch_layer = nn.LSTM(3, 4, bidirectional=True)
    for name, parameter in torch_layer.named_parameters():
        side = layers.back if name.endswith("_reverse") else layers.onward
        parameter.data.copy_(side[0].get_parameter(name.removesuffix("_reverse")))
    input = torch.randn(12, 2, 3)
    found, _ = layers(input, lengths=torch.tensor([12, 12]))
    torch.testing.assert_close(found, torch_layer(input)[0], rtol=1e-5, atol=1e-6)


def test_nothing_beyond_the_look_ahead_is_seen() -> None:
    layers = made(4, 3, 3)
    input = torch.randn(20, 1, 3)
    other = input.clone()
    # The second chunk ends with step 8 and sees 3 more.
    other[11:] += 1.0
    lengths = torch.tensor([20])
    one, two = layers(input, lengths=lengths)[0], layers(other, lengths=lengths)[0]
    torch.testing.assert_close(one[:8], two[:8], rtol=0, atol=0)
    assert (one[8:11] != two[8:11]).all(dim=2).all()


@pytest.mark.parametrize("piece", [1, 2, 5, 13, 100])
@pytest.mark.parametrize(("chunk", "look_ahead"), [(1, 0), (3, 2), (4, 6)])
def test_a_stream_gives_the_same(chunk: int, look_ahead: int, piece: int) -> None:
    layers = made(chunk, look_ahead)
    row = torch.randn(23, 3)
    whole, _ = layers(row[:, None], lengths=torch.tensor([len(row)]))
    streams = layers.stream(), layers.stream()
    cut = [streams[0].accept(part) for part in row.split(piece)] + [streams[0].finish()]
    single = [streams[1].accept(row), streams[1].finish()]
    found = torch.cat([part for part in cut if len(part)])
    torch.testing.assert_close(found, whole[:, 0], rtol=1e-5, atol=1e-6)
    assert torch.equal(found, torch.cat([part for part in single if len(part)]))


def test_every_parameter_gets_a_gradient() -> None:
    layers = made(3, 2).train()
    layers(torch.randn(7, 2, 3), lengths=torch.tensor([7, 5]))[0].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layers.parameters())


def test_a_chunk_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        made(0, 2)
