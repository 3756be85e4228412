"""The configuration of a language model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...bounds import MOST_UNITS
from ...config.sections import RunConfig, Section, TokenizerConfig, TrainingConfig
from ...shown import counted

__all__ = ["DataConfig", "LanguageModelConfig", "ModelConfig", "StreamTrainingConfig", "describe"]


class DataConfig(Section):
    train: list[str] = Field([], description="Text to learn from: files, globs, folders, .gz files, or - for stdin.")
    valid: list[str] = Field([], description="Text to validate on; empty: the end of the training text is held out.")
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the tokens held out at the end when `valid` is empty (0.1)."
    )
    vectors: str | None = Field(
        None, description="Word vectors that embeddings start from: a file of word2vec, GloVe or fastText (null)."
    )


class ModelConfig(Section):
    cell: str = Field(
        "lstm",
        description="A cell listed by `recurra cells`, FILE.py:CLASS for your own, or transformer, to compare (lstm).",
    )
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


class LanguageModelConfig(RunConfig):
    """The configuration of a language model."""

    task: Literal["language-model"] = Field("language-model", description="The system that is trained.")
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: StreamTrainingConfig = StreamTrainingConfig()

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        if not self.data.train:
            return "Missing option '--data': name the text to learn from (or set data.train in the config)."
        return None

    @model_validator(mode="after")
    def _start_values(self) -> Self:
        # experiments/results/defaults has the trainings that this was chosen by.
        init = self.model.init or ("normal" if self.training.optimizer in ("adam", "adamw") else "uniform")
        model = self.model.model_copy(update={"init": init})
        self.model = model.model_copy(update={"init_scale": model.start_scale})
        return self


def describe(config: LanguageModelConfig) -> dict[str, str]:
    """What a configuration makes, in a few words: its network, its data, and the whole model in a sentence."""
    model, data = config.model, config.data
    sizes = model.hidden_size
    units = f"{model.num_layers} x {sizes} units" if isinstance(sizes, int) else " + ".join(map(str, sizes)) + " units"
    several = ", ".join(str(size) for size in model.layer_sizes)
    return {
        "network": units,
        "data": ", ".join(data.train) or "none",
        "model": f"A recurrent language model trained with recurra: {counted(model.num_layers, 'layer')} of "
        f"`{model.cell}` with {several} units, over {config.tokenizer.kind} tokens.",
    }
