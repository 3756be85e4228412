"""Utterances as features or as samples, with everything that is wrong with their recordings said before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..shown import tell
from .audio import AudioReader, Recording
from .fbank import Fbank
from .frame_store import FrameExample
from .utterances import Utterance

__all__ = ["featurised", "sampled"]

_SHOWN = 10
"""Bad recordings that an error names."""
_CLIPPED = 0.01
"""Share of samples at full scale from which a recording is told of as clipped."""


def featurised(
    utterances: Iterable[Utterance], reader: AudioReader, fbank: Fbank, *, skip: bool = False
) -> Iterator[FrameExample]:
    """The features of each utterance: frames of (frames, bins) float32.

    All recordings are read before anything is said of bad ones, so that all of them are known at once. A recording is
    bad if `AudioReader.read` refuses it, if it is digital silence although something is said in it, or if it is too
    short for a frame. Clipped recordings are used, and told of.

    Args:
        utterances: with their texts; None counts as nothing said.
        reader: at the rate of the features.
        fbank: computes the features.
        skip: whether bad recordings are left out and told of.

    Raises:
        DataError: at the end, if there were bad recordings and `skip` is false; the first ones are named.
        ValueError: if the reader has another rate than the features.
    """
    if reader.rate != fbank.settings.rate:
        raise ValueError(f"audio of {reader.rate} Hz is read for features of audio of {fbank.settings.rate} Hz")
    return _examples(utterances, reader, lambda recording: fbank(recording.samples), skip)


def sampled(utterances: Iterable[Utterance], reader: AudioReader, *, skip: bool = False) -> Iterator[FrameExample]:
    """The samples of each utterance: frames of (samples, 1) float32; arguments and errors as for `featurised`."""
    return _examples(utterances, reader, lambda recording: recording.samples[:, None], skip)


def _examples(
    utterances: Iterable[Utterance],
    reader: AudioReader,
    made: Callable[[Recording], npt.NDArray[np.float32]],
    skip: bool,
) -> Iterator[FrameExample]:
    count = 0
    problems: list[str] = []
    clipped: dict[str, float] = {}
    for utterance in utterances:
        count += 1
        try:
            recording = reader.read(utterance.audio, utterance.start, utterance.end, utterance.where)
            name = f"{utterance.audio} ({utterance.where})"
            if recording.is_silent and utterance.text:
                raise DataError(
                    f"{name}: is digital silence, and {utterance.text!r} is to be heard in it; leave it out."
                )
            frames = made(recording)
            if not len(frames):
                raise DataError(f"{name}: has {recording.seconds:.4f} s, too little for one frame; leave it out.")
        except DataError as error:
            problems.append(str(error))
            continue
        if recording.clipped > _CLIPPED:
            clipped[name] = recording.clipped
        yield FrameExample(
            utterance.id, frames, utterance.text or "", utterance.speaker or "", utterance.file, utterance.line
        )
    if clipped:
        worst = max(clipped, key=clipped.__getitem__)
        tell(
            f"recurra: {len(clipped):,} of {count:,} recordings have more than {_CLIPPED:.0%} of their samples at full "
            f"scale, the most {worst} ({clipped[worst]:.1%}); they were recorded too loud."
        )
    if problems:
        first = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        if not skip:
            raise DataError(
                f"{len(problems):,} of {count:,} recordings cannot be used; mend them, or have bad ones left "
                f"out:\n{first}{more}"
            )
        tell(f"recurra: {len(problems):,} of {count:,} recordings cannot be used and are left out:\n{first}{more}")
