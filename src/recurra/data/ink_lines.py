"""Lines of writing joined from single characters, for training on lines where only characters were collected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, DataError
from .draws import draws
from .ink import Drawing, Stroke, Strokes, bounds

__all__ = ["InkLine", "LineMaker", "LineSettings"]

_PAUSE = 300.0
"""Milliseconds from the end of a character to the start of the next."""


class InkLine(NamedTuple):
    """A line of writing.

    Attributes:
        strokes: (points, 3) each, with characters about 1 high and y downwards from the top of a character of full
            size.
        text: what it says, the labels of its characters one after another.
        characters: (strokes,) the place in `sources` of the character that each stroke belongs to.
        sources: of each character the id of the drawing that it was taken from.
        labels: of each character.
        writer: who wrote all of its characters; None if characters of several writers are mixed.
    """

    strokes: Strokes
    text: str
    characters: tuple[int, ...]
    sources: tuple[str, ...]
    labels: tuple[str, ...]
    writer: str | None


@dataclass(frozen=True)
class LineSettings:
    """How characters are put side by side. A character's size is the larger of its width and height.

    Attributes:
        shortest, longest: characters of a line, each number as likely.
        gap, gap_spread: the mean and the standard deviation of the gaps between characters, in sizes; gaps are at least
            `least_gap`.
        least_gap: in sizes; below 0, characters may overlap.
        baseline: standard deviation by which characters stand too high or too low, in sizes.
        size: standard deviation of the logarithm of their sizes.
        one_writer: whether all characters of a line are written by one person.

    Raises:
        ConfigError: if a value cannot be used.
    """

    shortest: int = 3
    longest: int = 7
    gap: float = 0.25
    gap_spread: float = 0.1
    least_gap: float = 0.05
    baseline: float = 0.05
    size: float = 0.1
    one_writer: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest <= 1000:
            raise ConfigError(
                f"Lines of {self.shortest} to {self.longest} characters cannot be made; use from 1 to 1,000, the "
                "shortest first."
            )
        for name, least in (("gap", -1.0), ("gap_spread", 0.0), ("least_gap", -1.0), ("baseline", 0.0), ("size", 0.0)):
            if not least <= getattr(self, name) <= 10:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from {least:g} to 10.")


class LineMaker:
    """Makes lines of drawings of single characters; the same seed and number give the same line.

    Args:
        drawings: of single characters, with labels.
        settings: of the lines.
        seed: 0 or more.
        letters: what each label is written as in the text of a line; None: as itself. Drawings with other labels are
            left out.

    Raises:
        DataError: if no drawing is left.
    """

    def __init__(
        self,
        drawings: Iterable[Drawing],
        settings: LineSettings | None = None,
        *,
        seed: int = 0,
        letters: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings or LineSettings()
        self._seed = seed
        groups: dict[str | None, dict[str, list[Drawing]]] = {}
        for drawing in drawings:
            label = drawing.label if letters is None else letters.get(drawing.label or "")
            if label is not None:
                writer = drawing.writer if self.settings.one_writer else None
                groups.setdefault(writer, {}).setdefault(label, []).append(drawing)
        if not groups:
            raise DataError("There is no drawing of a character to join lines of; give others, or other letters.")
        # The order of the files must not matter.
        self._groups = [
            (writer, sorted((label, sorted(each, key=lambda d: (d.id, d.where))) for label, each in labels.items()))
            for writer, labels in sorted(groups.items(), key=lambda item: item[0] or "")
        ]

    def line(self, number: int, epoch: int = 0, text: Sequence[str] | None = None) -> InkLine:
        """A line of its own for each number and epoch.

        Args:
            number, epoch: 0 or more.
            text: the characters that it has; None: they are drawn, each as likely.

        Raises:
            DataError: if a character of the text was never drawn by the writer who was chosen.
        """
        random = draws(self._seed, epoch, number, "line of ink")
        writer, alphabet = self._groups[int(random.integers(len(self._groups)))]
        if text is None:
            count = int(random.integers(self.settings.shortest, self.settings.longest + 1))
            chosen = [alphabet[place] for place in random.integers(len(alphabet), size=count)]
        else:
            known = dict(alphabet)
            strange = next((each for each in text if each not in known), None)
            if strange is not None:
                raise DataError(f"There is no drawing of {strange!r} by the writer {writer}; give a text without it.")
            chosen = [(each, known[each]) for each in text]
        picked = [each[int(random.integers(len(each)))] for _, each in chosen]
        strokes, characters = self._joined(picked, random)
        labels = tuple(label for label, _ in chosen)
        return InkLine(strokes, "".join(labels), characters, tuple(each.id for each in picked), labels, writer)

    def _joined(self, picked: Sequence[Drawing], random: np.random.Generator) -> tuple[Strokes, tuple[int, ...]]:
        settings = self.settings
        made: list[Stroke] = []
        characters: list[int] = []
        right = time = 0.0
        for place, drawing in enumerate(picked):
            gap, shift, size = random.standard_normal(3) * [settings.gap_spread, settings.baseline, settings.size]
            left, top, end, bottom = bounds(drawing.strokes)
            extent = max(end - left, bottom - top)
            scale = float(np.exp(size)) / extent if extent > 1e-300 else 1.0
            start = right + max(settings.least_gap, settings.gap + gap) if place else 0.0
            # Characters stand on the line y = 1; one without extent, such as a dot, too.
            down = 1 - (bottom - top) * scale + shift
            for stroke in drawing.strokes:
                x, y = (stroke[:, 0] - left) * scale + start, (stroke[:, 1] - top) * scale + down
                made.append(np.column_stack([x, y, stroke[:, 2] - drawing.strokes[0][0, 2] + time]))
                characters.append(place)
            right = max(right, start + (end - left) * scale)
            time = float(made[-1][-1, 2]) + (_PAUSE if drawing.timed else 0.0)
        return tuple(made), tuple(characters)
