"""What `recurra evaluate` and `recurra score` do with a translation system."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..shown import tell
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
    search: Mapping[str, Any],
    progress: Progress,
    as_json: bool,
) -> None:
    """Print perplexity, BLEU, chrF and length ratio, with the signatures of the measures."""
    if len(data) > 1:
        raise UsageError("--data: translation takes one file of pairs.")
    _require(source, target, data[0] if data else None)
    result = translator.evaluate(source, target, data[0] if data else None, progress=progress, **search)
    if as_json:
        print_json(result)
        return
    print_pairs(
        [
            ("loss", f"{result['loss']:.4f} nats per token"),
            ("perplexity", f"{result['perplexity']:.2f} per token"),
            *measured(result),
            ("pairs", f"{result['pairs']:,}"),
            *([("left out", f"{result['dropped']:,} with an empty side")] if result["dropped"] else []),
            *([("cut", f"{result['cut']:,} sources at decoding.max_source_length")] if result["cut"] else []),
            ("tokens", f"{result['tokens']:,}"),
            *((f"signature of {name}", signature) for name, signature in result["signatures"].items()),
        ]
    )


def score(
    translator: Translator, file: str, source: str | None, target: str | None, progress: Progress, as_json: bool
) -> None:
    """Print log P(target | source) of each pair; of one with an empty side nothing, where data.empty_lines is drop."""
    from ..data.parallel import read_pairs
    from ..tasks.translation_answers import PairScore

    # Standard input is for pairs where someone or something feeds it, and not where it would be waited for.
    named = None if file == "-" and (source or target or sys.stdin.isatty()) else file
    _require(source, target, named)
    data = translator.config.data
    empty = "keep" if data.empty_lines == "drop" else "error"
    pairs, _ = read_pairs(source, target, named, columns=data.columns, keys=data.keys, empty=empty)
    whole = [pair for pair in pairs if pair.source and pair.target]
    found = iter(translator.score([pair.source for pair in whole], [pair.target for pair in whole], progress))
    # As many records as lines, so that they can be put beside the file.
    scores = [next(found) if pair.source and pair.target else None for pair in pairs]
    for line, each in enumerate(scores, start=1):
        if each is not None and each.cut_at is not None:
            tell(
                f"recurra: line {line} is longer than {each.cut_at} tokens and is scored up to there; "
                "decoding.max_source_length is the limit."
            )
    if as_json:
        nothing = dict.fromkeys(field.name for field in fields(PairScore))
        for line, (each, pair) in enumerate(zip(scores, pairs, strict=True), start=1):
            print_json({"line": line, **(nothing | pair._asdict() if each is None else asdict(each))})
        return
    print_table(
        ["line", "log-probability", "perplexity", "unknown", "target"],
        [
            [str(line), "", "", "", pair.target]
            if each is None
            else [str(line), f"{each.log_probability:.3f}", f"{each.perplexity:.2f}", str(each.unknown), each.target]
            for line, (each, pair) in enumerate(zip(scores, pairs, strict=True), start=1)
        ],
    )


def _require(source: str | None, target: str | None, pairs: str | None) -> None:
    if pairs is not None and (source or target):
        raise UsageError("name a file of pairs, or --source and --target, not both.")
    if pairs is None and (source is None or target is None):
        raise UsageError(
            "Missing options '--source' and '--target': name sentences and translations, or a file of pairs."
        )
