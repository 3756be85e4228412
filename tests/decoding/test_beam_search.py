"""Beam search against trying every sequence, and against a plain search that never stops early."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.decoding.beam_search import BeamOptions, beam_search
from recurra.decoding.constraints import Constraints, Progress, WordJoints
from recurra.decoding.greedy import write_outputs
from recurra.decoding.hypothesis import StepOutput, length_penalty
from recurra.decoding.sampling import SamplingOptions, sample_generators
from recurra.errors import ConfigError

EOS, V, S = 0, 4, 3


class Tables:
    """A model whose next token depends on the search, the step and the last two tokens; it attends at random too."""

    def __init__(self, searches: int, steps: int, seed: int, sharpness: float = 1.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (searches, steps + 1, V, V, V)
        self.logs = (sharpness * torch.randn(shape, generator=generator, dtype=torch.float64)).log_softmax(-1)
        self.weights = torch.rand((*shape[:-1], S), generator=generator, dtype=torch.float64).softmax(-1)
        self.rows_seen: list[int] = []

    def state(self, searches: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(1, N, 3): search, step, the token before the last; and a part that is not there."""
        return torch.tensor([[[search, 0, EOS] for search in searches]]), None  # type: ignore[return-value]

    def step(self, tokens: Tensor, state: Any) -> StepOutput:
        self.rows_seen.append(len(tokens))
        search, step, before = state[0][0].unbind(-1)
        new = torch.stack([search, step + 1, tokens], dim=-1).unsqueeze(0)
        place = (search, step, before, tokens)
        return StepOutput(self.logs[place], (new, None), self.weights[place])

    def score(self, search: int, tokens: Sequence[int], options: BeamOptions) -> tuple[float, float]:
        """Log-probability and score of a whole output."""
        before, last, total, attended = EOS, EOS, 0.0, torch.zeros(S, dtype=torch.float64)
        for step, token in enumerate([*tokens, EOS]):
            total += float(self.logs[search, step, before, last, token])
            attended += self.weights[search, step, before, last]
            before, last = last, token
        coverage = float(attended.clamp(max=1).log().sum())
        return total, total / length_penalty(
            len(tokens) + 1, options.length_penalty
        ) + options.coverage_penalty * coverage

    def attended(self, search: int, tokens: Sequence[int]) -> Tensor:
        """The weights of each step of a whole output."""
        history = [EOS, EOS, *tokens]
        return torch.stack(
            [self.weights[search, step, history[step], history[step + 1]] for step in range(len(tokens) + 1)]
        )

    def gains(self, search: int, tokens: Sequence[int]) -> list[float]:
        """The log-probability of each token and of the end."""
        history = [EOS, EOS, *tokens, EOS]
        return [
            float(self.logs[search, step, history[step], history[step + 1], history[step + 2]])
            for step in range(len(tokens) + 1)
        ]

    def all_outputs(self, search: int, longest: int, options: BeamOptions) -> list[tuple[float, tuple[int, ...]]]:
        outputs = itertools.chain.from_iterable(itertools.product(range(1, V), repeat=n) for n in range(longest + 1))
        scored = [(self.score(search, tokens, options)[1], tokens) for tokens in outputs]
        return sorted(scored, key=lambda each: -each[0])


def plain_search(model: Tables, search: int, longest: int, options: BeamOptions) -> list[tuple[float, list[int]]]:
    """The beam search of the textbook for one output, taken to the greatest length."""
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    found = []
    for step in range(longest + 1):
        candidates = []
        for total, tokens in alive:
            history = [EOS, EOS, *tokens]
            logs = model.logs[search, step, history[-2], history[-1]]
            allowed = [EOS] if step == longest else range(V)
            candidates += [(total + float(logs[token]), [*tokens, token]) for token in allowed]
        candidates.sort(key=lambda each: -each[0])
        for _, tokens in candidates[: options.beam]:
            if tokens[-1] == EOS:
                found.append((model.score(search, tokens[:-1], options)[1], tokens[:-1]))
        alive = [each for each in candidates[: 2 * options.beam] if each[1][-1] != EOS][: options.beam]
    return sorted(found, key=lambda each: -each[0])[: options.n_best]


