"""A language model beside a recogniser (shallow fusion; Hannun et al. 2014): its log-probabilities, times a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .label_scoring import Floats
from .next_token import NextToken
from .state import State, gather_rows

__all__ = ["LanguageModelScorer"]


class _Place(NamedTuple):
    """A hypothesis in the language model: a row of a state that many hypotheses share, and the gain of an end there."""

    state: State
    row: int
    ending: float


class LanguageModelScorer:
    """weight * log P(label | labels before it), by a model that reads the labels as tokens of its own.

    Args:
        model: the language model.
        tokens: (V,), for each label of the recogniser the model's token; -1 where there is none, as for the blank. Such
            a label never comes out.
        weight: above 0. With weight 1 the score is that of the two models' product.
        end: the model's token for the end of a line, which is counted when a hypothesis ends; None: nothing is.
        before: tokens that the model reads first.

    Raises:
        ConfigError: if the weight is not above 0.
    """

    def __init__(
        self,
        model: NextToken,
        tokens: Sequence[int],
        weight: float = 1.0,
        end: int | None = None,
        before: Sequence[int] = (),
    ) -> None:
        if not 0 < weight < math.inf:
            raise ConfigError(f"the weight of a language model must be above 0, not {weight}; or leave the model out.")
        self._model = model
        self._tokens = torch.tensor(list(tokens), dtype=torch.int64, device="cpu")
        self._read = self._tokens.clamp(min=0)
        self._weight = weight
        self._end = end
        self._before = list(before)

    @torch.inference_mode()
    def begin(self) -> tuple[Floats, _Place]:
        """The gains of the first label, and the state there."""
        log_probabilities, state = self._model.begin(self._before)
        size = log_probabilities.shape[-1]
        if max([*self._tokens.tolist(), -1 if self._end is None else self._end]) >= size:
            raise ConfigError(f"a label stands for a token beyond the {size} tokens of the language model.")
        gains, endings = self._gains(log_probabilities.view(1, -1))
        return gains[0], _Place(state, 0, endings[0])

    @torch.inference_mode()
    def advance(self, labels: Sequence[int], states: Sequence[_Place]) -> tuple[list[Floats], list[_Place]]:
        """Read one label in each hypothesis, all of them in one step of the model."""
        state = gather_rows([(place.state, place.row) for place in states])
        log_probabilities, state = self._model.advance(self._tokens[list(labels)], state)
        gains, endings = self._gains(log_probabilities)
        return gains, [_Place(state, row, ending) for row, ending in enumerate(endings)]

    def ending(self, state: _Place) -> float:
        """The gain of the end of a line."""
        return state.ending

    def _gains(self, log_probabilities: Tensor) -> tuple[list[Floats], list[float]]:
        """For each row the gains (V,) of all labels, and of the end."""
        weighted = self._weight * log_probabilities.double().cpu()
        own = weighted[:, self._read].masked_fill_(self._tokens < 0, -math.inf)
        gains: list[Floats] = list(np.asarray(own))
        endings = [0.0] * len(gains) if self._end is None else weighted[:, self._end].tolist()
        return gains, endings
