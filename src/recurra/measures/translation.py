"""How good translations are: BLEU and chrF as sacreBLEU counts them, exact matches, and the ratio of lengths."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.sentences import SentenceTokenizer
from ..errors import ConfigError

__all__ = ["Measures", "bleu_counts", "bleu_of_sums", "measure", "require_sacrebleu"]

Array = npt.NDArray[Any]


class Measures(NamedTuple):
    """Of a list of translations; `signatures` tell exactly how BLEU and chrF were counted.

    Attributes:
        bleu: sacreBLEU's default, 0 to 100: cased, tokenised by "13a" (Post 2018) or as asked.
        bleu_tokenized: lower-cased, of the text as its own white space parts it, without smoothing: what
            multi-bleu.perl -lc counts of tokenised text.
        chrf: chrF2, 0 to 100 (Popovic 2015).
        exact: share of translations that are the reference.
        length_ratio: words of all translations over words of all references.
        signatures: by measure.
    """

    bleu: float
    bleu_tokenized: float
    chrf: float
    exact: float
    length_ratio: float
    signatures: dict[str, str]


def require_sacrebleu(tokenizer: str = "13a") -> None:
    """Check that sacreBLEU and one of its tokenizers are there, before the work that needs them.

    Raises:
        ConfigError: if it is not installed, or lacks what the tokenizer needs.
    """
    _bleu(tokenizer)


def _bleu(tokenizer: str) -> Any:
    if importlib.util.find_spec("sacrebleu") is None:
        raise ConfigError(
            "BLEU and chrF need sacreBLEU, which is not installed; run: pip install 'recurra[translation]', or set "
            "training.translate_valid=0."
        )
    from sacrebleu.metrics import BLEU

    try:
        # Forced, for tokenised text is measured too, and a warning at every evaluation that it is says nothing new.
        return BLEU(tokenize=tokenizer, force=True)
    except Exception as error:  # each of its tokenizers fails in its own way
        extra = {"ja-mecab": "ja", "ko-mecab": "ko"}.get(tokenizer)
        advice = f"run: pip install 'sacrebleu[{extra}]'" if extra else "name another"
        raise ConfigError(f"training.bleu_tokenizer: sacreBLEU's {tokenizer} cannot be used here; {advice}.") from error


def measure(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenizer: str = "13a",
    normalized_by: SentenceTokenizer | None = None,
) -> Measures:
    """Measure translations against one reference each.

    Args:
        hypotheses, references: as many of both, compared as they are.
        tokenizer: sacreBLEU's, for `bleu`.
        normalized_by: brings both into the form that it writes before they are compared, and its words are those of
            `bleu_tokenized`; the signatures then end with what it does. Such values are not those of the references as
            they were given, and compare with no others.

    Raises:
        ConfigError: if sacreBLEU is not installed, or lacks what the tokenizer needs.
    """
    bleu = _bleu(tokenizer)
    from sacrebleu.metrics import BLEU, CHRF

    texts, expected = list(hypotheses), list(references)
    words: Callable[[str], str] = lambda text: text  # noqa: E731
    mark = ""
    if normalized_by is not None:
        texts, expected = ([normalized_by.reference(text) for text in side] for side in (texts, expected))
        words, mark = normalized_by.words, f"|norm:{normalized_by.form}"
    kinds: dict[str, Any] = {
        "bleu": bleu,
        "bleu_tokenized": BLEU(lowercase=True, tokenize="none", smooth_method="none", force=True),
        "chrf": CHRF(),
    }
    parted = {"bleu_tokenized": ([words(text) for text in texts], [[words(text) for text in expected]])}
    scores = {name: kind.corpus_score(*parted.get(name, (texts, [expected]))).score for name, kind in kinds.items()}
    counts = [sum(len(text.split()) for text in side) for side in (texts, expected)]
    return Measures(
        scores["bleu"],
        scores["bleu_tokenized"],
        scores["chrf"],
        exact(texts, expected),
        counts[0] / max(counts[1], 1),
        {name: f"{kind.get_signature()}{mark}" for name, kind in kinds.items()},
    )


def bleu_counts(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenizer: str = "13a",
    normalized_by: SentenceTokenizer | None = None,
) -> Array:
    """What BLEU is made of, for each translation: (N, 10), whose sums `bleu_of_sums` turns into the BLEU of all.

    The numbers are the words of the translation and of its reference, the n-grams for n from 1 to 4 that the reference
    has too, and all n-grams of the translation.

    Args:
        hypotheses, references, tokenizer, normalized_by: as `measure` takes them.

    Raises:
        ConfigError: if sacreBLEU is not installed, or lacks what the tokenizer needs.
    """
    bleu = _bleu(tokenizer)
    texts, expected = list(hypotheses), list(references)
    if normalized_by is not None:
        texts, expected = ([normalized_by.reference(text) for text in side] for side in (texts, expected))
    scores = (bleu.corpus_score([text], [[other]]) for text, other in zip(texts, expected, strict=True))
    return np.array([[each.sys_len, each.ref_len, *each.counts, *each.totals] for each in scores], dtype=np.float64)


def bleu_of_sums(sums: Array) -> Array:
    """BLEU, 0 to 100, of sums of `bleu_counts`: (..., 10) to (...), as sacreBLEU counts it by default.

    Papineni, Roukos, Ward & Zhu 2002, "BLEU: a method for automatic evaluation of machine translation". The n-th length
    without a single match counts as 1 / 2^k of one, k being the place among such lengths (Chen & Cherry 2014,
    smoothing 3, "exp").
    """
    words, wanted, counts, totals = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:10]
    missing = (counts == 0) & (totals > 0)
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), counts)
    # Texts too short for any n-gram of a length leave no precision of it, and no BLEU.
    whole = (totals > 0).all(axis=-1) & (counts[..., 0] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals).mean(axis=-1)
        brevity = np.minimum(0.0, 1.0 - wanted / words)
    found: Array = np.where(whole, 100.0 * np.exp(np.where(whole, logs + brevity, 0.0)), 0.0)
    return found


def exact(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Share of translations that are the reference, white space aside."""
    same = sum(one.split() == other.split() for one, other in zip(hypotheses, references, strict=True))
    return same / max(len(references), 1)
