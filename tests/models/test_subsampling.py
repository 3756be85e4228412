"""Subsampling against slices and torch's own convolution, alone, in company and piece by piece."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.models.subsampling import ConvolutionSubsampling, StackingSubsampling, Subsampling, subsampled


def made(kind: str, factor: int) -> Subsampling:
    torch.manual_seed(factor)
    return StackingSubsampling(3, factor) if kind == "stacking" else ConvolutionSubsampling(3, factor, 5)


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence(rows), torch.tensor([len(row) for row in rows])


def test_stacked_frames_are_slices() -> None:
    frames = torch.randn(7, 2, 3)
    found, lengths = made("stacking", 3)(frames, torch.tensor([7, 7]))
    assert lengths.tolist() == [3, 3]
    torch.testing.assert_close(found[1, 1], torch.cat([frames[3, 1], frames[4, 1], frames[5, 1]]), rtol=0, atol=0)
    torch.testing.assert_close(found[2, 0], torch.cat([frames[6, 0], torch.zeros(6)]), rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 7, 8])
def test_convolutions_are_those_of_torch(steps: int) -> None:
    layer = made("convolution", 4)
    assert isinstance(layer, ConvolutionSubsampling)
    frames = torch.randn(steps, 2, 3)
    expected = frames.permute(1, 2, 0)
    for each in layer.layers:
        assert isinstance(each, nn.Linear)
        weight = each.weight.view(each.out_features, 3, -1).transpose(1, 2)
        expected = torch.relu(F.conv1d(expected, weight, each.bias, stride=2, padding=1))
    found, lengths = layer(frames, torch.full((2,), steps))
    assert lengths.tolist() == [subsampled(steps, 4)] * 2 == [len(found)] * 2
    torch.testing.assert_close(found, expected.permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["stacking", "convolution"])
def test_company_changes_nothing(kind: str) -> None:
    layer = made(kind, 4)
    rows = [torch.randn(steps, 3) for steps in (9, 1, 4, 6)]
    found, lengths = layer(*padded(rows))
    for place, row in enumerate(rows):
        alone, length = layer(row[:, None], torch.tensor([len(row)]))
        assert length.tolist() == [lengths[place]]
        torch.testing.assert_close(found[: lengths[place], place], alone[:, 0])
        assert not found[lengths[place] :, place].any()


@pytest.mark.parametrize("kind", ["stacking", "convolution"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 13])
def test_a_stream_gives_the_same_frames(kind: str, steps: int, piece: int) -> None:
    layer = made(kind, 4)
    frames = torch.randn(steps, 3)
    whole, _ = layer(frames[:, None], torch.tensor([steps]))
    streams = [layer.stream(), layer.stream()]
    cut = [streams[0].accept(part) for part in frames.split(piece)] + [streams[0].finish()]
    single = [streams[1].accept(frames), streams[1].finish()]
    found = torch.cat([part for part in cut if len(part)])
    torch.testing.assert_close(found, whole[:, 0])
    # However the frames are cut, no bit differs.
    assert torch.equal(found, torch.cat([part for part in single if len(part)]))


def test_a_factor_that_strides_of_two_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two above 1, not by 3"):
        ConvolutionSubsampling(3, 3, 5)
