"""The simple baselines that every result of text classification is compared with: TF-IDF and a linear model.

    python experiments/baselines_classification.py nsmc --train ratings_train.txt --test ratings_test.txt
    python experiments/baselines_classification.py banking77 --train train.csv --test test.csv
    python experiments/baselines_classification.py vader-film --ratings movieReviewSnippets_GroundTruth.txt
    python experiments/baselines_classification.py vader-product --ratings amazonReviewSnippets_GroundTruth.txt

It needs scikit-learn: pip install 'recurra[experiments]'. How strongly a model is held back is chosen on a part held
out of the training part, and then the model is trained on all of it; the test part is read once, at the end. Results go
to experiments/results, see experiments/baselines.py.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from baselines import (
    RESULTS,
    class_counts,
    compared,
    compared_by_mcnemar,
    described,
    macro_f1,
    measured,
    missing,
    pearson,
    products,
    timed,
    write_predictions,
    write_readme,
    write_results,
)
from vader_folds import FOLDS, SEED, folds, read_ratings

try:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import FeatureUnion
    from sklearn.svm import LinearSVC
except ImportError as error:
    raise missing("scikit-learn", error) from error

PACKAGES = ("scikit-learn", "scipy", "numpy")
HELD_OUT = 0.1
"""Share of the training part that the strength is chosen on."""

# A word, or a single other sign: "!" says something about a review.
WORD = r"\w+|[^\w\s]"


class Baseline(NamedTuple):
    """A linear model on TF-IDF features, at several strengths.

    Attributes:
        title: what a table calls it.
        features: makes what turns texts into features.
        model: from a strength to an untrained model.
        strengths: those to choose from; C of a classifier, alpha of ridge regression.
    """

    title: str
    features: Callable[[], Any]
    model: Callable[[float], Any]
    strengths: Sequence[float]


def words(longest: int = 2) -> Any:
    """TF-IDF of runs of 1 to `longest` words."""
    return TfidfVectorizer(token_pattern=WORD, ngram_range=(1, longest), sublinear_tf=True, dtype=np.float32)


def characters(longest: int, kind: str = "char") -> Any:
    """TF-IDF of runs of characters; of kind char_wb they stay within a word."""
    least = 1 if kind == "char" else 2
    return TfidfVectorizer(analyzer=kind, ngram_range=(least, longest), sublinear_tf=True, dtype=np.float32)


def words_and_characters() -> Any:
    return FeatureUnion([("words", words()), ("characters", characters(5, "char_wb"))])


def svm(strength: float) -> Any:
    return LinearSVC(C=strength, random_state=1)


def logistic(strength: float) -> Any:
    return LogisticRegression(C=strength, max_iter=1000)


def ridge(strength: float) -> Any:
    return Ridge(alpha=strength, solver="lsqr", tol=1e-6)


def accuracy(predicted: np.ndarray, gold: np.ndarray) -> float:
    return float((predicted == gold).mean())


def correlation(predicted: np.ndarray, gold: np.ndarray) -> float:
    return float(np.corrcoef(predicted, gold)[0, 1])


def try_strengths(
    baseline: Baseline, texts: Any, gold: np.ndarray, train: np.ndarray, held: np.ndarray, measure: Callable[..., float]
) -> dict[float, float]:
    """The measure on held-out examples, for each strength; features see the training examples alone."""
    features = baseline.features()
    x = features.fit_transform(texts[train])
    held_x = features.transform(texts[held])
    return {
        strength: measure(baseline.model(strength).fit(x, gold[train]).predict(held_x), gold[held])
        for strength in baseline.strengths
    }


def best(tried: dict[float, float]) -> float:
    """The strength with the best measure; of equals the first."""
    return max(tried, key=lambda strength: tried[strength])


def train_and_predict(
    baseline: Baseline, texts: Any, gold: np.ndarray, asked: Any, seconds: dict[str, float]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Choose a strength on a random tenth, train on everything, and answer what is asked."""
    order = np.random.default_rng(1).permutation(len(texts))
    held, train = np.split(order, [round(HELD_OUT * len(texts))])
    with timed(seconds, "choose"):
        tried = try_strengths(baseline, texts, gold, train, held, accuracy)
    with timed(seconds, "train"):
        features = baseline.features()
        model = baseline.model(best(tried)).fit(features.fit_transform(texts), gold)
    with timed(seconds, "predict"):
        predicted = model.predict(features.transform(asked))
    return predicted, settings(features, model, tried)


