"""What is fused with a recogniser, against all paths and a plain count of gains over whole label sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.decoding.ctc import CTCOptions, CTCStream, ctc_beam_search
from recurra.decoding.hotwords import Hotwords
from recurra.decoding.language_model_scorer import LanguageModelScorer
from recurra.decoding.lexicon import Lexicon
from recurra.decoding.recognized import WordMarks
from recurra.errors import ConfigError

from .all_paths import Bigrams, Labels, all_paths, random_frames

# The blank, a separator and three letters.
SPACE, A, B, C = 1, 2, 3, 4
SIZE = 5


def wide(**changes: Any) -> CTCOptions:
    return CTCOptions(**({"beam": 4000, "n_best": 4000, "least_probability": 0.0, "most_behind": math.inf} | changes))


def compare(frames: Tensor, gain: Callable[[Labels], float], scorers: Sequence[Any], bonus: float = 0.0) -> int:
    """Every label sequence and its score; those whose gain is minus infinity must not come out."""
    expected = {labels: spelt.log_probability for labels, spelt in all_paths(frames).items()}
    scores = {labels: value + gain(labels) + bonus * len(labels) for labels, value in expected.items()}
    scores = {labels: score for labels, score in scores.items() if score > -math.inf}
    (found,) = ctc_beam_search([frames], wide(label_bonus=bonus), scorers)
    assert {tuple(each.labels) for each in found} == set(scores)
    for each in found:
        assert each.log_probability == pytest.approx(expected[tuple(each.labels)], abs=1e-10)
        assert each.score == pytest.approx(scores[tuple(each.labels)], abs=1e-10)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    return len(found)


@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_language_model_counts_each_label_once(seed: int, end: int | None) -> None:
    tokens = [-1, 4, 1, 2]
    model = Bigrams(seed, 6)
    scorer = LanguageModelScorer(model, tokens, 0.7, end=end, before=[5])

    def gain(labels: Labels) -> float:
        # A model that has read token 5 before.
        spelling = [5, *(tokens[label] for label in labels)]
        return 0.7 * (model.score(spelling, end) - model.score([5]))

    assert compare(random_frames(seed, 5, 4), gain, [scorer], bonus=0.4) > 100


def test_a_language_model_is_read_only_where_a_hypothesis_grows() -> None:
    model = Bigrams(1, 4)
    stream = CTCStream(3, CTCOptions(beam=2, least_probability=0.01), [LanguageModelScorer(model, [-1, 1, 2])])
    # Two hypotheses grow at the last label: with one label before it, and with two.
    for label, read in ((0, []), (1, [[1]]), (1, []), (0, []), (1, [[1001]]), (2, [[1002, 1002]]), (2, []), (0, [])):
        model.read.clear()
        stream.feed(torch.full((1, 3), 0.004).index_fill(1, torch.tensor([label]), 0.992).log())
        assert model.read == read


def test_a_label_without_a_token_never_comes_out() -> None:
    model = Bigrams(1, 3)
    scorer = LanguageModelScorer(model, [-1, 2, -1])
    compare(
        random_frames(1, 4, 3), lambda labels: -math.inf if 2 in labels else model.score([2] * len(labels)), [scorer]
    )


def test_two_models_add_up() -> None:
    one, other = Bigrams(2, 3), Bigrams(3, 3)
    scorers = [LanguageModelScorer(one, [-1, 1, 2], 0.3), LanguageModelScorer(other, [-1, 2, 1], 0.5)]
    swapped = {1: 2, 2: 1}
    compare(
        random_frames(4, 5, 3),
        lambda labels: 0.3 * one.score(labels) + 0.5 * other.score([swapped[label] for label in labels]),
        scorers,
    )


WORDS = [[A, B], [A], [B, A, A], [C], [B]]


def is_sentence(labels: Labels, separator: int | None) -> bool:
    """Whether words spell the labels, word after word."""
    if not labels:
        return True
    for word in WORDS:
        size = len(word)
        if list(labels[:size]) != word:
            continue
        rest = labels[size:]
        if separator is not None and rest:
            if rest[0] != separator or len(rest) == 1:
                continue
            rest = rest[1:]
        if is_sentence(rest, separator):
            return True
    return False


@pytest.mark.parametrize("separator", [None, SPACE])
@pytest.mark.parametrize("seed", range(3))
def test_only_words_of_a_lexicon_come_out(seed: int, separator: int | None) -> None:
    lexicon = Lexicon(WORDS, SIZE, separator)
    frames = random_frames(seed, 4, SIZE)
    count = compare(frames, lambda labels: 0.0 if is_sentence(labels, separator) else -math.inf, [lexicon])
    assert count > 10


def test_gains_that_were_forgotten_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = random_frames(3, 30, SIZE)
    marks = WordMarks(SPACE)

    def found() -> Any:
        return ctc_beam_search([frames], None, [Lexicon(WORDS, SIZE, SPACE), Hotwords([([B, A, A], 2.0)], SIZE, marks)])

    whole = found()
    monkeypatch.setattr("recurra.decoding.lexicon._MOST_ROWS", 1)
    monkeypatch.setattr("recurra.decoding.hotwords._MOST_ROWS", 1)
    assert found() == whole


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_a_narrow_beam_with_a_lexicon_always_gives_something(beam: int) -> None:
    lexicon = Lexicon([[A, B, C, A, B, C], [C, C]], SIZE, SPACE)
    for seed in range(10):
        (found,) = ctc_beam_search([random_frames(seed, 9, SIZE)], CTCOptions(beam=beam, n_best=beam), [lexicon])
        assert found and len(found) <= beam
        for each in found:
            words = "".join(map(str, each.labels)).split(str(SPACE))
            assert not each.labels or set(words) <= {f"{A}{B}{C}{A}{B}{C}", f"{C}{C}"}


def occurrences(labels: Labels, phrase: Sequence[int], marks: WordMarks | None) -> int:
    """How often a phrase is in labels, as whole words if words are marked."""
    count = 0
    for start in range(len(labels) - len(phrase) + 1):
        if list(labels[start : start + len(phrase)]) != list(phrase):
            continue
        end = start + len(phrase)
        if marks is not None:
            begins = start == 0 or labels[start - 1] == marks.separator or labels[start] in marks.beginning
            ends = end == len(labels) or labels[end] == marks.separator or labels[end] in marks.beginning
            if not begins or not ends:
                continue
        count += 1
    return count


PHRASE = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3)
MARKS = {"anywhere": None, "separator": WordMarks(SPACE), "beginning": WordMarks(None, {A})}


@pytest.mark.parametrize("name", MARKS)
@given(
    seed=st.integers(0, 1000),
    phrases=st.lists(
        st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3), min_size=1, max_size=3, unique_by=tuple
    ),
)
@settings(max_examples=6)
def test_a_hotword_counts_as_often_as_it_comes_out_whole(name: str, seed: int, phrases: list[list[int]]) -> None:
    marks = MARKS[name]
    if name == "beginning":
        phrases = [[A, *(label for label in phrase if label != A)] for phrase in phrases]
        phrases = [list(phrase) for phrase in sorted({tuple(phrase) for phrase in phrases})]
    bonuses = [1.0 + place for place in range(len(phrases))]
    hotwords = Hotwords(zip(phrases, bonuses, strict=True), SIZE, marks)

    def gain(labels: Labels) -> float:
        return sum(b * occurrences(labels, phrase, marks) for phrase, b in zip(phrases, bonuses, strict=True))

    compare(random_frames(seed, 4, SIZE), gain, [hotwords])


def walk(scorer: Any, labels: Sequence[int]) -> tuple[list[float], float]:
    """The sum of gains after each label, and at the end."""
    gains, state = scorer.begin()
    total, totals = 0.0, []
    for label in labels:
        total += gains[label]
        (gains,), (state,) = scorer.advance([label], [state])
        totals.append(total)
    return totals, total + scorer.ending(state)


def test_a_part_of_the_bonus_is_lent_and_taken_back_where_the_phrase_breaks_off() -> None:
    hotwords = Hotwords([([A, B, C], 3.0), ([A, SPACE, A], 4.0)], SIZE, WordMarks(SPACE))
    # Of the fourth part, the end of the word, three quarters of the bonus are lent before.
    assert walk(hotwords, [A, B, C]) == ([pytest.approx(1.0), pytest.approx(1.5), pytest.approx(2.25)], 3.0)
    assert walk(hotwords, [A, B, C, SPACE])[0][-1] == pytest.approx(3.0)
    assert walk(hotwords, [A, B, C, C]) == ([pytest.approx(1.0), pytest.approx(1.5), pytest.approx(2.25), 0.0], 0.0)
    assert walk(hotwords, [A, B])[1] == pytest.approx(0.0)
    assert walk(hotwords, [C, A, B, C])[1] == pytest.approx(0.0)
    assert walk(hotwords, [A, SPACE, A, SPACE, A])[1] == pytest.approx(8.0)
    assert walk(Hotwords([([A], 1.0)], SIZE), [B, C]) == ([0.0, 0.0], 0.0)


def test_a_hotword_wins_only_where_it_is_said() -> None:
    # "b" is likelier than "c" by 0.4 nats; the bonus is for "ac".
    frames = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.6, 0.4], [1.0, 0.0, 0.0, 0.0, 0.0]]).log()
    for bonus, expected in ((0.3, [A, B]), (0.5, [A, C])):
        (best,) = ctc_beam_search([frames], None, [Hotwords([([A, C], bonus)], SIZE, WordMarks(SPACE))])[0]
        assert best.labels == expected
    # A bonus for a longer word that "ac" begins is no bonus for "ac", however high it is.
    (best,) = ctc_beam_search([frames], None, [Hotwords([([A, C, B, B], 50.0)], SIZE, WordMarks(SPACE))])[0]
    assert best.labels == [A, B]


def test_all_of_them_together() -> None:
    model = Bigrams(7, SIZE)
    scorers = [
        LanguageModelScorer(model, [-1, 1, 2, 3, 4], 0.5, end=0),
        Lexicon(WORDS, SIZE, SPACE),
        Hotwords([([A, B], 2.0), ([C, SPACE, A], 1.0)], SIZE, WordMarks(SPACE)),
    ]

    def gain(labels: Labels) -> float:
        if not is_sentence(labels, SPACE):
            return -math.inf
        hot = 2.0 * occurrences(labels, [A, B], WordMarks(SPACE)) + occurrences(labels, [C, SPACE, A], WordMarks(SPACE))
        return 0.5 * model.score(labels, 0) + hot

    compare(random_frames(8, 4, SIZE), gain, scorers, bonus=-0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lexicon([], SIZE), "the lexicon has no words"),
        (lambda: Lexicon([[1], []], SIZE), r"must have labels from 0 to 4, not \[\]"),
        (lambda: Lexicon([[5]], SIZE), r"not \[5\]"),
        (lambda: Hotwords([([], 1.0)], SIZE), "a hotword must have labels"),
        (lambda: Hotwords([([7], 1.0)], SIZE), "a hotword must have labels"),
        (lambda: Hotwords([([SPACE], 1.0)], SIZE, WordMarks(SPACE)), "labels besides separators"),
        (lambda: Hotwords([([1], 0.0)], SIZE), "bonus of a hotword must be above 0"),
        (lambda: Hotwords([([1], math.nan)], SIZE), "bonus of a hotword must be above 0"),
        (lambda: LanguageModelScorer(Bigrams(1, 3), [0, 1], 0.0), "weight of a language model must be above 0"),
        (lambda: LanguageModelScorer(Bigrams(1, 3), [0, 3]).begin(), "beyond the 3 tokens"),
        (lambda: LanguageModelScorer(Bigrams(1, 3), [0, 1], end=3).begin(), "beyond the 3 tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_scorer_of_other_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="gains for 4 labels, and the recogniser has 5"):
        CTCStream(SIZE, None, [Lexicon([[1]], 4)])
