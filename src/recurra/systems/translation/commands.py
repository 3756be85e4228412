"""What a translation system is asked from the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...data.parallel import read_pairs
from ...decoding.sampling import SamplingOptions
from ...errors import ConfigError, RunError
from ...files import unwritten
from ...pages.attention import MOST_WEIGHTS, Aligned, write_attention
from ...pictures.attention import draw_attention
from ..lines import Progress, after, groups
from ..output import Note, Output, Pairs, Record, Table, word_table, word_values
from . import SYSTEM
from .answers import PairScore, Translation
from .predict import Translator

__all__ = ["evaluate", "score", "translate"]

_SHOWN = re.compile(r"attention-\d{5,}\.(png|json)")


def check_evaluate(data: Sequence[str] | None, source: str | None, target: str | None, **search: Any) -> None:
    """Refuse pairs from several places, or from none."""
    if data and len(data) > 1:
        raise ConfigError("--data: translation takes one file of pairs.")
    _require(source, target, data[0] if data else None)


def evaluate(
    predictor: Translator,
    progress: Progress,
    data: Sequence[str] | None,
    source: str | None,
    target: str | None,
    **search: Any,
) -> Iterator[Output]:
    """Perplexity, BLEU, chrF and length ratio, with the signatures of the measures."""
    result = predictor.evaluate(source, target, data[0] if data else None, progress=progress, **search)
    yield Record(result)
    yield Pairs(
        [
            *SYSTEM.shown(result),
            ("pairs", f"{result['pairs']:,}"),
            *([("left out", f"{result['dropped']:,} with an empty side")] if result["dropped"] else []),
            *([("cut", f"{result['cut']:,} sources at decoding.max_source_length")] if result["cut"] else []),
            ("tokens", f"{result['tokens']:,}"),
            *((f"signature of {name}", signature) for name, signature in result["signatures"].items()),
        ]
    )


def check_score(file: str, source: str | None, target: str | None, **others: Any) -> None:
    """Refuse pairs from two places, or from none."""
    _require(source, target, _named(file, source, target))


def score(
    predictor: Translator, progress: Progress, file: str, source: str | None, target: str | None, words: bool
) -> Iterator[Output]:
    """log P(target | source) of each pair; of a pair with an empty side nothing, where data.empty_lines is drop."""
    data = predictor.config.data
    empty = "keep" if data.empty_lines == "drop" else "error"
    named = _named(file, source, target)
    pairs, _ = read_pairs(source, target, named, columns=data.columns, keys=data.keys, empty=empty)
    whole = [pair for pair in pairs if pair.source and pair.target]
    found = iter(predictor.score([pair.source for pair in whole], [pair.target for pair in whole], progress))
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(PairScore))
    rows, scored = [], []
    # As many records as lines, so that they can be put beside the file.
    for line, pair in enumerate(pairs, start=1):
        if not (pair.source and pair.target):
            yield Record(_score_values(line, nothing | pair._asdict(), words))
            rows.append([str(line), "", "", "", pair.target])
            continue
        each = next(found)
        if each.cut_at is not None:
            yield Note(
                f"line {line} is longer than {each.cut_at} tokens and is scored up to there; "
                "decoding.max_source_length is the limit."
            )
        scored.append((line, each.words))
        yield Record(_score_values(line, asdict(each) | {"words": word_values(each.words)}, words))
        rows.append(
            [str(line), f"{each.log_probability:.3f}", f"{each.perplexity:.2f}", str(each.unknown), each.target]
        )
    yield Table(["line", "log-probability", "perplexity", "unknown", "target"], rows)
    if words:
        yield word_table(scored)


def _score_values(line: int, score: dict[str, Any], words: bool) -> dict[str, Any]:
    return {"line": line} | {name: value for name, value in score.items() if words or name != "words"}


def check_translate(
    beam: int | None,
    n_best: int,
    sample: bool,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    prefix: str,
    prefixes: bool,
    **others: Any,
) -> None:
    """Refuse options that do not go together."""
    if prefix and prefixes:
        raise ConfigError("--prefix is for all lines, and --prefixes for each its own: leave out one of them.")
    if beam is not None and n_best > beam and not sample:
        raise ConfigError(f"--n-best {n_best} needs a beam of as many hypotheses: raise --beam.")
    if sample and beam is not None:
        raise ConfigError("--beam is for searching: leave it out with --sample.")
    drawing = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
    for name, value in drawing.items():
        if value is not None and not sample:
            raise ConfigError(f"{name} is for drawing: give --sample too.")


def translate(
    predictor: Translator,
    lines: Iterator[str | None],
    progress: Progress,
    sample: bool,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    n_best: int,
    ban: Sequence[str] | None,
    require: Sequence[str] | None,
    attention: str | None,
    page: str | None,
    prefix: str,
    prefixes: bool,
    **search: Any,
) -> Iterator[Output]:
    """Lines in, translations out."""
    search |= {"n_best": n_best, "banned": ban or [], "required": require or [], "seed": seed or 0}
    if sample:
        search["sampling"] = SamplingOptions(1.0 if temperature is None else temperature, top_k, top_p)
    folder = None if attention is None else Path(attention)
    for flag, given in (("--attention", attention), ("--page", page)):
        if given is not None and not predictor.attends:
            raise ConfigError(f"{flag}: a model with model.attention none has no attention to show; leave it out.")
    if folder is not None:
        _make_folder(folder)
    if page is not None:
        predictor.refuse_own_file(page)
    shown: list[Aligned] = []
    room = MOST_WEIGHTS
    done = 0
    for group in groups(lines):
        sentences, begun = _parted(group) if prefixes else (group, prefix)
        answers = predictor.translate(sentences, prefix=begun, first=done, progress=after(done, progress), **search)
        for answer in answers:
            done += 1
            yield from _shown(done, answer, n_best)
            if folder is not None:
                _write_attention(folder, done, answer)
            if page is None or room < 0:
                continue
            for pair in _aligned(done, answer):
                room -= pair.weights.size
                if room >= 0:
                    shown.append(pair)
                else:
                    yield Note(f"the page is full: it ends before line {done}.")
    if page is not None:
        write_attention(page, "What each word of a translation looks at", shown)


def _aligned(line: int, translation: Translation) -> list[Aligned]:
    """The best translation of a line with its attention; none where there is no translation."""
    best = translation.alternatives[0] if translation.alternatives else None
    if best is None or best.weights is None:
        return []
    return [Aligned(line, best.text, best.source_pieces, best.target_pieces, best.weights)]


def _parted(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sentences, and what their translations begin with: what stands after the first tab of each line."""
    parts = [line.partition("\t") for line in lines]
    return [sentence for sentence, _, _ in parts], [prefix for _, _, prefix in parts]


