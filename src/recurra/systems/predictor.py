"""What the answering sides of all systems share: loading, saving and sharing."""

from __future__ import annotations

import copy
import glob
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..data.overwriting import refuse_overwriting
from ..errors import ConfigError, RunError
from ..run import hub
from ..run.device import find_device
from ..run.directory import Run, read_run
from ..run.saving import Savable, save_model

__all__ = ["Predictor"]


class Predictor(ABC):
    """A trained model, or several that answer together, ready to be asked; made by `recurra.load`.

    Attributes:
        config: the configuration of its run, or of the first one's.
        directory: the run directory that it came from, if any.
    """

    config: Any
    directory: Path | None

    @classmethod
    @abstractmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        """Make it of runs, as `from_runs` does."""

    @abstractmethod
    def _files(self) -> Mapping[str, Savable]:
        """What the model needs beside its weights, by file name."""

    @abstractmethod
    def _network(self) -> nn.Module:
        """The model.

        Raises:
            ConfigError: if there are several.
        """

    @classmethod
    def from_runs(cls, directories: Sequence[str | Path], *, device: str = "auto", average: int = 0) -> Self:
        """Load one run, or several that answer together.

        Args:
            directories: of the runs, or USER/NAME on the Hub.
            device: auto, cpu, cuda or mps.
            average: take the mean of the weights of each run's latest evaluations, so many; 0: its best weights.

        Raises:
            RunError: if one is no run of this system, is damaged, or does not go with the first.
            ConfigError: if `average` is negative, one was written by a newer version, or this system's models cannot
                answer together.
        """
        if not directories:
            raise RunError("no run directory was named; name at least one.")
        if average < 0:
            raise ConfigError(f"average must be 0 or more, not {average}.")
        find_device(device, "--device")
        return cls._from_open([read_run(hub.fetch(directory)) for directory in directories], device, average)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str = "auto", **options: Any) -> Self:
        """Load a run directory, or download a model from the Hugging Face Hub.

        Args:
            name: a directory, or USER/NAME of a repository on the Hub.
            device: auto, cpu, cuda or mps.
            **options: `revision`, `token`, `cache_dir`, `local_files_only`, as `recurra.run.hub.fetch` takes them.

        Raises:
            RunError: if it is neither, is not of this system, or is damaged.
        """
        return cls.from_runs([hub.fetch(name, **options)], device=device)

    def frozen_copy(self, dtype: torch.dtype) -> nn.Module:
        """A copy of the model in another dtype, in evaluation mode, whose weights take no gradient.

        Raises:
            ConfigError: if several models answer together.
        """
        return copy.deepcopy(self._network()).to(dtype).eval().requires_grad_(False)

    def answer_loss(self, network: nn.Module, text: str, most: int) -> Tensor:
        """-log P(answer | text) in nats, a scalar with its graph: what the gradients of an answer are taken of.

        Args:
            network: from `frozen_copy`.
            text: one that the system answers, as a line of its input.
            most: how many tokens of the text are read at most.

        Raises:
            ConfigError: if the system does not tell such a loss, or the text gives nothing to answer.
        """
        raise ConfigError(f"{type(self).__name__} tells no loss of an answer, so its gradients cannot be looked at.")

    def save(self, directory: str | Path) -> Path:
        """Write a directory that `recurra.load` reads, with the weights as they are here.

        Raises:
            RunError: if it cannot be written.
            ConfigError: if several models answer together, which one directory cannot hold.
        """
        return save_model(directory, self.config, self._files(), self._network(), self.directory)

    def refuse_own_file(self, output: str | Path) -> None:
        """Raise ConfigError if a file that is to be written is one of the run's."""
        if self.directory is not None:
            refuse_overwriting(output, [f"{glob.escape(str(self.directory))}/**"])

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model, its configuration, what else it needs, and a card to the Hugging Face Hub.

        Args:
            repo_id: the repository, USER/NAME; made if it does not exist.
            **options: `private`, `token`, `revision`, `commit_message`, as `recurra.run.hub.push` takes them.

        Returns:
            The commit's address.

        Raises:
            RunError: if the Hub refuses or cannot be reached.
            ConfigError: if several models answer together.
        """
        return hub.push(repo_id, self.config, self._files(), self._network(), self.directory, **options)
