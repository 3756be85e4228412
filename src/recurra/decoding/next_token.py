"""What a search asks of a model that tells how likely each next token is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from .state import State

__all__ = ["NextToken"]


@runtime_checkable
class NextToken(Protocol):
    """P(next token | tokens so far), step by step: a language model, alone or beside another model in a search.

    V is the number of tokens, N the number of rows.
    """

    def begin(self, tokens: Sequence[int] = ()) -> tuple[Tensor, State]:
        """Read tokens from the beginning of a line.

        Returns:
            Log-probabilities of what follows them, (V,) float64 on the CPU, and the state there, of one row.
        """
        ...

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token in each row.

        Args:
            tokens: (N,) int64.
            state: of N rows.

        Returns:
            Log-probabilities of what follows, (N, V) float64 on the CPU, and the state after these tokens.
        """
        ...
