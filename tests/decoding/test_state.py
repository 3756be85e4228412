"""Rows of a state, in every shape that a recurrent layer carries."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from recurra.decoding.state import join_states, select_rows


class HiddenAndCell(NamedTuple):
    h: torch.Tensor
    c: torch.Tensor


def numbered(rows: list[int]) -> torch.Tensor:
    """(2, B, 3) with the row's number in every entry."""
    return torch.tensor(rows, dtype=torch.float32).view(1, -1, 1).expand(2, -1, 3)


@pytest.mark.parametrize(
    "build",
    [
        numbered,
        lambda rows: (numbered(rows), numbered(rows) * 10),
        lambda rows: HiddenAndCell(numbered(rows), numbered(rows) * 10),
        lambda rows: ([numbered(rows), numbered(rows)[:, :, :1]], [numbered(rows), numbered(rows)[:, :, :1]]),
    ],
    ids=["tensor", "tuple", "named tuple", "a size per layer"],
)
def test_select_and_join_keep_structure_and_rows(build: Any) -> None:
    def same(left: Any, right: Any) -> bool:
        if isinstance(left, torch.Tensor):
            return torch.equal(left, right)
        return type(left) is type(right) and all(same(a, b) for a, b in zip(left, right, strict=True))

    assert same(select_rows(build([0, 1, 2]), torch.tensor([2, 0, 2])), build([2, 0, 2]))
    assert same(join_states([build([0]), build([5, 6]), build([1])]), build([0, 5, 6, 1]))
