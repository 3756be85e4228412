"""The configuration of a run: one strict tree of sections, the same in YAML, at the command line, in a run directory.

Each task has a schema of its own, chosen by the key `task`; what all tasks share is `RunConfig`. An unknown key is an
error that names the nearest known one; every field's description is its manual entry.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .bounds import LARGEST, MOST_UNITS
from .errors import ConfigError
from .strict_yaml import DEEPEST, read_yaml, write_yaml

__all__ = [
    "CONFIG_VERSION",
    "TASKS",
    "Config",
    "DataConfig",
    "LoggingConfig",
    "ModelConfig",
    "RunConfig",
    "Section",
    "StreamTrainingConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "load_config",
    "nearest",
    "parse_assignment",
    "save_config",
]

CONFIG_VERSION = 1

TASKS = {"language-model": (".config", "Config"), "translation": (".config_translation", "TranslationConfig")}
"""The systems that can be trained, each with the module and class of its schema."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
            raise ValueError(f"must be at most {LARGEST:,}")
        return value


class DataConfig(Section):
    train: list[str] = Field([], description="Text to learn from: files, globs, folders, .gz files, or - for stdin.")
    valid: list[str] = Field([], description="Text to validate on; empty: the end of the training text is held out.")
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the tokens held out at the end when `valid` is empty (0.1)."
    )


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


class ModelConfig(Section):
    cell: str = Field("lstm", description="A cell listed by `recurra cells`, or FILE.py:CLASS for your own (lstm).")
    hidden_size: int | list[int] = Field(256, description="Units of each layer, or a list with one size a layer (256).")
    num_layers: int = Field(2, ge=1, le=1000, description="Recurrent layers (2).")
    embedding_size: int | None = Field(
        None,
        ge=1,
        le=MOST_UNITS,
        description="Units of a token's embedding; null: the last layer's size, as tying needs (null).",
    )
    tied: bool = Field(True, description="One matrix for embedding and output layer (Press & Wolf 2017) (true).")
    residual: Literal["none", "residual", "highway"] = Field(
        "none", description="Connection around each layer but the first (none)."
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout between layers (0).")
    embedding_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of whole words dropped (0).")
    input_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the embedded input (0).")
    output_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout before the output layer (0).")
    locked_dropout: bool = Field(
        True,
        description="These three draw one mask a sequence (Gal & Ghahramani 2016); false: one each step (Zaremba et "
        "al. 2014) (true).",
    )
    recurrent_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Locked dropout on what enters the recurrent products (0)."
    )
    weight_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the recurrent weights (0).")
    zoneout: float = Field(0.0, ge=0.0, lt=1.0, description="Probability that a unit keeps its previous state (0).")
    forget_bias: float | None = Field(1.0, description="Initial bias of the forget gate; null: as torch.nn (1).")
    learn_initial_state: bool = Field(False, description="Make the first state a parameter (false).")
    init: Literal["uniform", "normal"] | None = Field(
        None,
        description="How the start values of embedding and output weights are spread; null: normal for adam and adamw, "
        "uniform for sgd and nt-asgd (null).",
    )
    init_scale: float | None = Field(
        None, gt=0, description="Their bound if uniform, null: 0.1; their deviation if normal, null: 0.5 (null)."
    )
    recurrent_init_scale: float | None = Field(
        None,
        gt=0,
        description="Bound of the uniform start values of all recurrent weights and biases; null: 1/sqrt(units), as "
        "torch.nn (null).",
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        sizes = self.layer_sizes
        if any(not 1 <= size <= MOST_UNITS for size in sizes):
            raise ValueError(f"hidden_size must be from 1 to {MOST_UNITS:,}")
        if len(sizes) != self.num_layers:
            raise ValueError(f"hidden_size lists {len(sizes)} sizes for num_layers {self.num_layers}")
        if self.tied and self.embedding_size not in (None, sizes[-1]):
            raise ValueError(
                f"tied embeddings need embedding_size {self.embedding_size} equal to the last hidden size {sizes[-1]}"
            )
        return self

    @property
    def layer_sizes(self) -> list[int]:
        """The hidden size of each layer."""
        return [self.hidden_size] * self.num_layers if isinstance(self.hidden_size, int) else self.hidden_size

    @property
    def start_scale(self) -> float:
        """`init_scale`, or what null stands for."""
        return self.init_scale or (0.1 if self.init == "uniform" else 0.5)

    @property
    def input_size(self) -> int:
        """The size of an embedded token."""
        return self.embedding_size or self.layer_sizes[-1]


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
        None, description="Run, or USER/NAME on the Hub, whose weights and tokens the training starts from (null)."
    )
    seed: int = Field(1, ge=0, description="Seed of every random number (1).")
    device: str = Field("auto", description="auto, cpu, cuda or mps (auto).")
    num_threads: int | None = Field(None, ge=1, le=1024, description="CPU threads (null: as torch chooses).")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None:
            raise ValueError("one of max_steps, max_epochs and max_minutes must be set")
        return self


