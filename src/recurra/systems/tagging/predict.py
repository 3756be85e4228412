"""Asking a trained tagger: tags of sentences, the next likeliest ones, and how many are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...data.length_batches import group_by_length
from ...data.spans import broken, convert
from ...data.tagged import TaggedReader, TaggedSentence, format_of
from ...errors import ConfigError, DataError
from ...measures.spans import SpanScores, span_scores
from ...measures.tagging import Accuracy, Confusion, accuracy, accuracy_by_frequency, accuracy_on_unknown, confusions
from ...run.device import find_device
from ...run.directory import Run
from ...run.saving import Savable
from ...run.weights import load_weights
from ..lines import Progress
from ..predictor import Predictor
from .answers import Alternative, TaggedWords
from .batches import collate
from .config import TaggingConfig
from .data import encoded, reader, whole_tags
from .loading import network
from .network import Tagger
from .vocabulary import VOCABULARY, Vocabulary

__all__ = ["ColumnScores", "TaggerPredictor"]

# Words side by side, padding included.
_WORDS = 4096


class WrongTag(NamedTuple):
    """A word that was tagged wrongly.

    Attributes:
        file, line: where its sentence begins.
        word: with its neighbours on both sides in `before` and `after`.
        right, answer: its tags.
    """

    file: str
    line: int
    before: str
    word: str
    after: str
    right: str
    answer: str


class ColumnScores(NamedTuple):
    """How good the tags of one column are.

    Attributes:
        all: of all words.
        unknown: of the words that no training sentence has.
        by_frequency: of words by how often the training sentences have them.
        spans: where tags mark spans.
        confusions: the most frequent ones.
        errors: the first words that were tagged wrongly, as many as were asked for.
        broken: sentences whose right tags break their scheme.
        unseen: words whose right tags no training sentence had.
    """

    all: Accuracy
    unknown: Accuracy
    by_frequency: Mapping[str, Accuracy]
    spans: SpanScores | None
    confusions: Sequence[Confusion]
    errors: Sequence[WrongTag]
    broken: int = 0
    unseen: int = 0


class TaggerPredictor(Predictor):
    """A trained tagger of words; made by `recurra.load`.

    Args:
        model: put in evaluation mode.
        vocabulary: that it was trained with.
        config: of its run.
        directory: its run directory, if any.
    """

    def __init__(
        self, model: Tagger, vocabulary: Vocabulary, config: TaggingConfig, directory: Path | None = None
    ) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config, self.directory = config, directory
        self._device = next(model.parameters()).device

    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        if len(runs) > 1:
            raise ConfigError("taggers do not answer together; name one run.")
        run = runs[0].of("tagging")
        model = load_weights(lambda: network(run), run, average).to(find_device(device, "--device"))
        return cls(model, Vocabulary.load(run.path), run.config, run.path)

    def _files(self) -> Mapping[str, Savable]:
        return {VOCABULARY: self.vocabulary}

    def _network(self) -> nn.Module:
        return self.model

    def answer_loss(self, network: nn.Module, text: str, most: int) -> Tensor:
        """-log P(the tags that it gives | the words, between spaces), summed over the columns; see `Predictor`."""
        words = text.split()[:most]
        if not words:
            raise ConfigError("a sentence without words has no tags; give another text.")
        assert isinstance(network, Tagger)
        batch = collate([encoded(self.vocabulary, words, None)]).to(self._device)
        emissions = network(batch)
        paths = [network.choose(column, each.detach(), batch.lengths)[0] for column, each in enumerate(emissions)]
        tags = torch.tensor(paths, device=self._device).T.unsqueeze(1)
        return network.nats(emissions, tags, batch.lengths)[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of tags."""
        return tuple(self.vocabulary.tags)

    def tag(
        self,
        sentences: Iterable[Sequence[str]],
        *,
        n_best: int = 1,
        marginals: bool = False,
        progress: Progress | None = None,
    ) -> list[TaggedWords]:
        """The tags of sentences.

        What else is asked in the same call does not change an answer, but for rounding.

        Args:
            sentences: of each its words; a sentence without words gets no tags.
            n_best: ways to tag each sentence; above 1 the answers have `alternatives`.
            marginals: whether the answers have `probabilities`.
            progress: called with the sentences done and the sentences in all.

        Raises:
            TypeError: for a text in place of its words, or what is no string.
            ConfigError: if `n_best` is below 1.
        """
        if n_best < 1:
            raise ConfigError(f"n_best must be at least 1, not {n_best}.")
        given = [_listed(number, sentence) for number, sentence in enumerate(sentences)]
        empty: dict[str, Any] = dict.fromkeys(self.columns, ())
        answers = [TaggedWords((), empty, {}, {})] * len(given)
        filled = np.array([number for number, words in enumerate(given) if words], np.int64)
        lengths = np.array([len(words) for words in given], np.int64)
        done = len(given) - len(filled)
        with torch.inference_mode():
            for chosen in group_by_length(filled[np.argsort(lengths[filled], kind="stable")], lengths, _WORDS):
                rows = [given[number] for number in chosen]
                for number, answer in zip(chosen, self._tagged(rows, n_best, marginals), strict=True):
                    answers[number] = answer
                done += len(chosen)
                if progress is not None:
                    progress(done, len(given))
        return answers

    def tag_sentences(self, sentences: Iterable[TaggedSentence]) -> Iterator[tuple[TaggedSentence, TaggedWords | None]]:
        """Sentences of a file with their tags, in order, some thousand words at a time; None for what has no words."""
        waiting: list[TaggedSentence] = []
        words = 0
        for sentence in sentences:
            waiting.append(sentence)
            words += len(sentence.words)
            if words >= _WORDS or len(waiting) >= _WORDS:
                yield from self._with_tags(waiting)
                waiting, words = [], 0
        yield from self._with_tags(waiting)

    def evaluate(
        self, data: str | Sequence[str], *, errors: int = 0, progress: Progress | None = None
    ) -> dict[str, ColumnScores]:
        """Tag sentences whose tags are known, and compare: for each column.

        Args:
            data: files, globs or folders, each in the format that its name tells, else in that of the training files.
            errors: how many wrong tags of each column are told with their places.

        Raises:
            DataError: if a file cannot be read, as `TaggedReader` says.
        """
        words: list[tuple[str, ...]] = []
        gold: dict[str, list[Sequence[str]]] = {name: [] for name in self.columns}
        found: dict[str, list[Sequence[str]]] = {name: [] for name in self.columns}
        wrong: dict[str, list[WrongTag]] = {name: [] for name in self.columns}
        for sentence, tags in self.compared(data):
            words.append(sentence.words)
            for name, (right, answer) in tags.items():
                gold[name].append(right)
                found[name].append(answer)
                wrong[name] += _wrong(sentence, right, answer)[: errors - len(wrong[name])]
            if progress is not None:
                progress(len(words), 0)
        return {name: self._scores(name, words, gold[name], found[name], wrong[name]) for name in self.columns}

    def compared(
        self, data: str | Sequence[str]
    ) -> Iterator[tuple[TaggedSentence, dict[str, tuple[Sequence[str], Sequence[str]]]]]:
        """Each sentence of files, with the right tags and the tagger's for each column.

        Args:
            data: as for `evaluate`.

        Raises:
            DataError: if a file cannot be read, as `TaggedReader` says.
        """
        paths = [data] if isinstance(data, str) else list(data)
        words = self.config.data.words
        sentences = TaggedReader(paths, self.columns, words=words, format=self._format(paths))
        for sentence, answer in self.tag_sentences(sentences):
            assert answer is not None
            yield sentence, {name: (self._right(sentence, name), answer.tags[name]) for name in self.columns}

    def reader(self, paths: Sequence[str], format: str | None, words: str | None) -> TaggedReader:
        """A reader of sentences that are to be tagged."""
        section = self.config.data
        changed = {"words": words or section.words, "tags": list(self.columns), "format": format or self._format(paths)}
        return reader(paths, section.model_copy(update=changed), need_tags=False)

    def _format(self, paths: Sequence[str]) -> str | None:
        """None if the names of files tell their formats; else the format of the training files."""
        section = self.config.data
        own = section.format or next((format_of(path) for path in section.train), None)
        try:
            told = {format_of(path) for path in paths}
        except DataError:
            return own
        # The endings of columns are those of any text.
        return own if told == {"columns"} and section.format is not None else None

    def _right(self, sentence: TaggedSentence, name: str) -> Sequence[str]:
        """The right tags of a column, mended as the configuration says where they break their scheme."""
        found = sentence.tags[name]
        assert found is not None
        data = self.config.data
        mend = data.marks_spans(name) and data.repair != "error"
        return whole_tags(sentence, list(found), data) if mend else found

    def _with_tags(self, sentences: list[TaggedSentence]) -> Iterator[tuple[TaggedSentence, TaggedWords | None]]:
        answers = self.tag([sentence.words for sentence in sentences])
        for sentence, answer in zip(sentences, answers, strict=True):
            yield sentence, answer if sentence.words else None

    def _scores(
        self,
        name: str,
        words: Sequence[Sequence[str]],
        gold: Sequence[Sequence[str]],
        found: Sequence[Sequence[str]],
        wrong: Sequence[WrongTag],
    ) -> ColumnScores:
        vocabulary, data = self.vocabulary, self.config.data
        known = set(vocabulary.tags[name])
        learnt = data.learnt(name)
        if learnt not in ("none", data.scheme):
            # Of the other scheme the types of spans are compared.
            known |= {f"{letter}-{tag[2:]}" if tag[2:] else letter for tag in known for letter in "BIES"} | {"O"}
        looked_up = [[vocabulary.key(vocabulary.normal(word)) for word in sentence] for sentence in words]
        return ColumnScores(
            accuracy(gold, found),
            accuracy_on_unknown(looked_up, gold, found, vocabulary.seen),
            accuracy_by_frequency(looked_up, gold, found, vocabulary.seen),
            span_scores(gold, found, data.scheme) if data.marks_spans(name) else None,
            confusions(gold, found, 10),
            wrong,
            sum(bool(broken(tags, data.scheme)) for tags in gold) if data.marks_spans(name) else 0,
            sum(tag not in known for tags in gold for tag in tags),
        )

    def _tagged(self, sentences: Sequence[Sequence[str]], n_best: int, marginals: bool) -> list[TaggedWords]:
        batch = collate([encoded(self.vocabulary, words, None) for words in sentences]).to(self._device)
        emissions = self.model(batch)
        tags: list[dict[str, tuple[str, ...]]] = [{} for _ in sentences]
        ways: list[dict[str, Sequence[Alternative]]] = [{} for _ in sentences]
        chances: list[dict[str, tuple[float, ...]]] = [{} for _ in sentences]
        for column, (name, scores) in enumerate(zip(self.columns, emissions, strict=True)):
            paths = self.model.choose(column, scores, batch.lengths)
            if n_best > 1:
                for row, found in enumerate(self.model.field(column).n_best(scores, batch.lengths, n_best)):
                    ways[row][name] = [Alternative(self._named(name, path), value) for path, value in found]
            shares = self.model.field(column).marginals(scores, batch.lengths) if marginals else None
            for row, path in enumerate(paths):
                tags[row][name] = self._named(name, path)
                if shares is not None:
                    chances[row][name] = _of_path(shares[:, row], path)
        return [TaggedWords(tuple(words), tags[row], ways[row], chances[row]) for row, words in enumerate(sentences)]

    def _named(self, column: str, places: Sequence[int]) -> tuple[str, ...]:
        """Tags by their names, in the scheme of the training files."""
        names = self.vocabulary.tags[column]
        found = [names[place] for place in places]
        data = self.config.data
        learnt = data.learnt(column)
        return tuple(convert(found, learnt, data.scheme) if learnt not in ("none", data.scheme) else found)


def _wrong(sentence: TaggedSentence, right: Sequence[str], answer: Sequence[str]) -> list[WrongTag]:
    """The words of a sentence that were tagged wrongly, with three others on each side."""
    words = sentence.words
    return [
        WrongTag(
            sentence.file,
            sentence.line,
            " ".join(words[max(place - 3, 0) : place]),
            words[place],
            " ".join(words[place + 1 : place + 4]),
            *tags,
        )
        for place, tags in enumerate(zip(right, answer, strict=True))
        if tags[0] != tags[1]
    ]


def _of_path(shares: Tensor, path: Sequence[int]) -> tuple[float, ...]:
    return tuple(shares[torch.arange(len(path)), torch.tensor(path, device=shares.device)].tolist())


def _listed(number: int, sentence: Sequence[str]) -> list[str]:
    if isinstance(sentence, str):
        raise TypeError(f"sentence {number} is a text; give a list of its words, for example text.split()")
    words = list(sentence)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"sentence {number} has a word of type {type(word).__name__}, not a string")
        if not word:
            raise TypeError(f"sentence {number} has an empty word; leave it out")
    return words
