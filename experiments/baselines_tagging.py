"""The simple baselines that every result of tagging is compared with: each word's most frequent tag, and a linear CRF.

    python experiments/baselines_tagging.py ewt-upos --train en_ewt-ud-train.conllu --dev en_ewt-ud-dev.conllu
                                                     --test en_ewt-ud-test.conllu
    python experiments/baselines_tagging.py gsd-upos --train ko_gsd-ud-train.conllu --dev ko_gsd-ud-dev.conllu
                                                     --test ko_gsd-ud-test.conllu

It needs python-crfsuite: pip install 'recurra[experiments]'. Models learn from the training part alone. The CRF's L1
and L2 penalties are chosen on the dev part, and the test part is read once, at the end. Results go to
experiments/results, see experiments/baselines.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from baselines import (
    RESULTS,
    compared,
    compared_by_mcnemar,
    described,
    measured,
    missing,
    timed,
    write_predictions,
    write_readme,
    write_results,
)

try:
    import pycrfsuite
except ImportError as error:
    raise missing("python-crfsuite", error) from error

PACKAGES = ("python-crfsuite", "numpy")
TITLES = {"ewt-upos": "English word classes (UD EWT)", "gsd-upos": "Korean word classes (UD GSD)"}

# L1 and L2 penalties to choose from.
PENALTIES = ["0,0.1", "0,1", "0.1,0.01", "0.3,0.01", "0.5,0.1"]


class Sentence(NamedTuple):
    """The words of a sentence and the tag of each."""

    words: list[str]
    tags: list[str]


def read_conllu(path: Path) -> list[Sentence]:
    """Sentences of a CoNLL-U file with their universal word classes (UPOS).

    Lines of several words (15-16) and empty nodes (8.1) are not words and have no tag: the words 15 and 16 have lines
    of their own.
    """
    sentences, words, tags = [], [], []
    # Only \n ends a line: a word may hold other signs that Python counts as ends of lines.
    for line in [*path.read_bytes().decode("utf-8").split("\n"), ""]:
        if not line.strip():
            if words:
                sentences.append(Sentence(words, tags))
            words, tags = [], []
        elif not line.startswith("#"):
            fields = line.split("\t")
            if fields[0].isdigit():
                words.append(fields[1])
                tags.append(fields[3])
    return sentences


def most_frequent_tags(sentences: Sequence[Sentence]) -> tuple[dict[str, str], str]:
    """Each word's most frequent tag, and the most frequent of all, which unknown words get.

    Of tags that a word has equally often, the more frequent one in the whole text is taken.
    """
    overall = Counter(tag for sentence in sentences for tag in sentence.tags)
    counts: dict[str, Counter[str]] = {}
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    of_word = {word: max(count, key=lambda tag: (count[tag], overall[tag], tag)) for word, count in counts.items()}
    return of_word, max(overall, key=lambda tag: (overall[tag], tag))


def shape(word: str) -> str:
    """The kinds of a word's characters: X upper case, x lower case, d digit, o a letter without case; others stay."""
    kinds = (
        "X" if sign.isupper() else "x" if sign.islower() else "d" if sign.isdigit() else "o" if sign.isalpha() else sign
        for sign in word
    )
    return "".join(kinds)


def features(words: Sequence[str]) -> list[list[str]]:
    """What the CRF sees of each word: itself, its beginnings, ends and shape, and its neighbours up to two away."""
    shapes = [shape(word) for word in words]
    short = ["".join(kind for kind, _ in groupby(one)) for one in shapes]
    lower = [word.lower() for word in words]
    rows = []
    for i, word in enumerate(words):
        row = ["bias", f"w={word}", f"l={lower[i]}", f"s={shapes[i]}", f"k={short[i]}"]
        for length in range(1, min(4, len(word)) + 1):
            row += [f"p{length}={lower[i][:length]}", f"e{length}={lower[i][-length:]}"]
        for distance in (-2, -1, 1, 2):
            at = i + distance
            if not 0 <= at < len(words):
                row.append(f"{distance}:none")
                continue
            row.append(f"{distance}:l={lower[at]}")
            if abs(distance) == 1:
                row += [f"{distance}:k={short[at]}", f"{distance}:p2={lower[at][:2]}"]
                row += [f"{distance}:e{length}={lower[at][-length:]}" for length in (1, 2, 3)]
        if i > 0:
            row.append(f"-1,0={lower[i - 1]} {lower[i]}")
        if i + 1 < len(words):
            row.append(f"0,1={lower[i]} {lower[i + 1]}")
        rows.append(row)
    return rows


def tag_all(model: Path, sentences: Sequence[Sentence]) -> Iterator[list[str]]:
    """The tags that a trained CRF gives to each sentence."""
    tagger = pycrfsuite.Tagger()
    tagger.open(str(model))
    for sentence in sentences:
        yield tagger.tag(features(sentence.words))


def share_right(predicted: Iterator[list[str]], sentences: Sequence[Sentence]) -> float:
    right = [one == two for tags, sentence in zip(predicted, sentences, strict=True)
             for one, two in zip(tags, sentence.tags, strict=True)]  # fmt: skip
    return float(np.mean(right))