def settings(features: Any, model: Any, tried: dict[float, float]) -> dict[str, Any]:
    parts = dict(features.transformer_list) if isinstance(features, FeatureUnion) else {"texts": features}
    return {
        "features": {name: str(part).replace("\n", "").replace("  ", "") for name, part in parts.items()},
        "number_of_features": sum(len(part.vocabulary_) for part in parts.values()),
        "model": str(model),
        "chosen": best(tried),
        "held_out": {str(strength): round(value, 5) for strength, value in tried.items()},
    }


def as_texts(texts: Sequence[str]) -> np.ndarray:
    return np.array(texts, dtype=object)


def read_nsmc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Texts and labels of a file with a header and the columns id, document and label; a text may be empty."""
    # Only \n ends a line: some texts hold other signs that Python counts as ends of lines.
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")[1:]
    rows = [line.split("\t") for line in lines]
    return as_texts([row[1] for row in rows]), np.array([int(row[2]) for row in rows])


def nsmc(options: argparse.Namespace) -> None:
    """NSMC: characters against words, with and without the test texts that stand in the training part."""
    texts, gold = read_nsmc(options.train)
    test_texts, test_gold = read_nsmc(options.test)
    known = set(texts)
    unseen = np.array([text not in known for text in test_texts])
    strengths = (0.03, 0.1, 0.3, 1.0, 3.0)
    found: dict[str, Any] = {
        "data": {"train": described(options.train), "test": described(options.test)},
        "examples": {
            "train": len(texts),
            "test": len(test_texts),
            "empty": {"train": int((texts == "").sum()), "test": int((test_texts == "").sum())},
            "test_texts_in_training": int((~unseen).sum()),
            "most_frequent_class_accuracy": float((test_gold == np.bincount(gold).argmax()).mean()),
        },
        "resampled": "test texts",
        "baselines": {},
    }
    columns, right = {}, []
    for name, baseline in {
        "characters": Baseline("characters 1-4, linear SVM", lambda: characters(4), svm, strengths),
        "words": Baseline("words, linear SVM", lambda: words(1), svm, strengths),
    }.items():
        seconds: dict[str, float] = {}
        predicted, chosen = train_and_predict(baseline, texts, gold, test_texts, seconds)
        columns[name] = predicted.tolist()
        right.append((predicted == test_gold).astype(float))
        test = {"accuracy": measured(right[-1]), "accuracy_unseen": measured(right[-1][unseen])}
        found["baselines"][name] = {"title": baseline.title, **chosen, "test": test, "cpu_seconds": seconds}
    first, second = right
    found["comparison"] = {
        "accuracy": {**compared(first, second), "mcnemar": compared_by_mcnemar(first, second)},
        "accuracy_unseen": {
            **compared(first[unseen], second[unseen]),
            "mcnemar": compared_by_mcnemar(first[unseen], second[unseen]),
        },
    }
    folder = RESULTS / "nsmc-classification"
    write_predictions(folder, columns)
    write_results(folder, found, PACKAGES)
    write_readme(
        folder,
        "Korean film reviews (NSMC), positive or negative: the simple baselines",
        {"accuracy": ("accuracy, %", 2), "accuracy_unseen": ("without texts seen in training, %", 2)},
        [
            f"The official split: {len(texts):,} training and {len(test_texts):,} test texts. "
            f"{int((~unseen).sum()):,} of the test texts also stand in the training part, so that accuracy is given "
            f"without them too. {(texts == '').sum()} training and {(test_texts == '').sum()} test texts are empty; "
            "they are kept, and get the class that the model gives to a text without features.",
            "C was chosen on a random tenth of the training part. A prediction is 1 for positive and 0 for negative.",
        ],
    )


def read_banking77(path: Path) -> tuple[np.ndarray, list[str]]:
    """Texts and names of classes of a CSV file with the columns text and category."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return as_texts([row["text"] for row in rows]), [row["category"] for row in rows]


