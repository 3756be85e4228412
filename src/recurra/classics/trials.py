"""Trials of the experiments of 1997: each trains one network until its rule is met, and tests it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from . import sequences as tasks
from .blocks import BlockNetwork, Sequences, Weights, run
from .paper import HeldOut, PaperExperiment, Recent, Strings, Unbroken

__all__ = ["TESTED", "Trial", "run_trial"]

Floats = npt.NDArray[np.float64]

TESTED = 2560
"""Sequences that a trained network is tested on, as in the paper's tables."""
_PIECE = 256
_CHUNK = 500
"""Sequences that are drawn and learnt at once."""


@dataclass(frozen=True)
class Trial:
    """What one trial gave.

    Attributes:
        sequences: that were learnt until the rule was met; None: it was not met within the limit.
        learnt: sequences that were learnt in all.
        wrong: wrong ones of 2,560 new sequences after training.
        squared_error: mean of their squared errors.
        curve: after how many sequences which mean absolute error was seen.
    """

    sequences: int | None
    learnt: int
    wrong: int
    squared_error: float
    curve: list[tuple[int, float]] = field(default_factory=list)


def run_trial(
    chosen: PaperExperiment, seed: Sequence[int], most: int, report: Callable[[int, float], None] | None = None
) -> Trial:
    """Train one network until the rule is met or the most sequences are learnt, and test it.

    Args:
        chosen: the experiment.
        seed: of the random numbers.
        most: sequences.
        report: called now and then with the sequences learnt and their recent mean error.
    """
    trial = _Trial(chosen, np.random.default_rng(list(seed)), most, report)
    return trial.run()


