"""The evaluations of a training so far, and which of them was the best."""

from __future__ import annotations

import math
from typing import Any

from ..errors import DataError
from ..registry import System
from ..run.state_shape import check_like

__all__ = ["Evaluations"]


class Evaluations:
    """A list of evaluations that knows its best one.

    Args:
        system: whose measures they are of.
        select_by: the measure that the best one is chosen by.

    Attributes:
        history: of each evaluation `step`, `loss`, `criterion` (the lower the better) and `metrics`, the measures.
        best_step, best_loss, best_criterion: of the best evaluation; 0 and infinity while there is none.
    """

    def __init__(self, system: System, select_by: str) -> None:
        measure = system.measure(select_by)
        assert measure is not None
        self._measure = measure
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.best_step, self.best_criterion = math.inf, 0, math.inf

    def add(self, step: int, loss: float, measures: dict[str, float]) -> bool:
        """Take note of an evaluation; whether it is the best so far.

        Raises:
            DataError: if the validation data give no value of the measure that the best one is chosen by.
        """
        chosen = loss if self._measure.name == "loss" else measures.get(self._measure.name)
        if chosen is None:
            raise DataError(
                f"training.select_by: the validation data give no {self._measure.label}; choose another measure, or "
                "validate on other data."
            )
        criterion = self._measure.badness(chosen)
        self.history.append({"step": step, "loss": loss, "criterion": criterion, "metrics": measures})
        if criterion >= self.best_criterion:
            return False
        self.best_loss, self.best_step, self.best_criterion = loss, step, criterion
        return True

    @property
    def criteria(self) -> list[float]:
        """What each evaluation was judged by, the newest last."""
        return [entry["criterion"] for entry in self.history]

    @property
    def since_best(self) -> int:
        """Evaluations after the best one."""
        return sum(entry["step"] > self.best_step for entry in self.history)

    @property
    def last_step(self) -> int:
        """The step of the last evaluation; -1 if there is none."""
        return self.history[-1]["step"] if self.history else -1

    @property
    def best_measures(self) -> dict[str, float]:
        """The measures of the best evaluation."""
        found: dict[str, float] = {entry["step"]: entry["metrics"] for entry in self.history}.get(self.best_step, {})
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint has of them."""
        return {"history": self.history, "best": [self.best_loss, self.best_step, self.best_criterion]}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: if it has another form.
        """
        # Checkpoints of before there were other measures hold losses alone.
        history = [{"criterion": entry["loss"], "metrics": {}} | entry for entry in state["history"]]
        example = {"step": 0, "loss": 0.0, "criterion": 0.0, "metrics": None}
        check_like(history, [example] * len(history), "history")
        best = [*state["best"], state["best"][0]][:3]
        check_like(best, [0.0, 0, 0.0], "best")
        self.history = history
        self.best_loss, self.best_step, self.best_criterion = best
