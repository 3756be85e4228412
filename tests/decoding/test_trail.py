"""A trail gives back weights and gains along the way that an output came, however many steps and rows there were."""

from __future__ import annotations

import random

import pytest
import torch

from recurra.decoding.trail import Trail


def test_every_way_back_is_the_one_that_was_gone() -> None:
    choose = random.Random(2)
    trail, ways, totals = Trail(), [[]], [[0.0]]
    for step in range(150):
        # Rows split, swap, die and grow in number, beyond what there was room for at first.
        count = choose.randint(1, 4 if step < 70 else 9)
        origins = [choose.randrange(len(ways)) for _ in range(count)]
        weights = torch.rand(count, 5)
        totals = [[*totals[origin], choose.random()] if step else [0.0] for origin in origins]
        trail.add(weights, torch.tensor(origins), torch.tensor([sum(way) for way in totals], dtype=torch.float64))
        ways = [[*(ways[origin] if step else []), weights[row]] for row, origin in enumerate(origins)]
        for row, way in enumerate(ways):
            found = trail.follow(step, row, 3)
            assert found is not None and torch.equal(found, torch.stack(way)[:, :3])
            gains = trail.gains(step, row, sum(totals[row]) + 0.5)
            assert gains == pytest.approx([*totals[row][1:], 0.5], abs=1e-12)


def test_without_attention_there_is_none() -> None:
    trail = Trail()
    trail.add(None, torch.tensor([0]), torch.zeros(1, dtype=torch.float64))
    assert trail.follow(0, 0, None) is None and trail.gains(0, 0, -0.5) == [-0.5]
