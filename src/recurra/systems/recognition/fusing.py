"""What is searched for besides what is heard: a language model of another run, a lexicon, hotwords."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ... import registry
from ...data.text import read_lines
from ...data.tokenizer import Tokenizer
from ...decoding.hotwords import Hotwords
from ...decoding.language_model_scorer import LanguageModelScorer
from ...decoding.lexicon import Lexicon
from ...decoding.next_token import NextToken
from ...errors import ConfigError, DataError
from ...run.directory import read_run
from ...run.hub import fetch
from .transcripts import Transcripts

__all__ = ["LanguageModel", "read_hotwords", "read_lexicon"]


class LanguageModel:
    """A trained language model whose tokens a recogniser's labels stand for.

    Args:
        name: its run directory, or USER/NAME on the Hub.
        transcripts: the labels of the recogniser.
        device: that it runs on.

    Raises:
        RunError: if it is no run, or damaged.
        ConfigError: if it is no language model, or a label is no token of it.
    """

    def __init__(self, name: str, transcripts: Transcripts, device: str = "auto") -> None:
        directory = fetch(name)
        system = read_run(directory).system
        model: Any = registry.resolve(system.predictor).from_runs([directory], device=device)
        tokenizer = getattr(model, "tokenizer", None)
        if not isinstance(model, NextToken) or not isinstance(tokenizer, Tokenizer):
            raise ConfigError(f"--language-model: {name} is a run of the task {system.name}; name a language model.")
        self._model: NextToken = model
        self._tokens = _tokens(tokenizer, transcripts, name)
        self._end = tokenizer.eos_id

    def scorer(self, weight: float) -> LanguageModelScorer:
        """Its log-probabilities times a weight above 0, that of the end of a line among them."""
        return LanguageModelScorer(self._model, self._tokens, weight, self._end)


def _tokens(tokenizer: Tokenizer, transcripts: Transcripts, name: str) -> list[int]:
    """For each label the token of a language model; -1 for the blank."""
    own = transcripts.tokenizer.tokenizer
    if own == tokenizer:
        return [-1 if label == transcripts.blank else label for label in range(transcripts.labels)]
    if own.kind != tokenizer.kind or own.kind in ("bpe", "unigram"):
        raise ConfigError(
            f"--language-model: {name} has {tokenizer.kind} tokens of its own, and the recogniser has {own.kind} "
            "tokens; train the recogniser with --from that language model, so that they share their tokens."
        )
    places = {text: place for place, text in enumerate(tokenizer.vocabulary_bytes)}
    unknown = tokenizer.unk_id if tokenizer.unk_id is not None else -1
    found = [places.get(text, unknown) for text in own.vocabulary_bytes]
    found[transcripts.blank] = -1
    if own.unk_id is not None:
        found[own.unk_id] = unknown
    return found


def read_lexicon(path: str, transcripts: Transcripts) -> Lexicon:
    """The only words that may come out, one a line of a file.

    Raises:
        DataError: if the file cannot be read, or a word has something that the vocabulary lacks.
    """
    words = [_labels(word, where, transcripts) for word, where in _phrases(path)]
    if not words:
        raise DataError(f"{path}: there is no word in it; write one word a line.")
    separator = None if transcripts.marks is None else transcripts.marks.separator
    # Subwords carry the space before their word with them.
    beginning = transcripts.marks is not None and bool(transcripts.marks.beginning)
    return Lexicon(words, transcripts.labels, None if beginning else separator)


def read_hotwords(path: str, bonus: float, transcripts: Transcripts) -> Hotwords:
    """Words and phrases to expect, one a line of a file; a number after a tab is the bonus of that line.

    Args:
        path: of the file.
        bonus: in nats, of a line without a number.
        transcripts: the labels of the recogniser.

    Raises:
        DataError: if the file cannot be read, a bonus is no number above 0, or a phrase has something that the
            vocabulary lacks.
    """
    phrases = []
    for line, where in _phrases(path):
        phrase, tab, given = line.partition("\t")
        try:
            own = float(given) if tab else bonus
            if not 0 < own <= 1e6:
                raise ValueError
        except ValueError as error:
            raise DataError(f"{where}: the bonus {given!r} is no number above 0; mend the line.") from error
        phrases.append((_labels(phrase, where, transcripts), own))
    if not phrases:
        raise DataError(f"{path}: there is no hotword in it; write one word or phrase a line.")
    return Hotwords(phrases, transcripts.labels, transcripts.marks)


def _phrases(path: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(Path(path), []), start=1):
        if line.strip():
            yield line.strip(), f"{path}:{number}"


def _labels(phrase: str, where: str, transcripts: Transcripts) -> Sequence[int]:
    unknown = transcripts.unknown(phrase)
    if unknown:
        raise DataError(f"{where}: the recogniser has no label for {unknown[0]!r}, and cannot write it; take it out.")
    return transcripts.encode(phrase).tolist()