def limits(count: int, longest: int, **options: Any) -> list[Constraints]:
    return [Constraints(longest, **options)] * count


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (1.0, 0.0), (0.6, 0.3), (2.0, 0.0)])
def test_a_beam_that_holds_everything_finds_what_trying_everything_finds(penalties: tuple[float, float]) -> None:
    longest, searches = 4, 5
    options = BeamOptions(V**longest, 7, *penalties)
    for seed in range(3):
        model = Tables(searches, longest, seed)
        found = beam_search(model.step, model.state(range(searches)), EOS, options, limits(searches, longest))
        for search, hypotheses in enumerate(found):
            expected = model.all_outputs(search, longest, options)[:7]
            assert [tuple(each.tokens) for each in hypotheses] == [tokens for _, tokens in expected]
            for each, (score, tokens) in zip(hypotheses, expected, strict=True):
                assert each.score == pytest.approx(score, rel=1e-12)
                assert each.log_probability == pytest.approx(model.score(search, tokens, options)[0], rel=1e-12)
                assert each.weights is not None and torch.equal(each.weights, model.attended(search, tokens))
                assert each.gains == pytest.approx(model.gains(search, tokens), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 2, 3, 64])
def test_narrow_beams_find_what_a_search_without_early_stopping_finds(
    block: int, width: int, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurra.decoding.beam_search._BLOCK", block)
    longest, searches = 8, 6
    options = BeamOptions(width, width, alpha)
    stopped_early = False
    for seed in range(6):
        model = Tables(searches, longest, seed)
        found = beam_search(model.step, model.state(range(searches)), EOS, options, limits(searches, longest))
        stopped_early |= sum(model.rows_seen) < searches * width * (longest + 1)
        for search, hypotheses in enumerate(found):
            expected = plain_search(model, search, longest, options)
            assert [each.tokens for each in hypotheses] == [tokens for _, tokens in expected]
            for each in hypotheses:
                assert each.weights is not None and torch.equal(each.weights, model.attended(search, each.tokens))
                assert each.gains == pytest.approx(model.gains(search, each.tokens), rel=1e-12)
    assert stopped_early or alpha == 3.0


def test_who_else_is_searched_for_changes_nothing() -> None:
    longest, searches = 7, 6
    options = BeamOptions(3, 2)
    model = Tables(searches, longest, 4)
    constraints = [Constraints(longest - search % 3, min_length=search % 2) for search in range(searches)]
    together = beam_search(model.step, model.state(range(searches)), EOS, options, constraints)
    for chosen in ([3], [5, 0], [2, 4, 1]):
        apart = beam_search(model.step, model.state(chosen), EOS, options, [constraints[index] for index in chosen])
        for index, hypotheses in zip(chosen, apart, strict=True):
            assert [(each.tokens, each.score) for each in hypotheses] == [
                (each.tokens, each.score) for each in together[index]
            ]
    assert beam_search(model.step, model.state([0]), EOS, options, []) == []


# 3 goes on with the word of 1 or 3 before it, and not with the full stop of 2.
JOINTS = WordJoints(frozenset({3}), frozenset({1, 3}), (b"", b" a", b" .", b"c"))
# 1 is two marks, which 2 and 3 are as well.
MARKS = WordJoints(frozenset(), frozenset(), (b"", b"+-", b"+", b"-"))
# 1 is a word that 2 and 3 spell as well.
SPELLINGS = WordJoints(frozenset({3}), frozenset({1, 2, 3}), (b"", b" ac", b" a", b"c"))


def permitted(tokens: Sequence[int], constraint: Constraints) -> bool:
    """The constraints read again, on a whole output."""
    row = tuple(tokens)

    def holds(sequence: tuple[int, ...]) -> bool:
        if constraint.joints is not None:
            text, word = (
                b"".join(constraint.joints.texts[token] for token in each).decode() for each in (row, sequence)
            )
            before = r"(?<!\w)" if word[0] == "c" else ""
            return re.search(before + re.escape(word) + r"(?!(?<=\w)\w)", text) is not None
        return any(row[i : i + len(sequence)] == sequence for i in range(len(row)))

    runs = [row[i : i + constraint.no_repeat] for i in range(len(row) - constraint.no_repeat + 1)]
    return (
        constraint.min_length <= len(row) <= constraint.max_length
        and row[: len(constraint.prefix)] == constraint.prefix
        and not any(holds(each) for each in constraint.banned)
        and all(holds(each) for each in constraint.required)
        and (not constraint.no_repeat or len(set(runs)) == len(runs))
    )


CONSTRAINTS = [
    Constraints(4, min_length=3),
    Constraints(4, prefix=(2, 3)),
    Constraints(4, banned=((1,), (2, 3), (3, 2, 2))),
    Constraints(4, no_repeat=1),
    Constraints(4, no_repeat=2, min_length=2),
    Constraints(4, required=((2,),)),
    Constraints(4, required=((3, 1), (2,)), banned=((1, 1),)),
    Constraints(4, required=((3, 3, 1, 2),)),
    Constraints(0),
    *(
        Constraints(4, joints=JOINTS, **words)  # type: ignore[arg-type]
        for words in (
            {"required": ((1,),)},
            {"required": ((3,),)},
            {"required": ((1, 3), (2,))},
            {"required": ((1,), (1, 3))},
            {"banned": ((1,), (1, 3))},
            {"banned": ((2,), (3,))},
            {"banned": ((1, 2),), "required": ((1,),)},
            {"banned": ((1,),), "prefix": (1,)},
        )
    ),
    *(Constraints(4, joints=SPELLINGS, banned=words) for words in (((1,),), ((1, 2),), ((2, 3, 3),), ((1, 1), (2,)))),
    *(Constraints(4, joints=MARKS, banned=words) for words in (((1,),), ((2, 3),), ((2, 2, 3),))),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_constraints_leave_the_best_of_what_they_permit(constraint: Constraints) -> None:
    options = BeamOptions(V**4, 4)
    model = Tables(3, 4, 9)
    found = beam_search(model.step, model.state(range(3)), EOS, options, [constraint] * 3)
    for search, hypotheses in enumerate(found):
        everything = model.all_outputs(search, 4, options)
        expected = [tokens for _, tokens in everything if permitted(tokens, constraint)][:4]
        assert [tuple(each.tokens) for each in hypotheses] == expected


def test_a_word_that_was_required_is_not_made_another_where_no_room_is_left() -> None:
    constraint = Constraints(2, required=((1,),), joints=JOINTS)
    logs = torch.zeros(V)
    constraint.apply(logs, (1,), EOS)
    assert logs.tolist() == [0, 0, 0, -math.inf]
    logs = torch.zeros(V)
    Constraints(3, required=((1,),), joints=JOINTS).apply(logs, (1,), EOS)
    assert logs.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("width", [1, 2, 4])
def test_what_is_required_is_there_with_a_narrow_beam(width: int) -> None:
    constraint = Constraints(6, required=((3, 1), (2, 2)))
    model = Tables(8, 6, 1, sharpness=4.0)
    found = beam_search(model.step, model.state(range(8)), EOS, BeamOptions(width), [constraint] * 8)
    assert all(hypotheses and permitted(hypotheses[0].tokens, constraint) for hypotheses in found)


def test_progress_counts_tokens_met_and_tells_what_would_bring_it_on() -> None:
    required = ((1, 2, 3), (4,))
    assert Progress.of([], required) == Progress(0, 4, (1, 4))
    assert Progress.of([4, 1, 2], required) == Progress(3, 1, (3, 1))
    assert Progress.of([1, 1, 2, 3, 4], required) == Progress(4, 0, ())


@pytest.mark.parametrize("constraint", [CONSTRAINTS[0], CONSTRAINTS[3], CONSTRAINTS[6], Constraints(6)], ids=str)
def test_greedy_takes_the_likeliest_token_of_each_step(constraint: Constraints) -> None:
    model = Tables(5, 6, 2)
    found = write_outputs(model.step, model.state(range(5)), EOS, [constraint] * 5, source_lengths=[2] * 5)
    for search, each in enumerate(found):
        assert each is not None and permitted(each.tokens, constraint)
        assert each.log_probability == pytest.approx(model.score(search, each.tokens, BeamOptions())[0], rel=1e-12)
        assert each.weights is not None and torch.equal(each.weights, model.attended(search, each.tokens)[:, :2])
        assert each.gains == pytest.approx(model.gains(search, each.tokens), rel=1e-12)
        if constraint.only_lengths and not constraint.min_length:
            history, token = [EOS, EOS], -1
            while token != EOS and len(history) < 8:
                token = int(model.logs[search, len(history) - 2, history[-2], history[-1]].argmax())
                history.append(token)
            assert each.tokens == [token for token in history[2:] if token != EOS]


def test_drawn_outputs_have_their_probabilities() -> None:
    model = Tables(1, 3, 7)
    count = 4000
    drawn = write_outputs(
        model.step, model.state([0] * count), EOS, limits(count, 3),
        sampling=SamplingOptions(), generators=sample_generators(5, count),
    )  # fmt: skip
    seen = [tuple(each.tokens) for each in drawn if each is not None]
    assert len(seen) == count
    # Outputs at the greatest length end whatever the end's probability, so only shorter ones are compared.
    for length in range(3):
        for tokens in itertools.product(range(1, V), repeat=length):
            p = math.exp(model.score(0, tokens, BeamOptions())[0])
            deviation = math.sqrt(p * (1 - p) / count)
            assert abs(seen.count(tokens) / count - p) < 5 * deviation + 1e-9
    again = write_outputs(
        model.step, model.state([0] * 3), EOS, limits(3, 3),
        sampling=SamplingOptions(), generators=sample_generators(5, count)[:3],
    )  # fmt: skip
    assert [each.tokens for each in again if each is not None] == [list(tokens) for tokens in seen[:3]]


@pytest.mark.parametrize(
    "constraint", [Constraints(5, required=((2,),), banned=((2,),)), Constraints(5, required=((1, 1),), no_repeat=1)]
)
def test_what_cannot_be_met_ends_without_an_output(constraint: Constraints) -> None:
    model = Tables(3, 6, 4)
    both = [constraint, Constraints(5), constraint]
    for options in ({}, {"sampling": SamplingOptions(), "generators": sample_generators(1, 3)}):
        found = write_outputs(model.step, model.state(range(3)), EOS, both, **options)  # type: ignore[arg-type]
        assert [each is None for each in found] == [True, False, True]
    searched = beam_search(model.step, model.state(range(3)), EOS, BeamOptions(2), both)
    assert [bool(each) for each in searched] == [False, True, False]


def test_length_penalty_is_wus() -> None:
    assert length_penalty(1, 0.7) == 1.0 and length_penalty(7, 1.0) == 2.0 and length_penalty(9, 0.0) == 1.0


def test_what_cannot_be_is_refused() -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (BeamOptions, {"beam": 0}, "beam must be from 1 to 100,000"),
        (BeamOptions, {"beam": 10**30}, "beam must be from 1 to 100,000"),
        (Constraints, {"max_length": 10**30}, "at most 9,007,199,254,740,992 tokens"),
        (BeamOptions, {"beam": 2, "n_best": 3}, "n_best must be"),
        (BeamOptions, {"length_penalty": -1.0}, "0 or more"),
        (Constraints, {"max_length": 3, "min_length": 4}, "least length 4"),
        (Constraints, {"max_length": 3, "prefix": (1, 2), "required": ((2, 1, 3),)}, "have 4 tokens"),
        (Constraints, {"max_length": 3, "prefix": (1, 2), "banned": ((2,),)}, "prefix holds a banned word"),
        (Constraints, {"max_length": 3, "prefix": (1, 1), "banned": ((1,),), "joints": JOINTS}, "holds a banned word"),
        (Constraints, {"max_length": 9, "prefix": (1, 2, 1, 2), "no_repeat": 2}, "repeats a run of 2"),
        (Constraints, {"max_length": 3, "banned": ((),)}, "no tokens"),
        (Constraints, {"max_length": -1}, "negative"),
    ]
    for kind, options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            kind(**options)
    # What a prefix holds need not come again, and its last word may become another.
    assert Constraints(2, prefix=(1, 2), required=((1, 2),)).needed == 2
    assert Constraints(3, prefix=(2, 1), required=((1, 3),)).needed == 3
    assert Constraints(3, prefix=(2, 1), banned=((1,),), joints=JOINTS).needed == 2


@pytest.mark.parametrize(
    ("seed", "search", "required"), [(7, 7, ((2, 3, 1),)), (20, 6, ((1, 2), (3,))), (32, 7, ((1, 2),))]
)
def test_hypotheses_that_cannot_win_leave_their_places_to_those_that_can(
    seed: int, search: int, required: tuple[tuple[int, ...], ...]
) -> None:
    """Required words put what has met most of them first, be it hopeless: searches in which one such was in the way."""
    longest, options = 6, BeamOptions(2, 1, 0.0)
    model = Tables(8, longest, seed)
    limit = [Constraints(longest, required=required)]
    found = beam_search(model.step, model.state([search]), EOS, options, limit)[0][0]

    def holds(tokens: tuple[int, ...]) -> bool:
        return all(any(tokens[at : at + len(one)] == one for at in range(len(tokens))) for one in required)

    best = next(tokens for _, tokens in model.all_outputs(search, longest, options) if holds(tokens))
    assert tuple(found.tokens) == best