def train_crf(
    train: Sequence[Sentence],
    dev: Sequence[Sentence],
    work: Path,
    seconds: dict[str, float],
    penalties: Sequence[str],
    iterations: int,
) -> tuple[Path, dict[str, Any]]:
    """The CRF of the penalties that are best on the dev part; of equals the first."""
    trainer = pycrfsuite.Trainer(verbose=False)
    with timed(seconds, "train"):
        for sentence in train:
            trainer.append(features(sentence.words), sentence.tags)
    tried: dict[str, float] = {}
    models: dict[str, Path] = {}
    taken: dict[str, float] = {}
    for c1, c2 in (map(float, pair.split(",")) for pair in penalties):
        name = f"L1 {c1:g}, L2 {c2:g}"
        models[name] = work / f"{c1}-{c2}.crfsuite"
        trainer.set_params({"c1": c1, "c2": c2, "max_iterations": iterations, "feature.possible_transitions": True})
        with timed(taken, name):
            trainer.train(str(models[name]))
            tried[name] = share_right(tag_all(models[name], dev), dev)
        print(f"{name}: {100 * tried[name]:.2f} on the dev part, {taken[name]:.0f} s", flush=True)
    chosen = max(tried, key=lambda name: tried[name])
    # The chosen model is one of those tried: nothing is trained again.
    seconds["choose"] = round(sum(taken.values()) - taken[chosen], 2)
    seconds["train"] = round(seconds["train"] + taken[chosen], 2)
    return models[chosen], {
        "algorithm": "L-BFGS",
        "most_iterations": iterations,
        "chosen": chosen,
        "dev": {name: round(value, 5) for name, value in tried.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(TITLES))
    for part in ("train", "dev", "test"):
        parser.add_argument(f"--{part}", type=Path, required=True)
    parser.add_argument("--penalties", nargs="+", default=PENALTIES, metavar="L1,L2", help="those to choose from")
    parser.add_argument("--iterations", type=int, default=150, help="of L-BFGS, at most")
    options = parser.parse_args()
    train, dev = read_conllu(options.train), read_conllu(options.dev)
    seconds: dict[str, dict[str, float]] = {"most_frequent": {}, "crf": {}}
    predicted: dict[str, list[str]] = {}
    settings: dict[str, dict[str, Any]] = {}

    with tempfile.TemporaryDirectory() as work:
        model, settings["crf"] = train_crf(
            train, dev, Path(work), seconds["crf"], options.penalties, options.iterations
        )
        with timed(seconds["most_frequent"], "train"):
            of_word, otherwise = most_frequent_tags(train)
        settings["most_frequent"] = {
            "unknown_words": otherwise,
            "dev": round(share_right(([of_word.get(word, otherwise) for word in s.words] for s in dev), dev), 5),
        }
        test = read_conllu(options.test)
        with timed(seconds["most_frequent"], "predict"):
            predicted["most_frequent"] = [of_word.get(word, otherwise) for s in test for word in s.words]
        with timed(seconds["crf"], "predict"):
            predicted["crf"] = [tag for tags in tag_all(model, test) for tag in tags]

    gold = np.array([tag for sentence in test for tag in sentence.tags])
    unknown = np.array([word not in of_word for sentence in test for word in sentence.words]).astype(float)
    sentence_of = [index for index, sentence in enumerate(test) for _ in sentence.words]
    right = {name: (np.array(tags) == gold).astype(float) for name, tags in predicted.items()}
    # Right ones and all of each word: the ratio of their sums is the accuracy.
    counts = {
        "accuracy": {name: np.stack([one, np.ones_like(one)], axis=1) for name, one in right.items()},
        "accuracy_unknown": {name: np.stack([one * unknown, unknown], axis=1) for name, one in right.items()},
        "accuracy_known": {name: np.stack([one * (1 - unknown), 1 - unknown], axis=1) for name, one in right.items()},
    }
    titles = {
        "crf": "CRF (CRFsuite) on words, beginnings, ends, shapes, neighbours",
        "most_frequent": "most frequent tag of each word",
    }
    found = {
        "data": {part: described(getattr(options, part)) for part in ("train", "dev", "test")},
        "examples": {
            part: {"sentences": len(sentences), "words": sum(len(sentence.words) for sentence in sentences)}
            for part, sentences in (("train", train), ("dev", dev), ("test", test))
        }
        | {"unknown_test_words": int(unknown.sum())},
        "resampled": "sentences",
        "labels": sorted({tag for sentence in train for tag in sentence.tags}),
        "baselines": {
            name: {
                "title": title,
                **settings[name],
                "test": {measure: measured(outcomes[name], groups=sentence_of) for measure, outcomes in counts.items()},
                "cpu_seconds": seconds[name],
            }
            for name, title in titles.items()
        },
        "comparison": {
            measure: compared(outcomes["crf"], outcomes["most_frequent"], groups=sentence_of)
            for measure, outcomes in counts.items()
        },
    }
    found["comparison"]["accuracy"]["mcnemar"] = compared_by_mcnemar(right["crf"], right["most_frequent"])
    folder = RESULTS / options.set
    write_predictions(folder, {name: predicted[name] for name in titles})
    write_results(folder, found, PACKAGES)
    write_readme(
        folder,
        f"{TITLES[options.set]}: the simple baselines",
        {
            "accuracy": ("accuracy, %", 2),
            "accuracy_unknown": ("of unknown words, %", 2),
            "accuracy_known": ("of known words, %", 2),
        },
        [
            f"Universal word classes (UPOS) of {len(gold):,} words in {len(test):,} test sentences; "
            f"{int(unknown.sum()):,} words are unknown, which is to say that the training part does not have them in "
            "the same letter case. Lines of several words (15-16) and empty nodes (8.1) of the files carry no tag and "
            "are passed over.",
            f"The simplest baseline gives an unknown word the most frequent tag of all, {otherwise}. The CRF's "
            f"penalties were chosen on the dev part ({settings['crf']['chosen']}); the training part alone taught it.",
            "The bootstrap draws whole sentences. McNemar's test takes words as independent, which those of a sentence "
            "are not.",
            "There is a prediction for each word of the test file, with no line between sentences.",
        ],
    )


if __name__ == "__main__":
    main()
