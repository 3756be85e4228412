"""Beam search over output sequences, many searches in one batch; every system that writes sequences shares it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..bounds import WIDEST_BEAM
from ..errors import ConfigError
from .constraints import Constraints
from .hypothesis import Hypothesis, Step, length_penalty, penalized_score
from .state import State, select_rows
from .trail import Trail

__all__ = ["BeamOptions", "beam_search"]

# Tokens that stand for one another's best while the best are looked for; the fastest of 32, 64 and 128.
_BLOCK = 64

Select = Callable[[State, Tensor], State]


@dataclass(frozen=True)
class BeamOptions:
    """How a beam is kept and its hypotheses are ranked.

    Attributes:
        beam: K, hypotheses that are gone on with.
        n_best: how many are given out; at most K.
        length_penalty: alpha of `recurra.decoding.hypothesis.length_penalty`.
        coverage_penalty: beta of `recurra.decoding.hypothesis.penalized_score`, against source positions that were
            attended to too little.

    Raises:
        ConfigError: if a value is out of its range.
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= WIDEST_BEAM:
            raise ConfigError(f"beam must be from 1 to {WIDEST_BEAM:,}, not {self.beam}.")
        if not 1 <= self.n_best <= self.beam:
            raise ConfigError(f"n_best must be from 1 to the beam's {self.beam}, not {self.n_best}.")
        # Above, powers of long outputs would leave what a float can hold.
        if not 0 <= self.length_penalty <= 10 or not 0 <= self.coverage_penalty < math.inf:
            raise ConfigError("length_penalty must be from 0 to 10 and coverage_penalty a finite number of 0 or more.")


class _Beams(NamedTuple):
    """The live hypotheses of b searches: totals (b, K), tokens (b, K, t)."""

    totals: Tensor
    tokens: Tensor


class _Ended(NamedTuple):
    """A whole output, and the row of the step that ended it, from which its attention is found."""

    hypothesis: Hypothesis
    step: int
    row: int


@torch.inference_mode()
def beam_search(
    step: Step,
    state: State,
    eos: int,
    options: BeamOptions,
    constraints: Sequence[Constraints],
    source_lengths: Sequence[int] | None = None,
    select: Select = select_rows,
) -> list[list[Hypothesis]]:
    """Find the outputs of highest score for each of B searches.

    In each step the 2K best continuations of a search's live hypotheses are taken: those among the first K that end are
    finished, and the first K that do not end live on. A search stops when no live hypothesis can still come among the
    n_best: log-probabilities only fall, so what a live one can reach at best is its own over the penalty of the
    greatest length. With a beam that holds every sequence the result is that of trying them all. An output at its
    greatest length is ended with the probability that the model gives the end there, so every log-probability is that
    of a whole output.

    Searches do not know of one another: which others share the batch changes nothing but the rounding of the model.

    Args:
        step: reads one token a row.
        state: B rows, before the first step, which reads `eos`.
        eos: the end.
        options: beam and penalties.
        constraints: of each search.
        source_lengths: positions of each source that the coverage penalty looks at; None: all.
        select: picks rows of a state.

    Returns:
        For each search up to n_best hypotheses, the best first; fewer where the constraints allow no more.
    """
    width = options.beam
    found: list[list[_Ended]] = [[] for _ in constraints]
    going = list(range(len(constraints)))
    if not going:
        return []
    beams, trail, rows = _first(len(going), width), Trail(), torch.arange(len(going), device="cpu")
    while going:
        # Only the live places of the beams have a row of the state.
        live = (beams.totals.flatten() > -math.inf).nonzero().squeeze(1)
        last = (
            beams.tokens[..., -1].flatten()[live]
            if beams.tokens.shape[2]
            else torch.full((len(live),), eos, device="cpu")
        )
        output = step(last, state)
        trail.add(output.weights, rows, beams.totals.flatten()[live])
        row_of = _row_of(beams, live)
        own = [constraints[search] for search in going]
        log_probabilities = output.log_probabilities.cpu()
        _constrain(log_probabilities, beams, live, own, eos)
        totals, origins, tokens = _candidates(log_probabilities, beams, live, row_of, own)
        kept: list[int] = []
        picked: list[list[int]] = []
        for index, search in enumerate(going):
            alive: list[int] = []
            for rank, (total, origin, token) in enumerate(
                zip(totals[index], origins[index], tokens[index], strict=True)
            ):
                if total == -math.inf:
                    break
                if token != eos:
                    alive.append(rank)
                elif rank < width or constraints[search].required:
                    outputs, row = beams.tokens[index, origin].tolist(), int(row_of[index * width + origin])
                    length = None if source_lengths is None else source_lengths[search]
                    attended = trail.follow(len(outputs), row, length) if options.coverage_penalty else None
                    score = penalized_score(
                        total, len(outputs) + 1, attended, options.length_penalty, options.coverage_penalty
                    )
                    found[search].append(_Ended(Hypothesis(outputs, total, score), len(outputs), row))
            found[search] = sorted(found[search], key=lambda each: -each.hypothesis.score)[: options.n_best]
            bar = _bar(found[search], constraints[search], options)
            alive = [rank for rank in alive if totals[index][rank] > bar][:width]
            if alive:
                kept.append(index)
                picked.append(alive)
        if not kept:
            break
        beams, rows = _advance(beams, row_of, kept, picked, totals, origins, tokens)
        state = select(output.state, rows)
        going = [going[index] for index in kept]
    lengths = [None] * len(found) if source_lengths is None else source_lengths
    return [
        [
            one.hypothesis._replace(
                weights=trail.follow(one.step, one.row, length),
                gains=trail.gains(one.step, one.row, one.hypothesis.log_probability),
            )
            for one in ended
        ]
        for ended, length in zip(found, lengths, strict=True)
    ]


