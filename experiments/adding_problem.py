"""The adding problem: the sum of two marked numbers of a long row, which only a net with a long memory learns.

Experiment 4 of Hochreiter & Schmidhuber 1997, "Long short-term memory", Neural Computation 9(8). Each step of a
sequence is a number between -1 and 1 and a mark. The first and the last step are marked -1, one of the first ten
steps and another one of the first half are marked 1, and all others 0. At the end the net must tell
0.5 + (X1 + X2) / 4, where X1 and X2 are the numbers marked 1; a marked number in the first step is 0. An answer is
right if it is off by less than 0.04.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.comparison.runs import Measurement
from recurra.comparison.sizes import count_weights

__all__ = ["adding_weights", "error_without_memory", "measure_adding", "sequences"]

RIGHT = 0.04
BATCH = 32
# Validation and test sequences are the same for every training.
VALID, TEST = (1, 500), (2, 2000)
LOOKS = 10
"""Evaluations on the validation sequences, at equal times; the best weights are tested."""


def sequences(generator: np.random.Generator, count: int, length: int) -> tuple[Any, Any, Any]:
    """Steps (T, count, 2), lengths (count,) from `length` to a tenth more, and targets (count,)."""
    lengths = generator.integers(length, length + length // 10 + 1, count)
    steps = np.zeros((int(lengths.max()), count, 2), dtype=np.float32)
    steps[:, :, 0] = generator.uniform(-1, 1, steps.shape[:2])
    rows = np.arange(count)
    first = generator.integers(0, 10, count)
    # Of the first half without the step that is marked already.
    second = generator.integers(0, length // 2 - 1, count)
    second += second >= first
    steps[0, :, 1] = steps[lengths - 1, rows, 1] = -1
    steps[first, rows, 1] = steps[second, rows, 1] = 1
    steps[0, (first == 0) | (second == 0), 0] = 0
    targets = 0.5 + (steps[first, rows, 0] + steps[second, rows, 0]) / 4
    steps[np.arange(len(steps))[:, None] >= lengths] = 0
    return steps, lengths, targets.astype(np.float32)


def adding_weights(cell: str, width: int) -> int:
    """The number of weights of the network."""
    return count_weights(lambda: _network(cell, width))


def measure_adding(case: Mapping[str, Any]) -> Measurement:
    """Train one cell on sequences that never come twice; squared errors on the test sequences.

    Args:
        case: `cell`, `width`, `seed`, `length` (of the sequences), `seconds` or `steps` of training, and what was
            drawn: `learning_rate` and `clip_norm`.
    """
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(case["seed"])
    network = _network(case["cell"], case["width"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=case["learning_rate"], betas=(0.9, 0.99), weight_decay=0.0)
    training = np.random.default_rng((3, case["seed"]))
    valid, test = (sequences(np.random.default_rng(seed), count, case["length"]) for seed, count in (VALID, TEST))
    best, best_weights, steps, looks = math.inf, network.state_dict(), 0, 0
    begun = time.monotonic()
    while looks < LOOKS:
        share = steps / case["steps"] if "steps" in case else (time.monotonic() - begun) / case["seconds"]
        if share * LOOKS >= looks + 1:
            looks += 1
            loss = float((_errors(network, valid) ** 2).mean())
            if loss < best:
                best, best_weights = loss, {name: value.clone() for name, value in network.state_dict().items()}
            continue
        for group in optimizer.param_groups:
            group["lr"] = case["learning_rate"] * 0.5 * (1 + math.cos(math.pi * share))
        given, lengths, targets = sequences(training, BATCH, case["length"])
        answers = network(torch.from_numpy(given), torch.from_numpy(lengths))
        squares = F.mse_loss(answers, torch.from_numpy(targets))
        optimizer.zero_grad()
        squares.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), case["clip_norm"])
        if not bool(torch.isfinite(norm)):
            return Measurement({"failed": f"the gradient was no longer a finite number at step {steps + 1}"})
        optimizer.step()
        steps += 1
    network.load_state_dict(best_weights)
    errors = _errors(network, test)
    values = {"valid": best, "steps_taken": steps, "seconds_taken": time.monotonic() - begun}
    return Measurement(values, {"squared_error": errors**2, "right": (np.abs(errors) < RIGHT).astype(np.float64)})


def error_without_memory(length: int) -> float:
    """The squared error on the test sequences of always telling 0.5, which is the mean of all targets."""
    targets = sequences(np.random.default_rng(TEST[0]), TEST[1], length)[2]
    return float(((targets - 0.5) ** 2).mean())


def _network(cell: str, width: int) -> Any:
    import torch
    from torch import nn

    import recurra
    from recurra import cells

    class Adder(nn.Module):
        """A recurrent layer, and a number from its last state."""

        def __init__(self) -> None:
            super().__init__()
            forget_bias = None if cells.get(cell).forget_bias_gate is None else 1.0
            self.recurrent = recurra.Recurrent(cell, 2, width, forget_bias=forget_bias)
            self.output = nn.Linear(width, 1)

        def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            states = self.recurrent(steps, lengths=lengths)[0]
            last = states[lengths - 1, torch.arange(len(lengths))]
            found: torch.Tensor = self.output(last).squeeze(1)
            return found

    return Adder()


def _errors(network: Any, examples: tuple[Any, Any, Any]) -> Any:
    import torch

    given, lengths, targets = examples
    with torch.inference_mode():
        answers = network(torch.from_numpy(given), torch.from_numpy(lengths)).numpy()
    return answers.astype(np.float64) - targets