def _shown(line: int, translation: Translation, n_best: int) -> Iterator[Output]:
    if translation.cut_at is not None:
        yield Note(
            f"line {line} is longer than {translation.cut_at} tokens and is translated up to there; "
            "decoding.max_source_length is the limit."
        )
    if translation.unmet:
        yield Note(
            f"line {line}: no translation meets the constraints; ask for fewer required, banned or unrepeated words, "
            "or for another prefix or other lengths."
        )
    texts = [
        {
            "text": each.text,
            "log_probability": each.log_probability,
            "score": each.score,
            "alignment": each.pharaoh,
            "words": word_values(each.words),
        }
        for each in translation.alternatives
    ]
    value = {
        "line": line,
        "source": translation.source,
        "translation": translation.best,
        "alternatives": texts,
        "cut_at": translation.cut_at,
        "unmet": translation.unmet,
    }
    if n_best == 1:
        yield Record(value, translation.best)
        return
    several = [f"{line}\t{each.text}\t{each.score:.4f}" for each in translation.alternatives]
    yield Record(value, "\n".join(several) or f"{line}\t\t")


def _named(file: str, source: str | None, target: str | None) -> str | None:
    # Standard input is for pairs where someone or something feeds it, and not where it would be waited for.
    return None if file == "-" and (source or target or sys.stdin.isatty()) else file


def _require(source: str | None, target: str | None, pairs: str | None) -> None:
    if pairs is not None and (source or target):
        raise ConfigError("name a file of pairs, or --source and --target, not both.")
    if pairs is None and (source is None or target is None):
        raise ConfigError(
            "Missing options '--source' and '--target': name sentences and translations, or a file of pairs."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What was shown of another text would be taken for this one's.
        for old in folder.iterdir():
            if _SHOWN.fullmatch(old.name):
                old.unlink()
        (folder / "alignments.txt").write_text("")
    except OSError as error:
        raise ConfigError(
            f"--attention {folder}: cannot be written ({error.strerror}); name another folder."
        ) from error


def _write_attention(folder: Path, line: int, translation: Translation) -> None:
    """attention-LINE.png and .json of the best translation, and its alignment in alignments.txt."""
    best = translation.alternatives[0] if translation.alternatives else None
    try:
        with open(folder / "alignments.txt", "a", encoding="utf-8") as file:
            file.write((best.pharaoh if best is not None else "") + "\n")
        if best is None or best.weights is None:
            return
        stem = f"attention-{line:05}"
        text = json.dumps(best.attention(), ensure_ascii=False)
        (folder / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        draw_attention(folder / f"{stem}.png", best.weights, best.source_pieces, best.target_pieces)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written {unwritten(error)}.") from error
