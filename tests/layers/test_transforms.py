"""Every entry point of a layer under everything that torch can put around a call.

The matrix is generated: ways x entry points x cells, see transforms/. Each cell of it gives the numbers of the plain
recurrence, forward and backward, or refuses in a sentence where transforms/matrix.py says that it may and why.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurra

from .transforms import isolated
from .transforms.matrix import CASES, Case, judge, reason_to_refuse
from .transforms.problem import ENTRIES, B, H, I, Problem, T, compare, gradients, lengths_of

IN_PROCESS = [case for case in CASES if not case.isolated]
ISOLATED = [case for case in CASES if case.isolated]


def parameters(cases: list[Case]) -> list[object]:
    return [pytest.param(case, id=str(case), marks=[pytest.mark.check] if case.slow else []) for case in cases]


@pytest.mark.parametrize("entry", ["forward", "lengths", "packed", "stream"])
def test_the_plain_recurrence_is_that_of_torch(entry: str) -> None:
    p = Problem("lstm", entry)
    theirs = nn.LSTM(I, H, 2, dtype=torch.float64)
    theirs.load_state_dict(p.layer.state_dict())
    inputs = p.inputs(requires_grad=True)
    x, *states = inputs
    lengths = lengths_of(entry, T, B)
    if lengths is None:
        output, last = theirs(x, tuple(states))
        outputs = [output, *last]
    else:
        rows = [row for row, length in enumerate(lengths) if length]
        packed = pack_padded_sequence(x[:, rows], torch.tensor([lengths[row] for row in rows]), enforce_sorted=False)
        result, last = theirs(packed, tuple(state[:, rows] for state in states))
        if entry == "packed":
            outputs = [result.data, *last]
        else:
            # torch packs no empty rows: their output is zero, and their state stays.
            output = x.new_zeros(T, B, H).index_copy(1, torch.tensor(rows), pad_packed_sequence(result)[0])
            outputs = [output, *(s.index_copy(1, torch.tensor(rows), v) for s, v in zip(states, last, strict=True))]
    found = gradients(outputs, (*inputs, *theirs.parameters()))
    compare("output", outputs, p.expected()[0])
    compare("gradient", found, p.expected()[1])


@pytest.mark.parametrize("cell", ["lstm", "gru_cho", "own"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_plain_recurrence_is_that_of_the_reference(entry: str, cell: str) -> None:
    p = Problem(cell, entry)
    with recurra.backend("reference"):
        p.run_and_check(p.runner)


@pytest.mark.parametrize("case", parameters(IN_PROCESS))
@pytest.mark.filterwarnings("ignore")
def test_in_this_process(case: Case) -> None:
    check(case, judge(case))


@pytest.fixture(scope="module")
def verdict_of(request: pytest.FixtureRequest) -> Callable[[Case], str]:
    """The verdicts on all isolated cases that were asked for, from one process."""
    chosen = [item.callspec.params["case"] for item in request.session.items if item.originalname == "test_isolated"]
    found = isolated.verdicts([(case.way, case.entry, case.cell) for case in chosen])
    return lambda case: found[case.way, case.entry, case.cell]


@pytest.mark.parametrize("case", parameters(ISOLATED))
def test_isolated(case: Case, verdict_of: Callable[[Case], str]) -> None:
    check(case, verdict_of(case))


def check(case: Case, verdict: str) -> None:
    allowed = {"right"} if reason_to_refuse(case) is None else {"right", "refused"}
    if verdict not in allowed:
        pytest.fail(f"{case}: {verdict}", pytrace=False)
