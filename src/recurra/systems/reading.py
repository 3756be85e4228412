"""How a system's recurrent layers read a text, for whoever looks at their states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from ..data.places import Places

__all__ = ["Reader", "Reading", "Side"]


@dataclass(frozen=True)
class Side:
    """A row of tokens that recurrent layers read one by one.

    Attributes:
        name: such as "source".
        text: as it was given.
        places: of its tokens in the text; see `recurra.data.places`.
        modules: with what the names of the modules begin that read it, such as "encoder."; "" is all of them.
        before, after: steps before the first token and after the last one, such as that of a text's end.
        backwards: whether the last step reads the first token.
    """

    name: str
    text: str
    places: Places
    modules: str
    before: int = 0
    after: int = 0
    backwards: bool = False

    @property
    def steps(self) -> int:
        """That the layers take."""
        return self.before + len(self.places) + self.after


class Reading(NamedTuple):
    """A text that a model is about to read.

    Attributes:
        model: in evaluation mode.
        sides: what its layers read.
        run: reads; what it returns is the model's own output.
        cut_at: how many tokens the model reads of any text, where this one is longer; else None.
    """

    model: nn.Module
    sides: tuple[Side, ...]
    run: Callable[[], Any]
    cut_at: int | None = None


@dataclass(frozen=True)
class Reader:
    """How a system's texts are read.

    Attributes:
        read: a predictor, a text and the most tokens of it that are read give a reading.
        by_line: whether each line is a text of its own.
    """

    read: Callable[[Any, str, int], Reading]
    by_line: bool = True
