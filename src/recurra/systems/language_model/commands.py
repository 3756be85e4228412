"""What a language model is asked from the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...data.text import expand_paths, read_text
from ...decoding.sampling import SamplingOptions
from ...errors import ConfigError
from ...shown import visible
from ..output import Note, Output, Pairs, Record, Table, Text, word_table, word_values
from . import SYSTEM
from .answers import LineScore, rank_lines
from .predict import LanguageModelPredictor

__all__ = ["evaluate", "generate", "next_word", "score"]

Progress = Callable[[int, int], None]


def check_evaluate(data: Sequence[str] | None) -> None:
    """Refuse to evaluate on nothing."""
    if not data:
        raise ConfigError("Missing option '--data': name the text to evaluate on.")


def evaluate(predictor: LanguageModelPredictor, data: Sequence[str], progress: Progress) -> Iterator[Output]:
    """Quality on files."""
    result = predictor.evaluate(data, progress=progress)
    yield Record(result)
    rows = SYSTEM.shown(result)
    if result["unknown_rate"]:
        rows = [
            (name, f"{value}, without how unknown words are spelt" if "bits" in name else value) for name, value in rows
        ]
    yield Pairs(rows)


def check_score(file: str, text: Sequence[str] | None, **others: Any) -> None:
    """Refuse lines from two places."""
    if text and file != "-":
        raise ConfigError("name a file or give lines with --text, not both.")


def score(
    predictor: LanguageModelPredictor,
    progress: Progress,
    as_json: bool,
    file: str,
    text: Sequence[str] | None,
    words: bool,
) -> Iterator[Output]:
    """Scores of lines, ranked."""
    given = text or "".join(read_text(expand_paths([file]))).split("\n")
    lines = [(number, line) for number, line in enumerate(given, start=1) if line.strip()]
    if not lines:
        raise ConfigError("there is no line to score: name a file with text in it, or give lines with --text.")
    scores: list[LineScore] = []
    for _, line in lines:
        scores += predictor.score([line])
        progress(len(scores), len(lines))
    ranked = rank_lines(scores)
    # Equal lines are equal scores, so places are looked up by identity.
    places = {id(line.score): place for place, line in enumerate(ranked, start=1)}
    shares = {id(line.score): line.probability for line in ranked}
    known = ["known"] if any(each.unknown for each in scores) else []
    rows = []
    for (number, _), each in zip(lines, scores, strict=True):
        place, share = places[id(each)], shares[id(each)]
        value = {"line": number, **asdict(each), "rank": place, "share": share}
        value["words"] = word_values(each.words)
        if not words:
            del value["words"]
        yield Record(value)
        rows.append(
            [
                str(number),
                str(place),
                "-" if share is None else f"{share:.1%}",
                f"{each.log_probability:.3f}",
                f"{each.perplexity:.2f}",
                f"{each.bits_per_character:.3f}",
                str(each.unknown),
                *([f"{each.known_log_probability:.3f}"] if known else []),
                each.text,
            ]
        )
    yield Table(
        ["line", "rank", "share", "log-probability", "perplexity", "bits/char", "unknown", *known, "text"], rows
    )
    if words:
        yield word_table((number, each.words) for (number, _), each in zip(lines, scores, strict=True))
    if len(ranked) > 1:
        yield Text(f"\nlikeliest: {visible(ranked[0].score.text)}")
    if known and not as_json:
        yield Note(
            "an unknown word counts as any unknown word, so that the log-probability of its line is too high; the "
            "column `known` leaves it out. Lines with more unknown words than others are ranked after them."
        )


def check_next_word(text: str, top: int, candidates: Sequence[str] | None, tokens: bool) -> None:
    """Refuse questions that make no sense."""
    words = _words(candidates)
    if candidates is not None and not words:
        raise ConfigError("--candidates: name at least one word, for example --candidates pear,pair.")
    if words and tokens:
        raise ConfigError("--candidates are whole words: leave out --tokens.")


def next_word(
    predictor: LanguageModelPredictor, text: str, top: int, candidates: Sequence[str] | None, tokens: bool
) -> Iterator[Output]:
    """The likeliest words after a text, or the probabilities of some."""
    yield from _unknown_words(predictor, text)
    unit = "token" if tokens else "word"
    found = predictor.next(text, top=top, candidates=_words(candidates) or None, unit=unit)  # type: ignore[arg-type]
    for entry in found:
        if entry.word in found.unknown:
            yield Note(
                f"{visible(entry.word)} is not in the model's vocabulary; its probability is that of all unknown words "
                "together."
            )
    answers = [{**entry._asdict(), "known": entry.word not in found.unknown} for entry in found]
    yield Record({"text": text, "next": answers, "unseen": found.unseen})
    rows = [
        [each.word, _probability(each.probability) + (" (all unknown words)" if each.word in found.unknown else "")]
        for each in found
    ]
    yield Table(["word", "probability"], rows)


def check_generate(
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float,
    **others: Any,
) -> None:
    """Refuse options that do not go together."""
    SamplingOptions(temperature, top_k, top_p, min_p, repetition_penalty)


def generate(
    predictor: LanguageModelPredictor,
    as_json: bool,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float,
    seed: int,
    n: int,
    stop: str | None,
) -> Iterator[Output]:
    """Text that goes on from a prompt; a single one is shown as it is written."""
    options = SamplingOptions(temperature, top_k, top_p, min_p, repetition_penalty)
    stop = stop.replace("\\n", "\n") if stop else None
    yield from _unknown_words(predictor, prompt)
    if n == 1 and not as_json:
        yield Text(prompt, end="")
        for piece in predictor.stream(prompt, length, options, seed=seed, stop=stop):
            yield Text(piece, end="")
        yield Text("")
        return
    for number, sample in enumerate(predictor.generate(prompt, length, options, n=n, seed=seed, stop=stop), start=1):
        yield Record({"sample": number, "prompt": prompt, "text": sample})
        yield Text(f"--- {number} of {n}\n{prompt}{sample}")


def _unknown_words(predictor: LanguageModelPredictor, text: str) -> Iterator[Output]:
    """A remark on words that the model reads as any unknown word."""
    unknown = predictor.tokenizer.unknown(text)
    if unknown:
        said = ", ".join(map(visible, unknown))
        yield Note(f"not in the model's vocabulary, and read as any unknown word: {said}.")


def _words(candidates: Sequence[str] | None) -> list[str]:
    return [word.strip() for part in candidates or [] for word in part.split(",") if word.strip()]


def _probability(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.2e}"
