"""The sections of a configuration that several systems share; every field's description is its manual entry."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .. import registry
from ..bounds import LARGEST
from ..names import nearest

__all__ = [
    "CONFIG_VERSION",
    "TRANSFORMER",
    "LoggingConfig",
    "RunConfig",
    "Section",
    "TokenizerConfig",
    "TrainingConfig",
]

CONFIG_VERSION = 1
TRANSFORMER = "transformer"
"""What `model.cell` calls a transformer in the place of recurrent layers, in the systems that can have one."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
            raise ValueError(f"must be at most {LARGEST:,}")
        return value


class TokenizerConfig(Section):
    kind: Literal["character", "word", "whitespace", "bpe", "unigram"] = Field(
        "bpe",
        description="What a token is: a character, a word or symbol, what stands between white space in text that was "
        "tokenised before, or a subword by BPE or unigram (bpe).",
    )
    vocab_size: int = Field(
        8000, ge=2, le=10_000_000, description="Most tokens in the vocabulary, special ones included (8000)."
    )
    min_count: int = Field(1, ge=1, description="Rarer words or characters become <unk> (1 occurrence).")
    lowercase: bool = Field(False, description="Fold text to lower case (false).")
    normalization: Literal["nfc", "nfkc", "none"] = Field(
        "nfc", description="Unicode normal form; nfc makes composed and decomposed syllables the same text (nfc)."
    )
    sample_bytes: int = Field(
        64_000_000, ge=1000, description="BPE and unigram learn from at most this much of the text (64,000,000 bytes)."
    )


_Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(Section):
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimiser steps (null: no bound).")
    max_epochs: int | None = Field(
        20, ge=1, description="Stop after so many passes over the text (20; null: no bound)."
    )
    max_minutes: float | None = Field(
        None, gt=0, description="Stop after so many minutes of training (null: no bound)."
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added up for one step (1).")
    optimizer: Literal["adamw", "adam", "sgd", "nt-asgd"] = Field("adamw", description="Optimiser (adamw).")
    learning_rate: float = Field(2e-3, gt=0, description="Largest learning rate (0.002).")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay; decoupled for adamw (0).")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd (0).")
    betas: tuple[_Decay, _Decay] = Field((0.9, 0.99), description="Moment decay of adam and adamw (0.9, 0.99).")
    nt_asgd_patience: int = Field(
        5, ge=1, description="Evaluations without a better loss before nt-asgd starts to average (5)."
    )
    schedule: Literal["constant", "cosine", "linear", "plateau", "epochs"] = Field(
        "cosine", description="How the learning rate falls after warm-up (cosine)."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps over which the learning rate rises from zero (0).")
    final_learning_rate_ratio: float = Field(
        0.01, ge=0, le=1, description="Last learning rate over the largest, for cosine and linear (0.01)."
    )
    plateau_factor: float = Field(
        0.5, gt=0, lt=1, description="Factor on the learning rate when plateau triggers (0.5)."
    )
    plateau_patience: int = Field(1, ge=0, description="Evaluations without a better loss before plateau triggers (1).")
    decay_after: int = Field(
        4, ge=0, description="Epochs at the full learning rate, for schedule epochs; then it falls with each (4)."
    )
    epoch_factor: float = Field(
        0.5, gt=0, le=1, description="Factor on the learning rate of each epoch after these (0.5)."
    )
    clip_norm: float | None = Field(1.0, gt=0, description="Largest norm of the gradient (1; null: no clipping).")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Arithmetic of forward and backward (fp32).")
    evaluate_every: int | None = Field(None, ge=1, description="Steps between evaluations (null: once an epoch).")
    select_by: str = Field("loss", description="Validation measure by which the best weights are chosen (loss).")
    patience: int | None = Field(
        None, ge=1, description="Evaluations without a better loss before stopping (null: never)."
    )
    save_every: int | None = Field(
        None, ge=1, description="Steps between checkpoints (null: at each evaluation and every ten minutes)."
    )
    keep_evaluated: int = Field(
        0, ge=0, description="Weights of so many latest evaluations are kept, to be averaged later (0)."
    )
    start_from: str | None = Field(
        None,
        description="Run, or USER/NAME on the Hub, from whose tokens and fitting parts the training starts (null).",
    )
    seed: int = Field(1, ge=0, description="Seed of every random number (1).")
    device: str = Field("auto", description="auto, cpu, cuda or mps (auto).")
    num_threads: int | None = Field(None, ge=1, le=1024, description="CPU threads (null: as torch chooses).")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None:
            raise ValueError("one of max_steps, max_epochs and max_minutes must be set")
        return self


class LoggingConfig(Section):
    every_steps: int = Field(50, ge=1, description="Steps between lines of metrics.jsonl (50).")
    tensorboard: bool = Field(True, description="Write TensorBoard events (true).")
    picture: bool = Field(True, description="Draw the learning curve (true).")
    progress: bool = Field(True, description="Show progress on stderr (true).")


class RunConfig(Section):
    """What the configuration of every task has."""

    version: int = Field(CONFIG_VERSION, description="Version of this file's format.")
    task: str = Field(description="The system that is trained.")
    training: TrainingConfig = TrainingConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _selected(self) -> Self:
        known = [measure.name for measure in registry.find(self.task).measures if measure.best is not None]
        chosen = self.training.select_by
        if chosen not in known:
            guess = nearest(chosen, known)
            hint = f"did you mean {guess}?" if guess else f"known are {', '.join(known)}"
            raise ValueError(f"training.select_by: {self.task} has no measure {chosen}; {hint}")
        return self

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        return None