class StreamTrainingConfig(TrainingConfig):
    """Training on one long text, cut into streams."""

    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="Streams that are read side by side on one device (32)."
    )
    sequence_length: int = Field(
        64, ge=1, le=10_000_000, description="Steps of truncated backpropagation through time (64 tokens)."
    )
    vary_sequence_length: bool = Field(
        False, description="Draw the length anew each step, as AWD-LSTM does, with the learning rate in step (false)."
    )
    ar: float = Field(0.0, ge=0, description="Activation regularisation, the weight of |h|^2 (Merity 2017) (0).")
    tar: float = Field(0.0, ge=0, description="Temporal activation regularisation, of |h_t - h_t-1|^2 (0).")


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


class Config(RunConfig):
    """The configuration of a language model."""

    task: Literal["language-model"] = Field("language-model", description="The system that is trained.")
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: StreamTrainingConfig = StreamTrainingConfig()

    @model_validator(mode="after")
    def _start_values(self) -> Self:
        # experiments/results/defaults has the trainings that this was chosen by.
        init = self.model.init or ("normal" if self.training.optimizer in ("adam", "adamw") else "uniform")
        model = self.model.model_copy(update={"init": init})
        self.model = model.model_copy(update={"init_scale": model.start_scale})
        return self


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like a mistyped one, or None when nothing is close."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return match[0] if match else None


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn `section.key=value` into a nested mapping; the value is read as YAML.

    Raises:
        ConfigError: if there is no `=` or the value is not YAML.
    """
    path, equals, raw = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text}: write it as section.key=value, for example training.max_steps=1000.")
    try:
        value: Any = read_yaml(raw)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"--set {_short(text)}: the value is not valid YAML ({problem}).") from error
    if path.count(".") > DEEPEST:
        raise ConfigError(f"--set {_short(text)}: there is no key in so many sections.")
    tree: dict[str, Any] = {}
    leaf = tree
    *sections, key = path.strip().split(".")
    for section in sections:
        leaf = leaf.setdefault(section, {})
    leaf[key] = value
    return tree


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[Mapping[str, Any]] = (),
    below: Mapping[str, Any] = {},
) -> Any:
    """Read a YAML configuration (or start from the defaults) and lay nested overrides over it, the last one winning.

    Args:
        path: of the file; None: there is none.
        overrides: what wins over it.
        below: what it wins over.

    Returns:
        The configuration in the schema of its `task`; where none is named, that of a language model.

    Raises:
        ConfigError: if the file is missing, is not YAML, was written by a newer version, or has a wrong key or value.
    """
    tree: dict[str, Any] = {}
    source = "configuration"
    if path is not None:
        source = str(path)
        try:
            loaded = read_yaml(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: there is no such file.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({error}).") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigError(f"{where}: is not valid YAML ({getattr(error, 'problem', error)}).") from error
        if not isinstance(loaded, Mapping) and loaded is not None:
            raise ConfigError(f"{path}: must hold sections such as `model:` and `training:`.")
        tree = dict(loaded or {})
    tree = _merge(below, tree)
    for override in overrides:
        tree = _merge(tree, override)
    version = tree.get("version", CONFIG_VERSION)
    if isinstance(version, int) and version > CONFIG_VERSION:
        raise ConfigError(
            f"{source}: has format version {version}, but this recurra reads up to {CONFIG_VERSION}; upgrade recurra."
        )
    schema = _schema(tree.get("task", "language-model"), source)
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error, schema)}") from error


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write the complete, resolved configuration as YAML."""
    Path(path).write_text(write_yaml(config.model_dump(mode="json")), encoding="utf-8")


def _schema(task: Any, source: str) -> type[RunConfig]:
    if not isinstance(task, str) or task not in TASKS:
        guess = nearest(str(task), TASKS)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(TASKS)}."
        raise ConfigError(f"{source}: task: there is no system {task}; {hint}")
    module, name = TASKS[task]
    # A task's schema builds on this module, so it is looked up only when it is asked for.
    schema: type[RunConfig] = getattr(importlib.import_module(module, __package__), name)
    return schema


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _known_part(location: tuple[int | str, ...], schema: type[RunConfig]) -> list[str]:
    """The keys of a place in the configuration, without what pydantic adds for each kind of value that it tried."""
    keys: list[str] = []
    model: Any = schema
    for part in location:
        fields = getattr(model, "model_fields", {})
        keys.append(str(part))
        if part not in fields:
            return keys if fields else keys[:-1]
        model = fields[part].annotation
    return keys


def _explain(error: ValidationError, schema: type[RunConfig]) -> str:
    first = error.errors()[0]
    where = ".".join(_known_part(first["loc"], schema))
    if first["type"] == "extra_forbidden":
        *sections, key = [str(part) for part in first["loc"]]
        model: type[BaseModel] = schema
        for section in sections:
            model = model.model_fields[section].annotation  # type: ignore[assignment]
        guess = nearest(key, model.model_fields)
        prefix = ".".join([*sections, ""]) if sections else ""
        hint = f"did you mean {prefix}{guess}?" if guess else f"known are {', '.join(model.model_fields)}."
        return f"there is no key {where}; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    place = f"{where}: " if where else ""
    shown = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    return f"{place}{message[0].lower() + message[1:]}{shown}."
