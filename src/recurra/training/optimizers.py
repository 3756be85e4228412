"""Optimisers, and the averaging of NT-ASGD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..config.sections import TrainingConfig

__all__ = ["NTASGD", "build_optimizer", "non_monotonic"]


def build_optimizer(
    model: nn.Module, config: TrainingConfig, parts: Sequence[Sequence[Tensor]] = ()
) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over all parameters that train, one fused kernel a step.

    Weight decay acts on matrices only: pulling biases to zero does not regularise, and would undo the forget bias.

    Args:
        model: whose parameters are trained.
        parts: the same parameters, in parts that may have learning rates of their own; the number of its part stands in
            each of the optimiser's groups as `part`. Empty: all have the same rate.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = []
    for number, part in enumerate(parts or [trained]):
        for decay, matrices in ((config.weight_decay, True), (0.0, False)):
            chosen = [each for each in part if each.requires_grad and (each.dim() > 1) is matrices]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay} | ({"part": number} if parts else {}))
    rate = config.learning_rate
    fused = all(parameter.device.type in ("cpu", "cuda", "mps") for parameter in trained)
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=config.betas, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=fused)
        case "nt-asgd":
            return NTASGD(groups, lr=rate, fused=fused)


def non_monotonic(losses: Sequence[float], patience: int) -> bool:
    """Whether NT-ASGD starts to average: algorithm 1 of Merity, Keskar & Socher (2018).

    Args:
        losses: the validation losses of all evaluations so far, the newest last.
        patience: n of the paper; the newest loss is compared with the best of those that are more than n old.
    """
    *before, newest = losses
    return len(before) > patience and newest > min(before[: len(before) - patience])


class NTASGD(torch.optim.SGD):
    """Plain SGD that, once told to, also keeps the mean of the iterates that follow (Merity, Keskar & Socher 2018).

    The averages are part of `state_dict()`. `averaged()` puts them in the model's place for as long as one evaluates.
    """

    @property
    def averaging(self) -> bool:
        return all("averaged_steps" in group for group in self.param_groups)

    @torch.no_grad()
    def start_averaging(self) -> None:
        """Take the current weights as the first iterate of the mean."""
        for group in self.param_groups:
            group["averaged_steps"] = 1
            for parameter in group["params"]:
                self.state[parameter]["average"] = parameter.detach().clone(memory_format=torch.preserve_format)

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def]
        loss = super().step(closure)
        for group in self.param_groups:
            if "averaged_steps" not in group:
                continue
            group["averaged_steps"] += 1
            averages, parameters = self._averages(group["params"])
            torch._foreach_lerp_(averages, parameters, 1.0 / group["averaged_steps"])
        return loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the model has the averaged weights; without averages it keeps its own."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for group in self.param_groups:
            if "averaged_steps" in group:
                for average, parameter in zip(*self._averages(group["params"]), strict=True):
                    # In place, for cuDNN's flat weights and DDP's buckets hold on to the parameter's memory.
                    kept = parameter.clone()
                    parameter.copy_(average)
                    average.copy_(kept)

    def _averages(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [self.state[parameter]["average"] for parameter in parameters], parameters
