"""Optimisers against their update rules written out in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from recurra.config.sections import TrainingConfig
from recurra.run.checkpoint import pack, unpack
from recurra.training.optimizers import NTASGD, build_optimizer, non_monotonic


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.matrix = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
        self.vector = torch.nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))


def gradients(steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(5)
    return [(random.normal(size=(4, 3)), random.normal(size=3)) for _ in range(steps)]


def descend(optimizer: torch.optim.Optimizer, model: Model, gradient: tuple[np.ndarray, np.ndarray]) -> None:
    model.matrix.grad, model.vector.grad = torch.from_numpy(gradient[0]), torch.from_numpy(gradient[1])
    optimizer.step()


def expected(name: str, weight: np.ndarray, slopes: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    weight, first, second, momentum = weight.copy(), 0.0, 0.0, 0.0
    for step, slope in enumerate(slopes, start=1):
        if name == "adamw":
            weight *= 1 - rate * decay
        else:
            slope = slope + decay * weight
        if name in ("adam", "adamw"):
            first = 0.8 * first + 0.2 * slope
            second = 0.95 * second + 0.05 * slope**2
            weight -= rate * (first / (1 - 0.8**step)) / (np.sqrt(second / (1 - 0.95**step)) + 1e-8)
        else:
            momentum = slope if step == 1 else 0.9 * momentum + slope
            weight -= rate * (momentum if name == "sgd" else slope)
    return weight


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "nt-asgd"])
def test_updates_follow_the_published_rule_and_decay_matrices_only(name: str) -> None:
    model = Model()
    start = copy.deepcopy(model)
    config = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.2, betas=(0.8, 0.95), momentum=0.9)
    optimizer = build_optimizer(model, config)
    slopes = gradients(6)
    for gradient in slopes:
        descend(optimizer, model, gradient)
    for index, (attribute, decay) in enumerate((("matrix", 0.2), ("vector", 0.0))):
        want = expected(name, getattr(start, attribute).detach().numpy(), [g[index] for g in slopes], 0.1, decay)
        np.testing.assert_allclose(getattr(model, attribute).detach().numpy(), want, rtol=1e-12, atol=1e-13)


def test_ntasgd_keeps_the_mean_of_the_iterates_and_survives_a_checkpoint() -> None:
    model = Model()
    optimizer = build_optimizer(model, TrainingConfig(optimizer="nt-asgd", learning_rate=0.3))
    assert isinstance(optimizer, NTASGD)
    iterates = []
    for number, gradient in enumerate(gradients(9)):
        descend(optimizer, model, gradient)
        if number == 3:
            assert not optimizer.averaging
            optimizer.start_averaging()
        if number >= 3:
            iterates.append(model.matrix.detach().numpy().copy())
        if number == 6:
            saved = unpack(*pack(copy.deepcopy(optimizer.state_dict())))
            optimizer = NTASGD(optimizer.param_groups, lr=1.0)
            optimizer.load_state_dict(saved)
    assert optimizer.averaging
    before = model.matrix.detach().clone()
    place = model.matrix.data_ptr()
    with optimizer.averaged():
        np.testing.assert_allclose(model.matrix.detach().numpy(), np.mean(iterates, axis=0), rtol=1e-12)
    assert torch.equal(model.matrix, before) and model.matrix.data_ptr() == place


def test_without_averages_the_model_is_evaluated_as_it_is() -> None:
    model = Model()
    optimizer = build_optimizer(model, TrainingConfig(optimizer="nt-asgd"))
    before = model.matrix.detach().clone()
    assert isinstance(optimizer, NTASGD)
    with optimizer.averaged():
        assert torch.equal(model.matrix, before)


def test_the_non_monotonic_trigger_is_algorithm_1() -> None:
    """Merity et al.: at evaluation k, start if k > n and the loss is above the best of evaluations 0 .. k-n-1."""
    random = np.random.default_rng(0)
    for patience in (1, 2, 5):
        for _ in range(50):
            losses = list(random.normal(size=12).round(2))
            for k in range(len(losses)):
                want = k > patience and losses[k] > min(losses[: k - patience])
                assert non_monotonic(losses[: k + 1], patience) == want
    assert not non_monotonic([5.0, 4.0, 3.0, 2.0, 1.0], 1)
