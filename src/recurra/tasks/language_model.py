"""Language modelling: from text files to a trained run directory, and back to a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Config
from ..data.batching import StreamBatches
from ..data.text import expand_paths, read_text
from ..data.token_stream import TokenStream, prepare
from ..data.tokenizer import Tokenizer
from ..errors import DataError, RunError
from ..files import unchanged
from ..models.language_model import LanguageModel, detach_state
from ..training.logging import preparation
from ..training.processes import Processes
from ..training.randomness import seed_everything
from ..training.run_directory import CONFIG, read_run
from ..training.run_weights import read_weights
from ..training.state_shape import check_like
from ..training.task import Evaluation, Loss, Task
from .own_cell import model_settings
from .stream_likelihood import stream_nats
from .training_run import TrainingResult, train_run

__all__ = ["LanguageModelTask", "TrainingResult", "load_model", "prepare_task", "train"]

TOKENIZER = "tokenizer.json"


class TokenBatch(NamedTuple):
    """A window of the streams, (T, B), and what the loop asks of a batch."""

    input: Tensor
    target: Tensor
    starts_epoch: bool
    rate_scale: float

    @property
    def tokens(self) -> int:
        return self.target.numel()


class LanguageModelTask:
    """Truncated backpropagation through time over contiguous streams, with the state carried from window to window.

    Args:
        model: on `processes.device` already.
        train: this process's share of the training streams.
        valid: the validation tokens; each is predicted once, the first after a line end.
        eos_id: the line end.
        valid_characters: of the validation text; for bits per character.
        characters_per_token: of the training text.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: Config,
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
        self.config = config
        self.train_batches = train
        self.characters_per_token = characters_per_token
        self._language_model = model
        self._valid = valid
        self._eos_id = eos_id
        # What the loss says little of: P(<unk>) is that of all words together which the vocabulary does not hold.
        self._unknown = {} if unk_id is None else {"unknown_rate": float((valid == unk_id).mean())}
        self._valid_characters = valid_characters
        self._processes = processes
        self._hx: Any = None
        self._epoch = train.epoch_number

    @property
    def epoch_done(self) -> bool:
        return self.train_batches.epoch_number != self._epoch

    def steps_in_epoch(self, epoch: int) -> int:
        return self.train_batches.steps_in_epoch(epoch)

    def batches(self) -> Iterator[TokenBatch]:
        self._epoch = self.train_batches.epoch_number
        for source, target, starts_epoch in self.train_batches.epoch(self._epoch):
            yield TokenBatch(self._move(source), self._move(target), starts_epoch, self.train_batches.length_ratio)

    def loss(self, model: nn.Module, batch: TokenBatch) -> Loss:
        if batch.starts_epoch:
            self._hx = None
        nats, hx, raw, dropped = model(batch.input, self._hx, batch.target)
        self._hx = detach_state(hx)
        training = self.config.training
        objective = nats
        if training.ar:
            objective = objective + training.ar * dropped.float().square().mean()
        # With one step in the window there is no difference to take, and the mean of nothing is not a number.
        if training.tar and len(raw) > 1:
            objective = objective + training.tar * (raw[1:] - raw[:-1]).float().square().mean()
        return Loss(objective, nats.detach())

    def evaluate(self) -> Evaluation:
        processes = self._processes
        nats, tokens = stream_nats(
            self._language_model, self._valid, self._eos_id, rank=processes.rank, world_size=processes.world_size
        )
        return Evaluation(nats, tokens, self._valid_characters if processes.is_main else 0, self._unknown)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.train_batches.state_dict(), "epoch": self._epoch, "hx": self._hx}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.train_batches.load_state_dict(state["batches"])
        self._epoch = state["epoch"]
        if state["hx"] is not None:
            rows = torch.zeros(1, self.config.training.batch_size, dtype=torch.int64, device=self._processes.device)
            with torch.no_grad():
                check_like(state["hx"], self._language_model(rows).hx, "hx")
        self._hx = _to_device(state["hx"], self._processes.device)

    def _move(self, tokens: Tensor) -> Tensor:
        device = self._processes.device
        # From pinned memory the copy runs beside the computation; elsewhere `to` is all there is to do.
        return tokens.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tokens.to(device)


def train(config: Config, run_dir: Path, *, resume: bool = False) -> TrainingResult:
    """Train a language model on text in a run directory.

    Args:
        config: complete; written to `run_dir/config.yaml`.
        run_dir: new or empty, or with `resume` a run of the same configuration (bounds, logging and the frequency of
            evaluating and saving may differ).
        resume: go on from the last checkpoint, bit for bit.

    Raises:
        RunError: if the folder is in use, a checkpoint is damaged, the disk is full, or the loss is no longer finite.
        ConfigError: if the configuration cannot be used, or is not that of the run to be resumed.
        DataError: if the text is missing, not UTF-8, empty or too short.
    """
    return train_run(config, run_dir, prepare_task, _metadata, resume=resume)


