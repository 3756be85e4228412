"""The n-gram model against Witten & Bell's formula written as a recursion over dictionaries."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from recurra.comparison.ngram import NGram, best_order
from recurra.errors import DataError

EOS, VOCABULARY = 1, 5


def lines(seed: int, count: int) -> list[list[int]]:
    generator = random.Random(seed)
    return [[generator.choice([0, 2, 2, 2, 3]) for _ in range(generator.randrange(7))] for _ in range(count)]


def oracle(train: list[list[int]], order: int, history: tuple[int, ...], token: int) -> float:
    """P(token | the last order - 1 tokens of history), every count taken anew from the text."""

    def mixed(length: int) -> float:
        if length < 0:
            return 1 / VOCABULARY
        context = history[len(history) - length :]
        follows: Counter[int] = Counter()
        for line in train:
            padded = [EOS] * (order - 1) + line + [EOS]
            for place in range(order - 1, len(padded)):
                if tuple(padded[place - length : place]) == context:
                    follows[padded[place]] += 1
        shorter = mixed(length - 1)
        total = sum(follows.values())
        return shorter if not total else (follows[token] + len(follows) * shorter) / (total + len(follows))

    return mixed(order - 1)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_witten_and_bells(order: int) -> None:
    train, held = lines(1, 12), [*lines(2, 6), [4, 2, 4], []]
    model = NGram(train, VOCABULARY, EOS, order)
    found = model.nats(held)
    assert [len(each) for each in found] == [len(line) + 1 for line in held]
    for line, nats in zip(held, found, strict=True):
        padded = [EOS] * (order - 1) + line
        for place, token in enumerate([*line, EOS]):
            expected = oracle(train, order, tuple(padded[: place + order - 1]), token)
            assert nats[place] == pytest.approx(-math.log(expected)), (line, place)


def test_all_lines_together_have_probability_one() -> None:
    model = NGram(lines(3, 10), VOCABULARY, EOS, 3)
    # A line of at most three tokens with its end, or three tokens and more to come.
    words = [list(each) for length in range(4) for each in itertools.product([0, 2, 3, 4], repeat=length)]
    whole = sum(math.exp(-nats.sum()) for word, nats in zip(words, model.nats(words), strict=True) if len(word) < 3)
    begun = sum(
        math.exp(-nats[:3].sum()) for word, nats in zip(words, model.nats(words), strict=True) if len(word) == 3
    )
    assert whole + begun == pytest.approx(1.0)


def test_a_line_alone_and_among_others_is_the_same() -> None:
    model, held = NGram(lines(4, 20), VOCABULARY, EOS, 4), lines(5, 9)
    alone = [model.nats([line])[0] for line in held]
    for one, two in zip(alone, model.nats(held), strict=True):
        assert np.array_equal(one, two)


def test_ids_as_arrays_and_large_vocabularies() -> None:
    text = [np.array([70_000, 5, 70_000], dtype=np.uint32)] * 3
    model = NGram(text, 1_000_000, EOS, 8)
    assert np.concatenate(model.nats(text)).mean() < 1.0


def test_the_order_is_the_best_on_validation() -> None:
    # Each token follows from the two before it, so that three tell all.
    rule = [[2, 3, 3, 2] * 4, [3, 3, 2, 2] * 4, [0, 2, 3, 3, 2, 2, 3]]
    train, valid = rule * 4, [line[1:] for line in rule]
    losses = {order: np.concatenate(NGram(train, VOCABULARY, EOS, order).nats(valid)).sum() for order in range(1, 7)}
    assert best_order(train, valid, VOCABULARY, EOS, range(1, 7)).order == min(losses, key=losses.__getitem__) > 1


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DataError, match="at least one line"):
        NGram([], VOCABULARY, EOS)
    with pytest.raises(DataError, match="at least 1"):
        NGram([[0]], VOCABULARY, EOS, 0)