class _Trial:
    def __init__(
        self,
        chosen: PaperExperiment,
        generator: np.random.Generator,
        most: int,
        report: Callable[[int, float], None] | None,
    ) -> None:
        self.chosen, self.generator, self.most, self.report = chosen, generator, most, report
        self.network = replace(chosen.network, blocks=0) if chosen.grows else chosen.network
        self.weights = self._start(self.network)
        self.learnt = 0
        self.curve: list[tuple[int, float]] = []
        self.draw = chosen.draw

    def run(self) -> Trial:
        match self.chosen.rule:
            case Recent() as rule:
                found = self._recent(rule)
            case Unbroken() as rule:
                found = self._unbroken(rule)
            case HeldOut() as rule:
                found = self._held_out(rule)
            case Strings() as rule:
                found = self._strings(rule)
        wrong, squared = self._tested()
        return Trial(found, self.learnt, wrong, squared, self.curve)

    def _start(self, network: BlockNetwork) -> Weights:
        chosen = self.chosen
        if not network.blocks:
            return network.start(self.generator, chosen.scale)
        return network.start(self.generator, chosen.scale, chosen.input_gate_biases, chosen.output_gate_biases)

    def _learn(self, data: Sequences) -> Floats:
        """Errors of the sequences' answers, as `_errors` gives them, before each was learnt."""
        errors = self._errors(run(self.network, self.weights, data, self.chosen.rate), data)
        self.learnt += len(data)
        mean = float(errors[:, 1].mean())
        if not self.curve or self.learnt >= 1.1 * self.curve[-1][0]:
            self.curve.append((self.learnt, mean))
        if self.report is not None:
            self.report(self.learnt, mean)
        return errors

    def _errors(self, answers: Floats, data: Sequences) -> Floats:
        """Of each sequence the largest, the mean and the mean squared error: (sequences, 3)."""
        at_ends = isinstance(self.chosen.rule, Unbroken) and self.chosen.rule.at_ends
        if data.ends is not None:
            away = np.abs(answers - data.ends)
        else:
            assert data.next is not None
            away = np.abs(answers - np.eye(self.network.outputs)[data.next])
            if at_ends:
                away = away[data.starts[1:] - 1]
        each = np.stack([away.max(1), away.mean(1), (away**2).mean(1)], axis=1)
        if len(each) == len(data):
            return each
        # Every step has a target: the largest error of all steps, and the means over them.
        starts, lengths = data.starts[:-1], np.diff(data.starts)[:, None]
        means = np.add.reduceat(each[:, 1:], starts) / lengths
        return np.concatenate([np.maximum.reduceat(each[:, :1], starts), means], axis=1)

    def _chunks(self) -> Iterator[Sequences]:
        while self.learnt < self.most:
            yield self.draw(self.generator, min(_CHUNK, self.most - self.learnt))

    def _recent(self, rule: Recent) -> int | None:
        errors = np.zeros((0, 3))
        for data in self._chunks():
            before = self.weights.copy()
            first = self.learnt
            errors = np.concatenate([errors[-(rule.window - 1) :], self._learn(data)])
            wrong = np.cumsum(np.concatenate([[0], errors[:, 0] > self.chosen.wrong]))
            total = np.cumsum(np.concatenate([[0], errors[:, 1]]))
            if len(errors) < rule.window:
                continue
            met = (wrong[rule.window :] - wrong[: -rule.window] <= rule.wrong) & (
                total[rule.window :] - total[: -rule.window] < rule.mean * rule.window
            )
            if met.any():
                # The sequence of this chunk with which the rule was met; the weights are those after it.
                count = int(met.argmax()) + rule.window - (len(errors) - len(data))
                self.weights = before
                run(self.network, self.weights, data.head(count), self.chosen.rate)
                self.learnt = first + count
                return self.learnt
        return None

    def _unbroken(self, rule: Unbroken) -> int | None:
        right, recent = 0, []
        for data in self._chunks():
            errors = self._learn(data)
            wrong = np.flatnonzero(errors[:, 0] >= self.chosen.wrong)
            right = right + len(data) if not len(wrong) else len(data) - 1 - int(wrong[-1])
            if right >= rule.length:
                return self.learnt - right
            if self.network.blocks == self.chosen.network.blocks:
                continue
            recent += [float(part.mean()) for part in np.array_split(errors[:, 2], max(1, len(errors) // 100))]
            if any(new > 0.99 * old for old, new in pairwise(recent)):
                self._add_cells()
        return None

    def _add_cells(self) -> None:
        """Give the network its memory blocks; what it has learnt stays."""
        old, self.network = self.weights.output, self.chosen.network
        self.weights = self._start(self.network)
        inputs = self.network.inputs
        self.weights.output[:, :inputs] = old[:, :inputs]
        self.weights.output[:, -1] = old[:, -1]

    def _held_out(self, rule: HeldOut) -> int | None:
        test = (self.chosen.draw_test or self.draw)(self.generator, rule.size)
        for data in self._chunks():
            self._learn(data)
            errors = self._errors(run(self.network, self.weights, test), test)
            if (errors[:, 0] > self.chosen.wrong).sum() <= rule.wrong and errors[:, 1].mean() < rule.mean:
                return self.learnt
        return None

    def _strings(self, rule: Strings) -> int | None:
        train, test = (self.chosen.draw(self.generator, rule.size) for _ in range(2))
        legal = [tasks.following_symbols(data) for data in (train, test)]
        self.draw = partial(_drawn_from, train)
        for data in self._chunks():
            self._learn(data)
            answers = [run(self.network, self.weights, each) for each in (train, test)]
            if all(_all_legal(given, may) for given, may in zip(answers, legal, strict=True)):
                return self.learnt
        return None

    def _tested(self) -> tuple[int, float]:
        """Wrong ones of new sequences, and the mean of their squared errors."""
        wrong, squared = 0, 0.0
        for _ in range(0, TESTED, _PIECE):
            data = (self.chosen.draw_test or self.chosen.draw)(self.generator, _PIECE)
            answers = run(self.network, self.weights, data)
            errors = self._errors(answers, data)
            if isinstance(self.chosen.rule, Strings):
                may = tasks.following_symbols(data)
                bounds = zip(data.starts[:-1], data.starts[1:], strict=True)
                wrong += sum(not _all_legal(answers[a:b], may[a:b]) for a, b in bounds)
            else:
                wrong += int((errors[:, 0] > self.chosen.wrong).sum())
            squared += float(errors[:, 2].sum())
        return wrong, squared / TESTED


def _all_legal(answers: Floats, legal: npt.NDArray[np.bool_]) -> bool:
    """Whether at every step each symbol that may follow is more active than every one that may not."""
    least = np.where(legal, answers, np.inf).min(1)
    most = np.where(legal, -np.inf, answers).max(1)
    return bool((least > most).all())


def _drawn_from(strings: Sequences, generator: np.random.Generator, count: int) -> Sequences:
    assert strings.symbols is not None and strings.next is not None
    chosen = generator.integers(len(strings), size=count)
    spans = [slice(strings.starts[n], strings.starts[n + 1]) for n in chosen]
    starts = np.concatenate([[0], np.cumsum([span.stop - span.start for span in spans])]).astype(np.int64)
    return Sequences(
        starts,
        np.concatenate([strings.symbols[span] for span in spans]),
        next=np.concatenate([strings.next[span] for span in spans]),
    )