def banking77(options: argparse.Namespace) -> None:
    """banking77: words and characters together against words alone."""
    texts, names = read_banking77(options.train)
    test_texts, test_names = read_banking77(options.test)
    labels = sorted(set(names))
    ids = {name: index for index, name in enumerate(labels)}
    gold, test_gold = (np.array([ids[name] for name in part]) for part in (names, test_names))
    strengths = (10.0, 30.0, 100.0)
    known = set(texts)
    found: dict[str, Any] = {
        "data": {"train": described(options.train), "test": described(options.test)},
        "examples": {
            "train": len(texts),
            "test": len(test_texts),
            "test_texts_in_training": sum(text in known for text in test_texts),
            "most_frequent_class_accuracy": float((test_gold == np.bincount(gold).argmax()).mean()),
        },
        "resampled": "test texts",
        "labels": labels,
        "baselines": {},
    }
    columns, right, counts = {}, [], []
    for name, baseline in {
        "words_characters": Baseline(
            "words 1-2 and characters 2-5, logistic regression", words_and_characters, logistic, strengths
        ),
        "words": Baseline("words 1-2, logistic regression", words, logistic, strengths),
    }.items():
        seconds: dict[str, float] = {}
        predicted, chosen = train_and_predict(baseline, texts, gold, test_texts, seconds)
        columns[name] = predicted.tolist()
        right.append((predicted == test_gold).astype(float))
        counts.append(class_counts(predicted, test_gold, len(labels)))
        test = {"accuracy": measured(right[-1]), "macro_f1": measured(counts[-1], macro_f1)}
        found["baselines"][name] = {"title": baseline.title, **chosen, "test": test, "cpu_seconds": seconds}
    found["comparison"] = {
        "accuracy": {**compared(*right), "mcnemar": compared_by_mcnemar(*right)},
        "macro_f1": compared(*counts, macro_f1),
    }
    folder = RESULTS / "banking77"
    write_predictions(folder, columns)
    write_results(folder, found, PACKAGES)
    write_readme(
        folder,
        "Questions to a bank (banking77), 77 intents: the simple baselines",
        {"accuracy": ("accuracy, %", 2), "macro_f1": ("macro F1", 0)},
        [
            f"The official split: {len(texts):,} training and {len(test_texts):,} test texts. Words are in runs of 1 "
            "and 2, characters in runs of 2 to 5 within a word. C was chosen on a random tenth of the training part.",
            "A prediction is the number of a class, from 0, in the alphabetical order of their names; `labels` in "
            "baseline.json is that list.",
        ],
    )


