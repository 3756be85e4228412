"""What `recurra evaluate` and `recurra score` do with a translation system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .frame import UsageError
from .output import measured, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ..tasks.translator import Translator

__all__ = ["evaluate", "score"]

Progress = Callable[[int, int], None]


def evaluate(
    translator: Translator,
    data: Sequence[str],
    source: str | None,
    target: str | None,
    beam: int | None,
    progress: Progress,
    as_json: bool,
) -> None:
    """Print perplexity, BLEU, chrF and length ratio, with the signatures of the measures."""
    if len(data) > 1:
        raise UsageError("--data: translation takes one file of pairs.")
    _require(source, target, data[0] if data else None)
    result = translator.evaluate(source, target, data[0] if data else None, beam=beam, progress=progress)
    if as_json:
        print_json(result)
        return
    print_pairs(
        [
            ("loss", f"{result['loss']:.4f} nats per token"),
            ("perplexity", f"{result['perplexity']:.2f} per token"),
            *measured(result),
            ("pairs", f"{result['pairs']:,}"),
            ("tokens", f"{result['tokens']:,}"),
            *((f"signature of {name}", signature) for name, signature in result["signatures"].items()),
        ]
    )


def score(
    translator: Translator, file: str, source: str | None, target: str | None, progress: Progress, as_json: bool
) -> None:
    """Print log P(target | source) of each pair."""
    from ..data.parallel import read_pairs

    named = None if file == "-" else file
    _require(source, target, named)
    data = translator.config.data
    pairs, _ = read_pairs(source, target, named, columns=data.columns, keys=data.keys)
    scores = translator.score([pair.source for pair in pairs], [pair.target for pair in pairs], progress)
    if as_json:
        for line, each in enumerate(scores, start=1):
            print_json({"line": line, **asdict(each)})
        return
    print_table(
        ["line", "log-probability", "perplexity", "unknown", "target"],
        [
            [str(line), f"{each.log_probability:.3f}", f"{each.perplexity:.2f}", str(each.unknown), each.target]
            for line, each in enumerate(scores, start=1)
        ],
    )


def _require(source: str | None, target: str | None, pairs: str | None) -> None:
    if pairs is not None and (source or target):
        raise UsageError("name a file of pairs, or --source and --target, not both.")
    if pairs is None and (source is None or target is None):
        raise UsageError(
            "Missing options '--source' and '--target': name sentences and translations, or a file of pairs."
        )
