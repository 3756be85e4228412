"""A recurrent tagger: words and their characters, a recurrent stack, and an output for each column of tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.sections import TRANSFORMER
from ...errors import ConfigError
from ...models.crf import CRF, legal_moves
from ...models.encoder import layer_of, locked
from ...models.transformer import layers_of
from .batches import NO_TAG, SentenceBatch
from .config import TaggingModelConfig
from .readers import Reader, ReaderNetwork

__all__ = ["Tagger"]

# Of a step's padded characters; more words are read in several parts.
_CHARACTERS = 1 << 17


class Tagger(nn.Module):
    """Scores of the tags of every word of a batch of sentences, and how the tags of a sentence are chosen.

    A word is its embedding beside what is made of its characters (Lample et al. 2016; Ma & Hovy 2016). All columns of
    tags share the layers below the output.

    Args:
        words, characters: how many have an embedding, the unknown one included.
        tags: the names of each column's tags.
        config: the `model` section.
        schemes: for each column "bio" or "bioes" if its tags mark spans, so that moves which break the scheme have no
            probability, or "none", so that every move is allowed; None: "none" for all columns.
        readers: the language models that are read along.

    Raises:
        ConfigError: if the cell is not known or cannot do what the section asks of it.
        ValueError: if a tag is not of the scheme.
    """

    def __init__(
        self,
        words: int,
        characters: int,
        tags: Mapping[str, Sequence[str]],
        config: TaggingModelConfig,
        schemes: Sequence[str] | None = None,
        readers: Sequence[Reader] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.columns = list(tags)
        self.word_embedding = nn.Embedding(words, config.embedding_size)
        nn.init.normal_(self.word_embedding.weight, std=config.init_scale)
        self.character_embedding = None
        self.spelling: nn.Module | None = None
        if config.characters != "none":
            self.character_embedding = nn.Embedding(characters, config.character_embedding_size)
            # Characters are few and each is met often, so they start as far apart as torch.nn's.
            if config.characters == "recurrent" and config.cell == TRANSFORMER:
                raise ConfigError(
                    "model.characters: a transformer has no last state that a word could be known by; set it to "
                    "convolution or none."
                )
            if config.characters == "recurrent":
                self.spelling = layer_of(
                    config, config.character_embedding_size, config.character_size, bidirectional=True
                )
            else:
                # Padding on both sides, so that a word shorter than the window is read too.
                self.spelling = nn.Conv1d(
                    config.character_embedding_size,
                    config.character_size,
                    config.character_width,
                    padding=config.character_width - 1,
                )
        self.readers = nn.ModuleList([ReaderNetwork(reader) for reader in readers])
        self.recurrent = layers_of(
            config,
            config.word_size + sum(each.size for each in self.readers),  # type: ignore[misc]
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            locked_dropout=config.dropout,
            weight_dropout=config.weight_dropout,
        )
        self.outputs = nn.ModuleList([nn.Linear(config.output_size, len(column)) for column in tags.values()])
        schemes = ["none"] * len(tags) if schemes is None else list(schemes)
        each = zip(tags.values(), schemes, strict=True)
        self.fields = nn.ModuleList([_field(column, scheme, config.output == "crf") for column, scheme in each])
        self._together = [config.output == "crf" or scheme != "none" for scheme in schemes]

    @overload
    def forward(self, batch: SentenceBatch) -> list[Tensor]: ...

    @overload
    def forward(self, batch: SentenceBatch, tags: Tensor) -> Tensor: ...

    def forward(self, batch: SentenceBatch, tags: Tensor | None = None) -> list[Tensor] | Tensor:
        """Read sentences.

        Args:
            batch: the sentences; their tags are not looked at.
            tags: (T, B, C).

        Returns:
            For each column (T, B, K), the emissions of its tags; or if `tags` are given, the loss in nats a word,
            summed over the columns.
        """
        lengths = batch.lengths
        parts = [self.word_embedding(batch.words)]
        if self.spelling is not None:
            parts.append(self._spelt(batch.characters, batch.sizes)[batch.spelling])
        parts += [reader(*given) for reader, given in zip(self.readers, batch.read, strict=True)]
        read = locked(torch.cat(parts, dim=-1), self.config.input_dropout, self.training)
        states = locked(self.recurrent(read, lengths=lengths)[0], self.config.output_dropout, self.training)
        emissions = [output(states) for output in self.outputs]
        if tags is None:
            return emissions
        return self.nats(emissions, tags, lengths)[0] / lengths.sum()

    def nats(self, emissions: Sequence[Tensor], tags: Tensor, lengths: Tensor) -> tuple[Tensor, int]:
        """-log P(tags) of the sentences whose tags are all known, summed over columns, and the number of their words.

        Args:
            emissions: as `forward` gives them.
            tags: (T, B, C), `NO_TAG` for one that is not known.
            lengths: (B,).
        """
        inside = torch.arange(len(tags), device=tags.device).unsqueeze(1) < lengths.to(tags.device)
        known = ((tags != NO_TAG).all(-1) | ~inside).all(0)
        parts = [self._nats(i, each, tags[..., i], lengths) for i, each in enumerate(emissions)]
        return (torch.stack(parts).sum(0) * known).sum(), int(lengths[known.cpu()].sum())

    def choose(self, column: int, emissions: Tensor, lengths: Tensor) -> list[list[int]]:
        """The likeliest tags of each sentence: for CRFs and schemes the best whole row, else each word's best."""
        if self._together[column]:
            return [path for path, _ in self.field(column).decode(emissions, lengths)]
        best = emissions.argmax(-1).t().tolist()
        return [row[:length] for row, length in zip(best, lengths.tolist(), strict=True)]

    def field(self, column: int) -> CRF:
        """What chooses the tags of a column; of a softmax output all legal moves have the score zero."""
        found = self.fields[column]
        assert isinstance(found, CRF)
        return found

    def _nats(self, column: int, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Of each sentence, (B,); of one with a tag that is not known some finite number."""
        if self.config.output == "crf":
            given = -self.field(column).log_likelihood(emissions, tags.clamp(min=0), lengths)
            # A tag in the place of an unknown one may be forbidden there.
            return given.masked_fill(~given.isfinite(), 0.0)
        flat = F.cross_entropy(emissions.flatten(0, 1).float(), tags.flatten(), ignore_index=NO_TAG, reduction="none")
        return flat.view(tags.shape).sum(0)

    def _spelt(self, characters: Tensor, sizes: Tensor) -> Tensor:
        """What is made of the characters of each spelling: (N, M)."""
        assert self.character_embedding is not None and self.spelling is not None
        most = max(1, _CHARACTERS // len(characters))
        if characters.shape[1] > most and not self.training:
            parts = zip(characters.split(most, dim=1), sizes.split(most), strict=True)
            return torch.cat([self._spelt(*part) for part in parts])
        embedded = self.character_embedding(characters)
        if self.config.characters == "recurrent":
            final = self.spelling(embedded, lengths=sizes)[1]
            last = final if isinstance(final, Tensor) else final[0]
            return torch.cat(tuple(last), dim=-1)
        steps = torch.arange(len(characters), device=characters.device).unsqueeze(1)
        inside = (steps < sizes.to(characters.device)).unsqueeze(-1)
        made = self.spelling((embedded * inside).permute(1, 2, 0))
        # Windows that lie wholly beyond a word's end see zeros alone, and must not win its maximum.
        windows = torch.arange(made.shape[2], device=made.device)
        reach = sizes.to(made.device) + self.config.character_width - 1
        return made.masked_fill((windows >= reach.unsqueeze(1)).unsqueeze(1), -torch.inf).amax(-1)


def _field(tags: Sequence[str], scheme: str, learnt: bool) -> CRF:
    moves = () if scheme == "none" else legal_moves(tags, "bio" if scheme == "bio" else "bioes")
    field = CRF(len(tags), *moves)
    if not learnt:
        for parameter in field.parameters():
            nn.init.zeros_(parameter).requires_grad_(False)
    return field
