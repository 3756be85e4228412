"""Writing outputs token by token without a search: the likeliest token of each step, or one that is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .constraints import Constraints
from .hypothesis import Hypothesis, Step, penalized_score
from .sampling import SamplingOptions, sample
from .state import State, select_rows
from .trail import Trail

__all__ = ["write_outputs"]


@torch.inference_mode()
def write_outputs(
    step: Step,
    state: State,
    eos: int,
    constraints: Sequence[Constraints],
    *,
    sampling: SamplingOptions | None = None,
    generators: Sequence[torch.Generator] | None = None,
    source_lengths: Sequence[int] | None = None,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
) -> list[Hypothesis | None]:
    """Write one output a row; rows that have ended leave the batch.

    Args:
        step: reads one token a row.
        state: B rows, before the first step, which reads `eos`.
        eos: the end.
        constraints: of each row.
        sampling: how tokens are drawn; None: the likeliest is taken.
        generators: for drawing, one a row; a row's draws depend on its own alone.
        source_lengths: positions of each source, to which attention weights are cut; None: all.
        length_penalty, coverage_penalty: of the outputs' scores; see `recurra.decoding.hypothesis.penalized_score`.

    Returns:
        For each row its output; None where the constraints left no token to take.
    """
    rows = list(range(len(constraints)))
    tokens: list[list[int]] = [[] for _ in rows]
    totals = [0.0] * len(rows)
    trail, origins = Trail(), torch.arange(len(rows), device="cpu")
    ends = [(0, 0)] * len(rows)
    stuck: set[int] = set()
    last = torch.full((len(rows),), eos, device="cpu")
    while rows:
        output = step(last, state)
        allowed = output.log_probabilities.cpu()
        before = torch.tensor([totals[row] for row in rows], dtype=torch.float64, device="cpu")
        trail.add(output.weights, origins, before)
        for index, row in enumerate(rows):
            constraint = constraints[row]
            if constraint.binds(len(tokens[row])):
                constraint.apply(allowed[index], tokens[row], eos)
        # A choice among no tokens would be token 0 for ever; such a row ends, and is no output.
        best, chosen = allowed.max(dim=-1)
        for index, value in enumerate(best.tolist()):
            if value == -math.inf:
                stuck.add(rows[index])
                allowed[index, eos], chosen[index] = 0.0, eos
        if sampling is not None:
            assert generators is not None
            chosen = sample(allowed, [generators[row] for row in rows], sampling)
        gained = allowed.gather(1, chosen.unsqueeze(1)).squeeze(1).double().tolist()
        going = []
        for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            totals[row] += gained[index]
            ends[row] = (len(tokens[row]), index)
            if token != eos:
                tokens[row].append(token)
                going.append(index)
        if not going:
            break
        origins = torch.tensor(going, device="cpu")
        if len(going) < len(rows):
            rows = [rows[index] for index in going]
            state, last = select_rows(output.state, origins), chosen[origins]
        else:
            state, last = output.state, chosen
    written: list[Hypothesis | None] = []
    for row, own in enumerate(tokens):
        joined = trail.follow(*ends[row], None if source_lengths is None else source_lengths[row])
        score = penalized_score(totals[row], len(own) + 1, joined, length_penalty, coverage_penalty)
        gains = trail.gains(*ends[row], totals[row])
        written.append(None if row in stuck else Hypothesis(own, totals[row], score, joined, gains))
    return written
