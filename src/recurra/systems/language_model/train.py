"""Training a language model: truncated backpropagation through time over streams of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batching import StreamBatch, StreamBatches
from ...data.tokenizer import Tokenizer
from ...measures.likelihood import likelihood
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...run.own_cell import model_settings
from ...run.state_shape import check_like
from ...training.processes import Processes
from ...training.randomness import seed_everything
from ...training.task import Evaluation, Loss
from ...training.vectors import start_from_vectors
from .config import LanguageModelConfig
from .data import TOKENIZER, open_streams, prepare_streams
from .likelihood import stream_nats
from .network import LanguageModel, detach_state

__all__ = ["LanguageModelTask", "prepare_task"]


class LanguageModelTask:
    """Truncated backpropagation through time over contiguous streams, with the state carried from window to window.

    Args:
        model: on `processes.device` already.
        train: this process's share of the training streams.
        valid: the validation tokens; each is predicted once, the first after a line end.
        eos_id: the line end.
        valid_characters: of the validation text; for bits per character.
        characters_per_token: of the training text.
        unk_id: of unknown words, if the vocabulary lacks any.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: LanguageModelConfig,
        train: StreamBatches,
        valid: np.ndarray,
        *,
        eos_id: int,
        valid_characters: int,
        characters_per_token: float,
        processes: Processes,
        unk_id: int | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.batches = train
        self._config = config
        self._language_model = model
        self._valid = valid
        self._eos_id = eos_id
        # What the loss says little of: P(<unk>) is that of all words together which the vocabulary does not hold.
        self._unknown = {} if unk_id is None else {"unknown_rate": float((valid == unk_id).mean())}
        self._characters_per_token = characters_per_token
        self._valid_characters = valid_characters
        self._processes = processes
        self._hx: Any = None

    @property
    def header(self) -> Mapping[str, str]:
        """The vocabulary's size."""
        return {"vocab_size": str(self._language_model.vocab_size)}

    def loss(self, model: nn.Module, batch: StreamBatch) -> Loss:
        """The mean nats of a token, and what activation regularisation adds to it."""
        if batch.starts_epoch:
            self._hx = None
        nats, hx, raw, dropped = model(batch.input, self._hx, batch.target)
        self._hx = detach_state(hx)
        training = self._config.training
        objective = nats
        if training.ar:
            objective = objective + training.ar * dropped.float().square().mean()
        # With one step in the window there is no difference to take, and the mean of nothing is not a number.
        if training.tar and len(raw) > 1:
            objective = objective + training.tar * (raw[1:] - raw[:-1]).float().square().mean()
        return Loss(objective, nats.detach())

    def evaluate(self) -> Evaluation:
        """Every process reads its share of the validation text."""
        processes = self._processes
        found = stream_nats(
            self._language_model, self._valid, self._eos_id, rank=processes.rank, world_size=processes.world_size
        )
        nats, tokens = processes.total(found)
        loss = nats / tokens
        return Evaluation(loss, likelihood(loss, tokens, self._valid_characters) | self._unknown)

    def measures(self, loss: float) -> Mapping[str, float]:
        """Perplexity, and bits per character as if every token had as many characters as the mean one."""
        return likelihood(loss, 1.0, self._characters_per_token)

    def carried(self) -> dict[str, Any]:
        """The state after the last window."""
        return {"hx": self._hx}

    def carry(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: if it is not one of this model.
        """
        device = self._processes.device
        if state["hx"] is not None:
            rows = torch.zeros(1, self._config.training.batch_size, dtype=torch.int64, device=device)
            with torch.no_grad():
                check_like(state["hx"], self._language_model(rows).hx, "hx")
        self._hx = _to_device(state["hx"], device)


def prepare_task(run: Run, processes: Processes) -> LanguageModelTask:
    """Everything that training needs: tokenizer and token streams in the run, made if they are missing, and a model.

    Raises:
        RunError: if something cannot be written.
        ConfigError: if the configuration cannot be used.
        DataError: if the text is missing, not UTF-8, empty or too short.
    """
    config: LanguageModelConfig = run.config
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    settings = model_settings(run)
    with torch.device("meta"):
        LanguageModel(2, settings)
    if processes.is_main:
        prepare_streams(run)
    processes.wait()
    tokenizer = Tokenizer.load(run.path / TOKENIZER)
    train_stream, valid_stream = open_streams(run, tokenizer.vocab_size)
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = LanguageModel(tokenizer.vocab_size, settings).to(processes.device)
    if config.data.vectors and processes.is_main and not has_checkpoint(run.checkpoints):
        start_from_vectors(model.embedding, tokenizer, config.data.vectors, "data.vectors")
    return LanguageModelTask(
        model,
        config,
        StreamBatches(
            train_stream.tokens,
            config.training.batch_size,
            config.training.sequence_length,
            vary=config.training.vary_sequence_length,
            seed=config.training.seed,
            rank=processes.rank,
            world_size=processes.world_size,
        ),
        valid_stream.tokens,
        eos_id=tokenizer.eos_id,
        unk_id=tokenizer.unk_id,
        valid_characters=valid_stream.characters,
        characters_per_token=train_stream.characters / len(train_stream),
        processes=processes,
    )


def _to_device(hx: Any, device: torch.device) -> Any:
    if isinstance(hx, Tensor):
        return hx.clone().to(device)
    if isinstance(hx, list | tuple):
        return type(hx)(_to_device(part, device) for part in hx)
    return hx