def _first(searches: int, width: int) -> _Beams:
    totals = torch.full((searches, width), -math.inf, dtype=torch.float64, device="cpu")
    # All rows of a search are equal at first; one stands for them.
    totals[:, 0] = 0.0
    return _Beams(totals, torch.empty((searches, width, 0), dtype=torch.int64, device="cpu"))


def _row_of(beams: _Beams, live: Tensor) -> Tensor:
    """The row of the state that each place of the beams has; 0 where it has none."""
    rows = torch.zeros(beams.totals.numel(), dtype=torch.int64, device="cpu")
    rows[live] = torch.arange(len(live), device="cpu")
    return rows


def _constrain(
    log_probabilities: Tensor, beams: _Beams, live: Tensor, constraints: Sequence[Constraints], eos: int
) -> None:
    width, length = beams.tokens.shape[1:]
    for row, flat in enumerate(live.tolist()):
        index, place = divmod(flat, width)
        each = constraints[index]
        if each.binds(length):
            each.apply(log_probabilities[row], beams.tokens[index, place].tolist(), eos)


def _candidates(
    log_probabilities: Tensor, beams: _Beams, live: Tensor, row_of: Tensor, constraints: Sequence[Constraints]
) -> tuple[list[list[float]], list[list[int]], list[list[int]]]:
    """For each search the best continuations in order: totals, places in the beam that they go on from, tokens."""
    searches, width = beams.totals.shape
    rows, vocabulary = log_probabilities.shape
    # The 2K best lie in the 2K blocks of the vocabulary whose own best are the best: only these are looked into.
    whole = vocabulary // _BLOCK * _BLOCK
    tops = log_probabilities[:, :whole].view(rows, -1, _BLOCK).amax(-1)
    if whole < vocabulary:
        tops = torch.cat([tops, log_probabilities[:, whole:].amax(-1, keepdim=True)], dim=1)
    blocks = tops.shape[1]
    sums = torch.full((searches * width, blocks), -math.inf, dtype=torch.float64, device="cpu")
    sums[live] = beams.totals.flatten()[live].unsqueeze(1) + tops
    chosen = sums.view(searches, -1).topk(min(2 * width, width * blocks), dim=-1, sorted=False).indices.unsqueeze(-1)
    origins = (chosen // blocks).expand(-1, -1, _BLOCK).flatten(1)
    tokens = (chosen % blocks * _BLOCK + torch.arange(_BLOCK, device="cpu")).flatten(1)
    beyond, tokens = tokens >= vocabulary, tokens.clamp(max=vocabulary - 1)
    values = log_probabilities[row_of.view(searches, width).gather(1, origins), tokens]
    sums = (beams.totals.gather(1, origins) + values).masked_fill(beyond, -math.inf)
    best, flat = sums.topk(min(2 * width, sums.shape[1]), dim=-1)
    totals, places = best.tolist(), origins.gather(1, flat).tolist()
    picked = tokens.gather(1, flat).tolist()
    for index, constraint in enumerate(constraints):
        if constraint.required:
            own_rows = {flat % width: row for row, flat in enumerate(live.tolist()) if flat // width == index}
            own = totals[index], places[index], picked[index]
            banked = _by_progress(log_probabilities, beams, index, own_rows, constraint, own)
            totals[index], places[index], picked[index] = banked
    return totals, places, picked


def _by_progress(
    log_probabilities: Tensor,
    beams: _Beams,
    index: int,
    rows: dict[int, int],
    constraint: Constraints,
    plain: tuple[list[float], list[int], list[int]],
) -> tuple[list[float], list[int], list[int]]:
    """Share the beam out by how much of what is required is met (Post & Vilar 2018, dynamic beam allocation).

    Beside the best continuations, each hypothesis is continued by what would bring it on; the candidates that have met
    most come first in each round over the numbers of tokens met.
    """
    candidates = {(o, t): total for total, o, t in zip(*plain, strict=True)}
    outputs = beams.tokens[index].tolist()
    for place, row in rows.items():
        for token in constraint.progress(outputs[place]).following:
            total = float(beams.totals[index, place]) + float(log_probabilities[row, token])
            candidates.setdefault((place, token), total)
    banks: dict[int, list[tuple[float, int, int]]] = {}
    for (place, token), total in candidates.items():
        if total > -math.inf:
            met = constraint.progress([*outputs[place], token]).met
            banks.setdefault(met, []).append((total, place, token))
    queues = [sorted(banks[met], key=lambda each: (-each[0], each[1:])) for met in sorted(banks, reverse=True)]
    ordered: list[tuple[float, int, int]] = []
    while len(ordered) < 2 * beams.totals.shape[1] and any(queues):
        for queue in queues:
            if queue:
                ordered.append(queue.pop(0))
    totals, places, tokens = zip(*ordered, strict=True) if ordered else ((), (), ())
    return list(totals), list(places), list(tokens)


def _bar(found: list[_Ended], constraint: Constraints, options: BeamOptions) -> float:
    """The log-probability that a live hypothesis must exceed to come among the best still."""
    if len(found) < options.n_best:
        return -math.inf
    return found[-1].hypothesis.score * length_penalty(constraint.max_length + 1, options.length_penalty)


def _advance(
    beams: _Beams,
    row_of: Tensor,
    kept: list[int],
    picked: list[list[int]],
    totals: list[list[float]],
    origins: list[list[int]],
    tokens: list[list[int]],
) -> tuple[_Beams, Tensor]:
    """The beams of the searches that go on, and the rows of the state that their live hypotheses come from."""
    width = beams.totals.shape[1]

    def taken(table: Sequence[Sequence[float]], missing: float) -> list[list[float]]:
        return [
            [table[index][rank] for rank in ranks] + [missing] * (width - len(ranks))
            for index, ranks in zip(kept, picked, strict=True)
        ]

    new_totals = torch.tensor(taken(totals, -math.inf), dtype=torch.float64, device="cpu")
    places = torch.tensor(taken(origins, 0), dtype=torch.int64, device="cpu")
    words = torch.tensor(taken(tokens, 0), dtype=torch.int64, device="cpu")
    old = (torch.tensor(kept, device="cpu").unsqueeze(1) * width + places).flatten()
    history = beams.tokens.flatten(0, 1)[old].unflatten(0, (len(kept), width))
    history = torch.cat([history, words.unsqueeze(-1)], dim=-1)
    rows = row_of[old[new_totals.flatten() > -math.inf]]
    return _Beams(new_totals, history), rows
