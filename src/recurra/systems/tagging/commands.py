"""What a tagger is asked from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...data.tagged import rewritten
from ...errors import ConfigError
from ..lines import Progress, after, groups
from ..output import Note, Output, Pairs, Record, Table, Text
from . import SYSTEM
from .answers import TaggedWords
from .predict import ColumnScores, TaggerPredictor

__all__ = ["evaluate", "tag"]


def check_evaluate(data: Sequence[str] | None, **others: Any) -> None:
    """Refuse to compare with nothing."""
    if not data:
        raise ConfigError("Missing option '--data': name tagged sentences to compare with.")


def evaluate(predictor: TaggerPredictor, progress: Progress, data: Sequence[str], errors: int) -> Iterator[Output]:
    """Accuracy of each column, of unknown words, by frequency; spans; confusions; the first errors."""
    found = predictor.evaluate(data, errors=errors, progress=progress)
    yield Record({name: _values(scores) for name, scores in found.items()})
    for name, scores in found.items():
        if scores.broken:
            scheme = predictor.config.data.scheme
            yield Note(
                f"column {name}: the right tags of {scores.broken:,} sentences break the scheme {scheme}; what is no "
                "whole span there does not count. data.repair mends such tags."
            )
        if scores.unseen:
            yield Note(f"column {name}: {scores.unseen:,} words have right tags that no training sentence had.")
        values = {"accuracy": scores.all.share, "unknown_accuracy": scores.unknown.share}
        if scores.spans is not None:
            values["span_f1"] = scores.spans.all.f1
        words = [("words", f"{scores.all.total:,}"), ("unknown words", f"{scores.unknown.total:,}")]
        yield Pairs([("column", name), *SYSTEM.shown(values), *words])
        if scores.spans is not None:
            rows = [
                [kind, f"{each.precision:.4f}", f"{each.recall:.4f}", f"{each.f1:.4f}", str(each.gold)]
                for kind, each in scores.spans.types.items()
            ]
            yield Table(["span", "precision", "recall", "F1", "spans"], rows)
        yield Table(
            ["times in training", "accuracy", "words"],
            [
                [band, "" if each.share is None else f"{each.share:.2%}", f"{each.total:,}"]
                for band, each in scores.by_frequency.items()
            ],
        )
        if scores.errors:
            rows = [
                [str(each.line), each.right, each.answer, f"{each.before} [{each.word}] {each.after}".strip()]
                for each in scores.errors
            ]
            yield Table(["sentence at line", "right", "answer", "word"], rows)
        if scores.confusions:
            yield Table(["right", "answer", "words"], [[*each[:2], str(each.times)] for each in scores.confusions])


def _values(scores: ColumnScores) -> dict[str, Any]:
    value: dict[str, Any] = {
        "accuracy": scores.all.share,
        "words": scores.all.total,
        "unknown_accuracy": scores.unknown.share,
        "unknown_words": scores.unknown.total,
        "by_frequency": {band: each._asdict() for band, each in scores.by_frequency.items()},
        "broken_sentences": scores.broken,
        "unseen_tags": scores.unseen,
        "confusions": [each._asdict() for each in scores.confusions],
        "errors": [each._asdict() for each in scores.errors],
    }
    if scores.spans is not None:
        types = {kind: {"f1": each.f1, **each._asdict()} for kind, each in scores.spans.types.items()}
        value |= {"span_f1": scores.spans.all.f1, "spans": scores.spans.all._asdict(), "types": types}
    return value


def check_tag(file: str, plain: bool, format: str | None, n_best: int, marginals: bool, **others: Any) -> None:
    """Refuse options that do not go together."""
    if plain and (file != "-" or format is not None):
        raise ConfigError("--plain reads sentences of words from standard input: leave out FILE and --format.")
    if plain and others.get("words_column") is not None:
        raise ConfigError("--words-column is for files in columns: leave it out with --plain.")
    if n_best > 1 and marginals:
        raise ConfigError("--n-best shows other ways, and --marginals the best one: give one of them.")
    if (n_best > 1 or marginals) and not plain:
        raise ConfigError("--n-best and --marginals have no place in the input's own format: give --plain too.")


def tag(
    predictor: TaggerPredictor,
    lines: Iterator[str | None],
    progress: Progress,
    file: str,
    plain: bool,
    format: str | None,
    words_column: str | None,
    n_best: int,
    marginals: bool,
) -> Iterator[Output]:
    """Sentences in, the same with tags out."""
    if plain:
        yield from _plain(predictor, lines, progress, n_best, marginals)
        return
    done = 0
    for sentence, answer in predictor.tag_sentences(predictor.reader([file], format, words_column).pieces()):
        if answer is None:
            yield Text(sentence.text, end="")
            continue
        done += 1
        progress(done, 0)
        tags: dict[str | int, Sequence[str]] = {name: each for name, each in answer.tags.items()}  # noqa: C416
        yield Record(answer.json(), rewritten(sentence, tags).removesuffix("\n"))


def _plain(
    predictor: TaggerPredictor, lines: Iterator[str | None], progress: Progress, n_best: int, marginals: bool
) -> Iterator[Output]:
    done = 0
    for group in groups(lines):
        sentences = [line.split() for line in group]
        answers = predictor.tag(sentences, n_best=n_best, marginals=marginals, progress=after(done, progress))
        for answer in answers:
            done += 1
            yield Record({"line": done, **answer.json()}, _line(done, answer))


def _line(number: int, answer: TaggedWords) -> str:
    """Words with their tags after a slash each; n-best ways as a line each, with number and log-probability."""
    if answer.alternatives:
        return "\n".join(
            f"{number}\t{name}\t{way.log_probability:.4f}\t{_joined(answer.words, way.tags)}"
            for name, ways in answer.alternatives.items()
            for way in ways
        )
    columns = [list(tags) for tags in answer.tags.values()]
    for values in answer.probabilities.values():
        columns.append([f"{value:.4f}" for value in values])
    return _joined(answer.words, *columns)


def _joined(*columns: Sequence[str]) -> str:
    """Words, each with what stands beside it after a slash."""
    return " ".join(map("/".join, zip(*columns, strict=True)))
