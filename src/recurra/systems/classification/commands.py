"""What a classifier is asked from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, RunError
from ...files import unwritten
from ...pages.contributions import Contributions, write_contributions
from ...pictures.confusion import draw_confusion
from ...pictures.reliability import draw_reliability
from ..lines import Progress, after, groups
from ..output import Note, Output, Pairs, Record, Shaded, Table
from . import SYSTEM
from .answers import Classification, Explanation
from .predict import Classifier, Judged

__all__ = ["classify", "evaluate"]

_TEXT = 160
"""Characters of a text that a table shows."""


def check_evaluate(data: Sequence[str] | None, **others: Any) -> None:
    """Refuse to judge no texts."""
    if not data:
        raise ConfigError("Missing option '--data': name labelled texts to answer.")


def evaluate(
    predictor: Classifier,
    progress: Progress,
    data: Sequence[str],
    label_column: str | None,
    text_column: str | None,
    errors: int,
    pictures: str | None,
) -> Iterator[Output]:
    """The measures, the labels one by one, and the worst errors."""
    if pictures is not None and predictor.label_set.kind == "regression":
        raise ConfigError("--pictures: a model that predicts numbers has no confusions to show; leave it out.")
    found = predictor.evaluate(data, label=label_column, text=text_column, progress=progress)
    verdict = found.verdict
    if found.unknown:
        yield Note(
            f"{found.unknown:,} of {len(found.examples):,} texts have a label that no training text had; they count as "
            "wrong, and the loss is of the others."
        )
    wrong = _errors(predictor, found, errors)
    values = {"loss": verdict.loss, **verdict.measures, "texts": len(found.examples), "unknown_labels": found.unknown}
    by_label = _by_label(predictor, found)
    yield Record({**values, "labels": by_label, "errors": wrong})
    yield Pairs([*SYSTEM.shown(values), ("texts", f"{len(found.examples):,}")])
    if by_label:
        rows = [
            [each["label"], *(f"{each[key]:.4f}" for key in ("precision", "recall", "f1")), str(each["texts"])]
            for each in by_label
        ]
        yield Table(["label", "precision", "recall", "F1", "texts"], rows)
    if wrong:
        rows = [[str(each["line"]), each["right"], each["answer"], each["text"][:_TEXT]] for each in wrong]
        yield Table(["line", "right", "answer", "text"], rows)
    if pictures is not None:
        _draw(Path(pictures), predictor, found)


def _by_label(predictor: Classifier, found: Judged) -> list[dict[str, Any]]:
    classes = found.verdict.classes
    if classes is None:
        return []
    rows = zip(predictor.labels, classes.precision, classes.recall, classes.f1, classes.support, strict=True)
    return [
        {"label": name, "precision": float(p), "recall": float(r), "f1": float(f), "texts": int(count)}
        for name, p, r, f, count in rows
    ]


def _errors(predictor: Classifier, found: Judged, count: int) -> list[dict[str, Any]]:
    """The answers that are wrong by the most: the surest of the wrong ones, or the farthest numbers."""
    verdict = found.verdict
    if verdict.classes is None:
        right = np.array([example.number for example in found.examples], np.float64)
        badness = np.abs(verdict.chances[:, 0] - right)
        shown = [f"{number:g}" for number in right]
    else:
        names = predictor.labels
        rows = [{names[place] for place in np.flatnonzero(row)} for row in verdict.given]
        wrong = np.array([set(example.labels) != row for example, row in zip(found.examples, rows, strict=True)])
        sureness = np.where(verdict.given > 0, verdict.chances, 1 - verdict.chances)
        sure = verdict.chances.max(axis=1) if predictor.label_set.kind == "single-label" else sureness.min(axis=1)
        badness = np.where(wrong, sure, -1.0)
        shown = [", ".join(example.labels) or "none" for example in found.examples]
    order = [int(place) for place in np.argsort(-badness, kind="stable")[:count] if badness[place] > 0]
    return [
        {
            "file": found.examples[place].file,
            "line": found.examples[place].line,
            "right": shown[place],
            "answer": verdict.answers[place],
            "text": " ".join(found.examples[place].text.split()),
        }
        for place in order
    ]


def _draw(folder: Path, predictor: Classifier, found: Judged) -> None:
    verdict = found.verdict
    assert verdict.reliability is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_reliability(folder / "reliability.png", verdict.reliability)
        if predictor.label_set.kind == "single-label":
            draw_confusion(folder / "confusion.png", _confusion(predictor, found), predictor.labels)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written {unwritten(error)}.") from error


def _confusion(predictor: Classifier, found: Judged) -> Any:
    places = {name: place for place, name in enumerate(predictor.labels)}
    counts = np.zeros((len(places), len(places)), np.int64)
    for example, row in zip(found.examples, found.verdict.given, strict=True):
        if example.labels[0] in places:
            counts[places[example.labels[0]], int(row.argmax())] += 1
    return counts


def check_classify(abstain: float | None, explain: bool, page: str | None, **others: Any) -> None:
    """Refuse a page of nothing."""
    if page is not None and not explain:
        raise ConfigError("--page is for explained texts: give --explain too.")


def classify(
    predictor: Classifier,
    lines: Iterator[str | None],
    progress: Progress,
    abstain: float | None,
    explain: bool,
    page: str | None,
) -> Iterator[Output]:
    """Lines in, labels out."""
    if abstain is not None and predictor.label_set.kind == "regression":
        raise ConfigError("--abstain: numbers have no probability; leave it out.")
    if page is not None:
        predictor.refuse_own_file(page)
    done = 0
    shown: list[Contributions] = []
    for texts in groups(lines):
        for answer in predictor.classify(texts, explain=explain, progress=after(done, progress)):
            done += 1
            if answer.cut_at is not None:
                yield Note(
                    f"line {done} is longer than {answer.cut_at} tokens and is read up to there; data.max_length is "
                    "the limit."
                )
            line = answer.line(abstain or 0.0)
            yield Record({"line": done, **answer.json(abstain or 0.0)}, line)
            if answer.explanation is not None:
                yield Shaded(answer.explanation.pieces)
                shown.append(_contributions(done, answer, answer.explanation))
    if page is not None:
        write_contributions(page, "What each token adds to the answer", shown)


def _contributions(line: int, answer: Classification, found: Explanation) -> Contributions:
    said = answer.line().replace("\t", " ")
    if not found.pieces:
        return Contributions(f"{line}: {said}", "There are no tokens, so this is what the training texts have.", ())
    total = sum(piece.contribution for piece in found.pieces)
    about = "the number" if found.target is None else f"the logit of {found.target}"
    remark = f"The tokens add {total:+.3f} to {about}: {found.baseline:.3f} without them, {found.logit:.3f} with them."
    if abs(found.gap) > 0.05 * max(abs(found.logit - found.baseline), 1.0):
        remark += f" The sum misses that difference by {found.gap:+.3f}, so take the colours with care."
    return Contributions(f"{line}: {said}", remark, found.pieces)
