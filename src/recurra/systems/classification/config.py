"""The configuration of a classifier of texts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...bounds import MOST_UNITS
from ...config.sections import RunConfig, Section, TokenizerConfig, TrainingConfig
from ...shown import counted

__all__ = [
    "ClassificationConfig",
    "ClassificationModelConfig",
    "ClassificationTrainingConfig",
    "LabelledDataConfig",
    "describe",
]


class LabelledDataConfig(Section):
    train: list[str] = Field([], description="Labelled texts to learn from: files, globs or folders.")
    valid: list[str] = Field([], description="Labelled texts to validate on; empty: some of the training texts.")
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the different texts held out when `valid` is empty (0.1)."
    )
    kind: Literal["single-label", "multi-label", "regression"] = Field(
        "single-label", description="Each text has one label, any number of labels, or a number (single-label)."
    )
    form: Literal["tsv", "csv", "jsonl", "fasttext", "folder"] | None = Field(
        None, description="How the files are written; null: as their names and first lines tell (null)."
    )
    label: str | None = Field(
        None, description="Column by name or number from 1, or JSON key, of the labels; null: 1, or label (null)."
    )
    text: str | None = Field(None, description="The same for the text; null: 2, or text (null).")
    header: bool | None = Field(
        None, description="Whether the first line of a table names its columns; null: if names are used (null)."
    )
    label_separator: str = Field(",", min_length=1, description="Between several labels in one column (,).")
    vectors: str | None = Field(
        None, description="Word vectors that embeddings start from: a file of word2vec, GloVe or fastText (null)."
    )
    max_length: int = Field(1000, ge=1, description="Tokens of a text that are read; the rest is left out (1000).")


class ClassificationModelConfig(Section):
    cell: str = Field(
        "lstm",
        description="A cell listed by `recurra cells`, FILE.py:CLASS for your own, or transformer, to compare (lstm).",
    )
    hidden_size: int | list[int] = Field(
        256, description="Units of each layer and direction, or a list with one size a layer (256)."
    )
    num_layers: int = Field(1, ge=1, le=1000, description="Recurrent layers (1).")
    embedding_size: int | None = Field(
        None, ge=1, le=MOST_UNITS, description="Units of a token's embedding; null: the last layer's size (null)."
    )
    bidirectional: bool = Field(True, description="Read the text in both directions (true).")
    residual: Literal["none", "residual", "highway"] = Field(
        "none", description="Connection around each layer but the first (none)."
    )
    pooling: Literal["last", "mean", "max", "mean-max", "last-mean-max", "attention"] = Field(
        "mean-max", description="What of all steps the output layer sees, side by side (mean-max)."
    )
    attention_size: int = Field(64, ge=1, le=MOST_UNITS, description="Inner units of pooling by attention (64).")
    attention_heads: int = Field(1, ge=1, le=1000, description="Vectors that pooling by attention makes (1).")
    head_size: int | None = Field(
        None, ge=1, le=MOST_UNITS, description="Units of a layer before the output layer; null: there is none (null)."
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout between layers (0).")
    embedding_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of whole words dropped (0).")
    input_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout on the embedded input (0).")
    weight_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the recurrent weights (0).")
    output_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout before the output layers (0).")
    forget_bias: float | None = Field(1.0, description="Initial bias of the forget gate; null: as torch.nn (1).")
    learn_initial_state: bool = Field(False, description="Make the first state a parameter (false).")
    init_scale: float = Field(0.1, gt=0, description="Deviation of the embeddings' normal start values (0.1).")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if any(not 1 <= size <= MOST_UNITS for size in self.layer_sizes):
            raise ValueError(f"hidden_size must be from 1 to {MOST_UNITS:,}")
        if len(self.layer_sizes) != self.num_layers:
            raise ValueError(f"hidden_size lists {len(self.layer_sizes)} sizes for num_layers {self.num_layers}")
        return self

    @property
    def layer_sizes(self) -> list[int]:
        """The hidden size of each layer."""
        return [self.hidden_size] * self.num_layers if isinstance(self.hidden_size, int) else self.hidden_size

    @property
    def input_size(self) -> int:
        """The size of an embedded token."""
        return self.embedding_size or self.layer_sizes[-1]

    @property
    def output_size(self) -> int:
        """Units of the last layer at each step, both directions together."""
        return self.layer_sizes[-1] * (2 if self.bidirectional else 1)


class ClassificationTrainingConfig(TrainingConfig):
    batch_tokens: int = Field(4096, ge=1, description="Most tokens of a batch, padding included (4096).")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread evenly over the labels (Szegedy et al. 2016) (0)."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Weight of each label in the loss; balanced: inverse to how often it occurs (none)."
    )
    gradual_unfreezing: bool = Field(
        False,
        description="Train the output layers alone in the first epoch, and with each epoch one layer more, from the "
        "last to the embedding (Howard & Ruder 2018) (false).",
    )
    layer_rate_decay: float = Field(
        1.0,
        ge=1,
        le=1000,
        description="Each layer's learning rate over that of the layer below it; 2.6 in Howard & Ruder (2018) (1).",
    )
    samples: int = Field(3, ge=0, description="Validation texts that are shown in the log with their answers (3).")


class ClassificationConfig(RunConfig):
    """The configuration of a classifier of texts."""

    task: Literal["classification"] = Field("classification", description="The system that is trained.")
    data: LabelledDataConfig = LabelledDataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ClassificationModelConfig = ClassificationModelConfig()
    training: ClassificationTrainingConfig = ClassificationTrainingConfig(max_epochs=5)

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        if not self.data.train:
            return "Missing option '--data': name labelled texts to learn from (or set data.train in the config)."
        return None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kind, training = self.data.kind, self.training
        known = MEASURES_OF[kind]
        if training.select_by not in known:
            raise ValueError(f"training.select_by {training.select_by} is not for {kind}; it has {', '.join(known)}")
        if kind == "regression" and (training.label_smoothing or training.class_weights != "none"):
            raise ValueError("training.label_smoothing and class_weights are for labels, not for data.kind=regression")
        if kind == "multi-label" and training.label_smoothing:
            raise ValueError("training.label_smoothing is for data.kind=single-label")
        return self


# By which weights can be chosen.
MEASURES_OF = {
    "single-label": ("loss", "accuracy", "macro_f1", "calibration_error", "brier"),
    "multi-label": ("loss", "exact", "micro_f1", "macro_f1", "calibration_error", "brier"),
    "regression": ("loss", "pearson", "rmse"),
}


def describe(config: ClassificationConfig) -> dict[str, str]:
    """What a configuration makes, in a few words: its network, its data, and the whole model in a sentence."""
    model, data = config.model, config.data
    sizes, layers = " + ".join(map(str, model.layer_sizes)), counted(model.num_layers, "layer")
    ways = "both directions" if model.bidirectional else "one direction"
    what = {"single-label": "label of", "multi-label": "labels of", "regression": "number for"}[data.kind]
    return {
        "network": f"{layers} of {sizes} units, {ways}, pooling {model.pooling}",
        "data": ", ".join(data.train) or "none",
        "model": f"A recurrent network trained with recurra that predicts the {what} a text: {layers} "
        f"of `{model.cell}` with {sizes} units in {ways}, over {config.tokenizer.kind} tokens.",
    }
