"""The device, the arithmetic and the processes that share a training: alone, or under torchrun through accelerate."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config.sections import TrainingConfig
from ..errors import ConfigError
from ..run.device import find_device

__all__ = ["Processes"]


class Processes:
    """Where one training runs.

    Attributes:
        device: of this process.
        rank, world_size: this process among those that train together; 0 and 1 when alone.

    Raises:
        ConfigError: if the device is not there, or cannot do the precision.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._accelerator: Any = None
        device = find_device(config.device, "training.device")
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started > 1:
            # Imported only here: alone, training needs none of it, and the import is slow.
            from accelerate import Accelerator
            from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

            # A learnt initial state has a gradient only in the steps that start an epoch.
            unused = DistributedDataParallelKwargs(find_unused_parameters=True)
            # The others wait while the first tokenises the text, which may take hours.
            patient = InitProcessGroupKwargs(timeout=timedelta(days=1))
            self._accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[unused, patient])
            if self._accelerator.num_processes != started:
                # Each would train by itself, all in one folder.
                raise ConfigError(
                    f"training.device: {started} processes cannot train together on {device.type}; start one process."
                )
            atexit.unregister(_leave)
            atexit.register(_leave, os.getpid())
            self.device = cast(torch.device, self._accelerator.device)
            self.rank: int = self._accelerator.process_index
            self.world_size: int = self._accelerator.num_processes
        else:
            self.device, self.rank, self.world_size = device, 0, 1
        if config.precision == "fp16" and self.device.type == "cpu":
            raise ConfigError("training.precision: fp16 needs a GPU; use bf16 or fp32 on the CPU.")
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of forward and loss in the configured precision."""
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler that fp16 needs, or None."""
        return torch.amp.GradScaler(self.device.type) if self._dtype is torch.float16 else None

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: on several processes its gradients are averaged over them."""
        return model if self._accelerator is None else cast(nn.Module, self._accelerator.prepare_model(model))

    def without_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        """The context of all but the last backward pass of one step."""
        return nullcontext() if self._accelerator is None else self._accelerator.no_sync(model)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return values if self._accelerator is None else cast(Tensor, self._accelerator.reduce(values, reduction="sum"))

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum of each number over all processes."""
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        totals: list[float] = self.sum(torch.tensor(values, dtype=kind, device=self.device)).tolist()
        return totals

    def gather(self, value: Any) -> list[Any]:
        """One value of each process, in the order of their ranks; `value` may hold CPU tensors."""
        if self._accelerator is None:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """Return when every process has come here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def _leave(process: int) -> None:
    """End a process's part in the group before its interpreter goes; not for a child that it forked."""
    if os.getpid() == process and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # A thread of gloo's that has yet to free the tensors of the last message needs the interpreter for it and
        # aborts the process if it comes too late. It cannot be joined, for the reducer in C++ keeps the group up.
        time.sleep(0.5)
