"""Transcripts as files for other programs: CTM for scoring tools, SRT for players of films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .answers import Transcript, Word

__all__ = ["FORMATS", "ctm_lines", "srt_lines"]

FORMATS = ("text", "ctm", "srt")

_PAUSE = 0.8
"""Seconds without a word after which a new subtitle begins."""
_LONGEST = 6.0
_CHARACTERS = 80


def ctm_lines(transcript: Transcript) -> Iterator[str]:
    """A line for each word, as NIST's scoring tools read them: name, channel, start, duration, word, confidence.

    Times are seconds from the beginning of the utterance.
    """
    # A space would end the field.
    name = "_".join(transcript.id.split()) or "utterance"
    for word in transcript.words:
        # A word without marks of its parts can have spaces of its own.
        text = "_".join(word.text.split())
        yield f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {text} {word.confidence:.4f}"


def srt_lines(transcripts: Sequence[Transcript]) -> Iterator[str]:
    """The subtitles of one recording (SubRip): of each a number, its time, its text, and an empty line.

    Args:
        transcripts: of the recording's utterances, in the order of their starts; times are those of the recording.
    """
    number = 0
    for transcript in transcripts:
        for words in _subtitles(transcript.words):
            number += 1
            start, end = transcript.start + words[0].start, transcript.start + words[-1].end
            yield str(number)
            yield f"{_time(start)} --> {_time(end)}"
            yield " ".join(word.text for word in words)
            yield ""


def _subtitles(words: Sequence[Word]) -> Iterator[list[Word]]:
    held: list[Word] = []
    for word in words:
        if held and (
            word.start - held[-1].end > _PAUSE
            or word.end - held[0].start > _LONGEST
            or sum(len(each.text) + 1 for each in held) + len(word.text) > _CHARACTERS
        ):
            yield held
            held = []
        held.append(word)
    if held:
        yield held


def _time(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    return (
        f"{thousandths // 3_600_000:02}:{thousandths // 60_000 % 60:02}:{thousandths // 1000 % 60:02},"
        f"{thousandths % 1000:03}"
    )