def _metadata(task: Task) -> dict[str, str]:
    return {"vocab_size": str(cast(LanguageModel, task.model).vocab_size)}


def prepare_task(config: Config, run_dir: Path, processes: Processes) -> LanguageModelTask:
    """Everything that training needs: tokenizer and token streams in `run_dir`, made if they are missing, and a model.

    Raises:
        RunError, ConfigError, DataError: as `train` does.
    """
    # A small model without memory: what is wrong with its configuration is said before the long work begins.
    settings = model_settings(config, run_dir)
    with torch.device("meta"):
        LanguageModel(2, settings)
    if processes.is_main:
        _prepare(config, run_dir)
    processes.wait()
    tokenizer = Tokenizer.load(run_dir / TOKENIZER)
    train_stream, valid_stream = _open_streams(config, run_dir, tokenizer.vocab_size)
    # Every process starts from the same weights; the trainer then seeds each on its own.
    seed_everything(config.training.seed)
    model = LanguageModel(tokenizer.vocab_size, settings).to(processes.device)
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


def load_model(run_dir: str | Path) -> tuple[Config, Tokenizer, LanguageModel]:
    """The configuration, tokeniser and trained model of a run directory; the model on the CPU, in evaluation mode.

    A run that is still training, was cut off, or whose model.safetensors is damaged gives the best checkpoint, or else
    the last; it is said on stderr.

    Raises:
        RunError: if the folder is no run of a language model, or has no weights that can be read.
        ConfigError: if it was written by a newer version.
    """
    run_dir = Path(run_dir)
    config = read_run(run_dir)
    if config.task != "language-model":
        raise RunError(f"{run_dir}: is a run of the task {config.task}, not of language-model.")
    if not (run_dir / TOKENIZER).is_file():
        raise RunError(f"{run_dir}: lacks {TOKENIZER}; its training has hardly begun or the file was lost.")
    tokenizer = Tokenizer.load(run_dir / TOKENIZER)
    model = LanguageModel(tokenizer.vocab_size, model_settings(config, run_dir))
    try:
        model.load_state_dict(read_weights(run_dir))
    except RuntimeError as error:
        raise RunError(f"{run_dir}: the weights do not fit {CONFIG} and {TOKENIZER}; one was changed.") from error
    return config, tokenizer, model.eval()


def _prepare(config: Config, run_dir: Path) -> None:
    """Train the tokeniser and tokenise the texts into run_dir/data, as far as an earlier start has not done so."""
    shown = config.logging.progress
    path = run_dir / TOKENIZER
    tokenizer = Tokenizer.load(path) if path.is_file() else None
    named = {"train": config.data.train, "valid": config.data.valid}
    needed = {
        name: patterns
        for name, patterns in named.items()
        if patterns and not (tokenizer and _is_prepared(run_dir / "data" / name, tokenizer))
    }
    # All of them before the long work begins, and once each: a pipe can be read only once.
    files = {name: _outside(run_dir, expand_paths(patterns)) for name, patterns in needed.items()}
    # The tokens are learnt of what is tokenised afterwards.
    with unchanged(source for sources in files.values() for source in sources):
        if tokenizer is None:
            with preparation("Learning the tokens", shown) as progress:
                tokenizer = Tokenizer.train(read_text(files["train"], progress=progress), config.tokenizer)
            tokenizer.save(path)
        for name, sources in files.items():
            with preparation(f"Tokenising the text ({name})", shown) as progress:
                prepare(sources, tokenizer, run_dir / "data" / name, progress=progress)


def _outside(run_dir: Path, files: list[Path]) -> list[Path]:
    """The files without those of the run itself, whose folder may lie among the texts."""
    own = run_dir.resolve()
    kept = [file for file in files if own not in file.resolve().parents]
    if not kept:
        raise DataError(f"{run_dir}: holds all of the text that was named; give text from elsewhere.")
    return kept


def _is_prepared(path: Path, tokenizer: Tokenizer) -> bool:
    try:
        return TokenStream.open(path).tokenizer_fingerprint == tokenizer.fingerprint
    except RunError:
        return False


def _open_streams(config: Config, run_dir: Path, vocab_size: int) -> tuple[TokenStream, TokenStream]:
    """Training and validation tokens; without validation text the end of the training text is held out."""
    streams = [TokenStream.open(run_dir / "data" / name) for name in ("train", "valid")[: 1 + bool(config.data.valid)]]
    for stream in streams:
        if not stream.is_of(vocab_size):
            raise RunError(f"{run_dir / 'data'}: holds tokens of another vocabulary; remove it to prepare it again.")
    train_stream = streams[0]
    if len(streams) > 1:
        return train_stream, streams[1]
    return train_stream.split(config.data.validation_fraction)


def _to_device(hx: Any, device: torch.device) -> Any:
    if isinstance(hx, Tensor):
        return hx.clone().to(device)
    if isinstance(hx, list | tuple):
        return type(hx)(_to_device(part, device) for part in hx)
    return hx
