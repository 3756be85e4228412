"""Learning rates against torch's schedulers and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from recurra.config.sections import TrainingConfig
from recurra.training.schedules import Schedule, total_steps


def rates(total: int | None = 100, **options: Any) -> list[float]:
    schedule = Schedule(TrainingConfig(learning_rate=0.4, **options), total)
    return [schedule.rate(step) for step in range(1, (total or 100) + 1)]


def test_constant_with_warmup() -> None:
    got = rates(schedule="constant", warmup_steps=4)
    assert got[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4]) and set(got[4:]) == {0.4}


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_cosine_is_torchs_cosine_annealing_after_the_warmup(warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    first = max(warmup, 1)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100 - first, eta_min=0.4 * 0.05)
    expected = []
    for _ in range(first, 101):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    got = rates(schedule="cosine", warmup_steps=warmup, final_learning_rate_ratio=0.05)
    assert got[first - 1 :] == pytest.approx(expected, rel=1e-9)
    assert got[-1] == pytest.approx(0.02)
    assert got[: first - 1] == pytest.approx([0.4 * step / first for step in range(1, first)])


def test_linear_falls_evenly_and_ends_at_the_last_step() -> None:
    got = rates(schedule="linear", final_learning_rate_ratio=0.0)
    steps = torch.tensor(got).diff()
    assert got[0] == 0.4 and got[-1] == pytest.approx(0.0, abs=1e-12)
    assert torch.allclose(steps, torch.full_like(steps, -0.4 / 99), atol=1e-7)


def test_plateau_is_torchs_reduce_on_plateau() -> None:
    losses = [3.0, 2.0, 2.5, 2.0, 2.1, 1.9, 1.95, 1.96, 1.97, 1.98, 1.0, 1.1]
    for patience in (0, 1, 2):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=patience, threshold=0.0)
        config = TrainingConfig(learning_rate=0.4, schedule="plateau", plateau_factor=0.3, plateau_patience=patience)
        schedule = Schedule(config, 100)
        for loss in losses:
            oracle.step(loss)
            schedule.evaluated(loss)
            assert schedule.rate(50) == pytest.approx(optimizer.param_groups[0]["lr"]), (patience, loss)
        again = Schedule(config, 100)
        again.load_state_dict(schedule.state_dict())
        assert again.rate(50) == schedule.rate(50)


def test_the_rate_falls_with_each_epoch_after_the_first_ones() -> None:
    # Zaremba et al. (2014): 1 for 4 epochs, then half of it in the fifth, and so on; 13 epochs.
    schedule = Schedule(TrainingConfig(learning_rate=1.0, schedule="epochs", decay_after=4, epoch_factor=0.5), None)
    found = [schedule.rate(1, epoch=epoch) for epoch in range(13)]
    assert found == [1, 1, 1, 1, *(0.5**k for k in range(1, 10))]
    medium = Schedule(TrainingConfig(learning_rate=1.0, schedule="epochs", decay_after=6, epoch_factor=1 / 1.2), None)
    assert medium.rate(1, epoch=5) == 1.0
    assert medium.rate(1, epoch=38) == pytest.approx(1.2**-33)


def test_time_moves_the_schedule_on_when_it_runs_out_first() -> None:
    config = TrainingConfig(learning_rate=1.0, schedule="linear", final_learning_rate_ratio=0.0, max_minutes=1)
    assert Schedule(config, None).rate(7, time_share=0.25) == 0.75
    assert Schedule(config, 101).rate(51, time_share=0.25) == 0.5
    assert Schedule(config, 101).rate(51, time_share=1.5) == 0.0


def test_the_last_step_is_the_nearest_bound() -> None:
    def batches(epoch: int) -> int:
        return [10, 7, 12][epoch]

    assert total_steps(TrainingConfig(max_steps=30, max_epochs=3), batches) == 29
    assert total_steps(TrainingConfig(max_steps=15, max_epochs=3), batches) == 15
    # Steps do not reach across epochs: 3 + 2 + 3 steps of at most four batches.
    assert total_steps(TrainingConfig(max_epochs=3, accumulate=4), batches) == 8
    assert total_steps(TrainingConfig(max_epochs=None, max_minutes=1), batches) is None
    assert total_steps(TrainingConfig(max_epochs=None, max_steps=5), batches) == 5


def test_a_single_step_has_the_full_rate() -> None:
    assert rates(total=1, schedule="cosine") == [0.4]
    assert math.isclose(rates(total=2, schedule="cosine", final_learning_rate_ratio=0.5)[-1], 0.2)