def vader(options: argparse.Namespace) -> None:
    """VADER's sentences in five folds: their sign, and their mean rating."""
    sentences = read_ratings(options.ratings)
    texts = as_texts([sentence.text for sentence in sentences])
    rating = np.array([sentence.rating for sentence in sentences])
    groups = [sentence.group for sentence in sentences]
    fold = np.array(folds(groups))
    signed, sign = rating != 0, (rating > 0).astype(int)
    strengths, alphas = (0.3, 1.0, 3.0, 10.0, 30.0), (0.1, 0.3, 1.0, 3.0, 10.0)
    texts_seen = Counter(texts)
    found: dict[str, Any] = {
        "data": {"ratings": described(options.ratings)},
        "examples": {
            "sentences": len(sentences),
            "rated_exactly_0": int((~signed).sum()),
            "groups": len(set(groups)),
            "sentences_whose_text_comes_again": sum(texts_seen[text] > 1 for text in texts),
            "folds": {"seed": SEED, "sentences": np.bincount(fold, minlength=FOLDS).tolist()},
            "most_frequent_class_accuracy": float(max(sign[signed].mean(), 1 - sign[signed].mean())),
        },
        "resampled": "reviews" if len(set(groups)) < len(groups) else "sentences",
        "baselines": {},
    }
    columns: dict[str, list[Any]] = {"fold": fold.tolist()}
    right, outcomes = [], []
    for name, title, features in (
        ("words_characters", "words 1-2 and characters 2-5", words_and_characters),
        ("words", "words 1-2", words),
    ):
        seconds: dict[str, float] = {}
        signs, ratings = np.zeros(len(texts), dtype=int), np.zeros(len(texts))
        chosen: dict[str, list[Any]] = {"sign": [], "rating": []}
        for test in range(FOLDS):
            # The fold after the test fold chooses the strength; then it is trained on with the three others.
            is_held, is_rest = fold == (test + 1) % FOLDS, fold != test
            asked = np.flatnonzero(fold == test)
            for task, baseline, gold, use, measure, answers in (
                ("sign", Baseline(title, features, logistic, strengths), sign, signed, accuracy, signs),
                ("rating", Baseline(title, features, ridge, alphas), rating, rating < np.inf, correlation, ratings),
            ):
                held, rest = np.flatnonzero(is_held & use), np.flatnonzero(is_rest & use)
                train = np.flatnonzero(is_rest & ~is_held & use)
                with timed(seconds, "choose"):
                    tried = try_strengths(baseline, texts, gold, train, held, measure)
                with timed(seconds, "train"):
                    fitted = baseline.features()
                    model = baseline.model(best(tried)).fit(fitted.fit_transform(texts[rest]), gold[rest])
                with timed(seconds, "predict"):
                    answers[asked] = model.predict(fitted.transform(texts[asked]))
                chosen[task].append(settings(fitted, model, tried))
        columns[f"{name}_sign"] = signs.tolist()
        columns[f"{name}_rating"] = [f"{value:.3f}" for value in ratings]
        right.append((signs == sign).astype(float)[signed])
        outcomes.append(products(ratings, rating))
        signed_groups = np.array(groups)[signed].tolist()
        found["baselines"][name] = {
            "title": title,
            "folds": chosen,
            "test": {
                "accuracy": measured(right[-1], groups=signed_groups),
                "pearson": measured(outcomes[-1], pearson, groups),
                "accuracy_of_folds": [
                    round(accuracy(signs[of], sign[of]), 5)
                    for of in (np.flatnonzero((fold == test) & signed) for test in range(FOLDS))
                ],
                "pearson_of_folds": [
                    round(correlation(ratings[fold == test], rating[fold == test]), 5) for test in range(FOLDS)
                ],
            },
            "cpu_seconds": seconds,
        }
    found["comparison"] = {
        "accuracy": {**compared(*right, groups=signed_groups), "mcnemar": compared_by_mcnemar(*right)},
        "pearson": compared(*outcomes, pearson, groups),
    }
    folder = RESULTS / options.set
    write_predictions(folder, columns)
    write_results(folder, found, PACKAGES)
    film = options.set == "vader-film"
    write_readme(
        folder,
        f"VADER's {'film' if film else 'product'} sentences, sign and mean rating: the simple baselines",
        {"accuracy": ("accuracy of the sign, %", 2), "pearson": ("Pearson, rating", 0)},
        [
            f"{len(sentences):,} sentences"
            + ("" if film else f" of {len(set(groups))} reviews")
            + ", each with the mean of at least 20 raters. There is no split, so each of five folds is the test part "
            "once; the figures are over the sentences of all five together. "
            + ("" if film else "Sentences of a review are in one fold. McNemar's test takes sentences as independent, ")
            + ("" if film else "which those of a review are not; the bootstrap draws whole reviews. ")
            + "`experiments/vader_folds.py` draws the folds, the same for everyone.",
            f"The sign is told by logistic regression, the rating by ridge regression. The {int((~signed).sum())} "
            "sentences rated exactly 0 have no sign: they are left out of training and test of the sign, and kept for "
            "the rating. Strengths were chosen for each fold, on the fold after it, by a model trained on the three "
            "others.",
            "The predictions' columns are the fold of the sentence, then of each baseline the sign (1 positive, 0 "
            "negative; for a sentence rated 0 too, where it counts for nothing) and the rating.",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = parser.add_subparsers(dest="set", required=True)
    for name, run, files in (
        ("nsmc", nsmc, ("train", "test")),
        ("banking77", banking77, ("train", "test")),
        ("vader-film", vader, ("ratings",)),
        ("vader-product", vader, ("ratings",)),
    ):
        one = sets.add_parser(name)
        for file in files:
            one.add_argument(f"--{file}", type=Path, required=True)
        one.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
