"""Character language models whose states after each word are read beside the words (Akbik, Blythe & Vollgraf 2018).

A language model has read much plain text and knows from what stands before a word what it probably is. Its network is
taken out of its run, stays as it is, and travels with the tagger. A second model, trained on text whose lines run
backwards, knows what stands behind the word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from ... import registry
from ...data.tokenizer import Tokenizer
from ...errors import ConfigError, RunError
from ...run.directory import Run, read_run
from ...run.hub import fetch
from ...run.own_cell import is_own
from ...run.start_from import parts_of
from ...run.weights import read_weights

__all__ = ["Reader", "ReaderNetwork", "opened_reader", "take_weights"]

_PARTS = ("embedding", "encoder")
_STEPS = 4096
"""Characters that are read at a time, so that memory does not grow with a sentence."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Reader:
    """What has to be known of a language model to build its network and to read words with it.

    Attributes:
        system: that it was trained as.
        backward: whether it was trained on lines that run backwards.
        model: the `model` section of its configuration.
        characters: its tokens: an unknown one, the line end, and the others.
        normalization, lowercase: what it does to text.
    """

    system: str
    backward: bool
    model: dict[str, Any]
    characters: Annotated[tuple[str, ...], Field(min_length=2)]
    normalization: str
    lowercase: bool

    def encode(self, words: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The tokens of a sentence in the order in which they are read, (C,), and the place of each word's last one."""
        texts = [self._normal(word) for word in words]
        sizes = np.array([len(text) for text in texts], np.int64)
        # A space between two words, and a line end before the first that is read.
        starts = np.cumsum(sizes + 1) - sizes - 1
        text = " ".join(texts)
        read = text[::-1] if self.backward else text
        ends = len(text) - starts if self.backward else starts + sizes
        places = self._places
        return np.array([self._line_end, *(places.get(letter, 0) for letter in read)], np.int64), ends

    @cached_property
    def _places(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(self.characters) if place}

    @cached_property
    def _line_end(self) -> int:
        return self.characters.index("\n")

    def _normal(self, word: str) -> str:
        text = word if self.normalization == "none" else unicodedata.normalize(self.normalization.upper(), word)  # type: ignore[arg-type]
        # A word whose characters all vanish still has an end.
        return (text.lower() if self.lowercase else text) or "\ufffd"


class ReaderNetwork(nn.Module):
    """The embedding and the recurrent layers of a language model, which no training changes.

    Args:
        reader: of the language model.

    Attributes:
        size: units of a state.

    Raises:
        RunError: if no such network can be built.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        try:
            system = registry.find(reader.system)
            section = registry.resolve(system.schema).model_fields["model"].annotation
            settings = section.model_validate(reader.model)
            whole = registry.resolve(system.build)(settings, len(reader.characters))
            parts = _modules(system, whole)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"the language model that is read along cannot be built ({error}); train again.") from error
        self.embedding, self.encoder = parts
        self.size: int = settings.layer_sizes[-1]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ReaderNetwork:
        """Stay in evaluation mode: the dropout of its own training is over."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """The states after given tokens.

        Args:
            tokens: (C, B) int64; what follows a row's last token changes nothing.
            ends: (T, B) int64, places in `tokens`.

        Returns:
            (T, B, `size`).
        """
        found: Tensor | None = None
        state = None
        for first in range(0, len(tokens), _STEPS):
            outputs, state = self.encoder(self.embedding(tokens[first : first + _STEPS]), state)
            if found is None:
                found = outputs.new_zeros(*ends.shape, self.size)
            inside = (ends >= first) & (ends < first + len(outputs))
            places = (ends - first).clamp(0, len(outputs) - 1)
            states = outputs.gather(0, places.unsqueeze(-1).expand(-1, -1, self.size))
            found = torch.where(inside.unsqueeze(-1), states, found)
        assert found is not None
        return found


def opened_reader(name: str, backward: bool) -> tuple[Reader, Run]:
    """What is to be known of the language model in a run, and the run.

    Raises:
        RunError: if there is no such run.
        ConfigError: if it is of another system, or of other tokens than characters.
    """
    run = read_run(fetch(name))
    here = "data.backward_language_models" if backward else "data.language_models"
    names = {part.name for part in run.system.parts}
    if not names.issuperset(_PARTS) or "tokenizer.json" not in run.files or is_own(run.config):
        raise ConfigError(
            f"{here}: {name} is a run of {run.system.name} with the cell {run.config.model.cell}; name a language "
            "model with a cell that recurra has."
        )
    tokenizer = Tokenizer.load(run.path / "tokenizer.json")
    if tokenizer.kind != "character":
        raise ConfigError(
            f"{here}: {name} has tokens of the kind {tokenizer.kind}; name a language model of characters, which was "
            "trained with tokenizer.kind=character."
        )
    # The unknown token has no character; its own name would be taken for one.
    characters = ["", *(text.decode() for text in tokenizer.vocabulary_bytes[1:])]
    model = run.config.model.model_dump(mode="json")
    return Reader(
        run.system.name, backward, model, tuple(characters), tokenizer.normalization, tokenizer.lowercase
    ), run


def take_weights(network: ReaderNetwork, run: Run) -> None:
    """Give a network the weights of the language model in a run.

    Raises:
        RunError: if there are none that can be read.
    """
    found = parts_of(run.system.parts, read_weights(run))
    for own, name in zip((network.embedding, network.encoder), _PARTS, strict=True):
        own.load_state_dict(found[name])


def _modules(system: registry.System, network: nn.Module) -> list[nn.Module]:
    """The embedding and the encoder of a network."""
    prefixes = {part.name: part.prefixes[0] for part in system.parts}
    return [network.get_submodule(prefixes[name].rstrip(".")) for name in _PARTS]
