"""The configuration of a tagger of words."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...bounds import MOST_UNITS
from ...config.sections import RunConfig, Section, TrainingConfig
from ...shown import counted

__all__ = ["TaggedDataConfig", "TaggingConfig", "TaggingModelConfig", "TaggingTrainingConfig", "describe"]


class TaggedDataConfig(Section):
    train: list[str] = Field([], description="Tagged sentences to learn from: files, globs or folders.")
    valid: list[str] = Field([], description="Tagged sentences to validate on; empty: some of the training sentences.")
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the different sentences held out when `valid` is empty (0.1)."
    )
    format: Literal["conllu", "columns", "jsonl"] | None = Field(
        None, description="How the files are written; null: as the endings of their names tell (null)."
    )
    words: str | None = Field(
        None, description="Column or key of the words; null: FORM of CoNLL-U, column 1, or the key words (null)."
    )
    tags: list[str] = Field(
        [],
        description="Columns or keys of the tags, one or several; empty: UPOS of CoNLL-U, the last column, or the key "
        "tags.",
    )
    scheme: Literal["none", "iob1", "bio", "bioes", "bilou", "bmes"] = Field(
        "none", description="How tags mark spans of words; none: each tag is of its word alone (none)."
    )
    span_columns: list[str] = Field([], description="Columns of `tags` that the scheme is of; empty: all of them.")
    learn: Literal["bio", "bioes"] | None = Field(
        None,
        description="Scheme that the network learns and answers are turned back from; null: bio or bioes, whichever is "
        "nearer to that of the files.",
    )
    repair: Literal["error", "to-b", "to-o"] = Field(
        "error",
        description="What becomes of a tag that breaks its scheme: an error, the beginning of a span, or O (error).",
    )
    vectors: str | None = Field(
        None, description="Word vectors that embeddings start from: a file of word2vec, GloVe or fastText (null)."
    )

    language_models: list[str] = Field(
        [],
        description="Runs of character language models whose states after each word are read too (Akbik et al. 2018).",
    )
    backward_language_models: list[str] = Field(
        [], description="The same of models that were trained on text whose lines run backwards."
    )

    def marks_spans(self, column: str) -> bool:
        """Whether the tags of a column mark spans."""
        return self.scheme != "none" and (not self.span_columns or column in self.span_columns)

    def learnt(self, column: str) -> str:
        """The scheme that the network learns of a column."""
        if not self.marks_spans(column):
            return "none"
        return self.learn or ("bio" if self.scheme in ("bio", "iob1") else "bioes")

    @model_validator(mode="after")
    def _schemes(self) -> Self:
        if self.scheme == "none" and (self.learn is not None or self.repair != "error"):
            raise ValueError(
                "learn and repair are for tags that mark spans; set scheme to iob1, bio, bioes, bilou or bmes"
            )
        unknown = [name for name in self.span_columns if name not in self.tags]
        if unknown:
            raise ValueError(f"span_columns names {unknown[0]}, which tags does not; name the columns in tags")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("tags names a column twice")
        return self


class VocabularyConfig(Section):
    """Which words and characters have an embedding of their own."""

    min_count: int = Field(1, ge=1, description="Rarer words are known by their characters alone (1).")
    lowercase: bool = Field(True, description="Look words up in lower case; characters keep their case (true).")
    normalization: Literal["nfc", "nfkc", "none"] = Field("nfc", description="Unicode normal form of words (nfc).")


class TaggingModelConfig(Section):
    cell: str = Field(
        "lstm",
        description="A cell listed by `recurra cells`, FILE.py:CLASS for your own, or transformer, to compare (lstm).",
    )
    hidden_size: int = Field(200, ge=1, le=MOST_UNITS, description="Units of each layer and direction (200).")
    num_layers: int = Field(2, ge=1, le=1000, description="Recurrent layers over the words (2).")
    bidirectional: bool = Field(True, description="Read the sentence in both directions (true).")
    embedding_size: int = Field(100, ge=1, le=MOST_UNITS, description="Units of an embedded word (100).")
    characters: Literal["recurrent", "convolution", "none"] = Field(
        "recurrent",
        description="What reads a word's characters: a network in both directions (Lample et al. 2016), or a "
        "convolution and a maximum (Ma & Hovy 2016) (recurrent).",
    )
    character_embedding_size: int = Field(50, ge=1, le=MOST_UNITS, description="Units of an embedded character (50).")
    character_size: int = Field(
        100, ge=1, le=MOST_UNITS, description="Units of what is made of a word's characters, for each direction (100)."
    )
    character_width: int = Field(3, ge=1, le=99, description="Characters that a convolution sees at once (3).")
    output: Literal["crf", "softmax"] = Field(
        "crf", description="Choose the tags of a sentence together, or each by itself (crf)."
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout between recurrent layers (0).")
    input_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout on what the words are read from (0).")
    output_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout before the output layers (0).")
    weight_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the recurrent weights (0).")
    forget_bias: float | None = Field(1.0, description="Initial bias of the forget gate; null: as torch.nn (1).")
    init_scale: float = Field(0.1, gt=0, description="Deviation of the embeddings' normal start values (0.1).")

    @property
    def word_size(self) -> int:
        """Units of a word as the recurrent layers read it."""
        sizes = {"recurrent": 2 * self.character_size, "convolution": self.character_size, "none": 0}
        return self.embedding_size + sizes[self.characters]

    @property
    def output_size(self) -> int:
        """Units of the last layer at each word, both directions together."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class TaggingTrainingConfig(TrainingConfig):
    batch_tokens: int = Field(512, ge=1, description="Most words of a batch, padding included (512).")
    unknown_words: float = Field(
        0.25,
        ge=0,
        description="A word of c occurrences is taken for an unknown one with this over (this + c) (Kiperwasser & "
        "Goldberg 2016) (0.25).",
    )
    samples: int = Field(3, ge=0, description="Validation sentences that are shown in the log with their tags (3).")


class TaggingConfig(RunConfig):
    """The configuration of a tagger of words."""

    task: Literal["tagging"] = Field("tagging", description="The system that is trained.")
    data: TaggedDataConfig = TaggedDataConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    model: TaggingModelConfig = TaggingModelConfig()
    training: TaggingTrainingConfig = TaggingTrainingConfig()

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        if not self.data.train:
            return "Missing option '--data': name tagged sentences to learn from (or set data.train in the config)."
        return None

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if self.training.select_by == "span_f1" and self.data.scheme == "none":
            raise ValueError("training.select_by span_f1 is for tags that mark spans; set data.scheme")
        return self


def describe(config: TaggingConfig) -> dict[str, str]:
    """What a configuration makes, in a few words: its network, its data, and the whole model in a sentence."""
    model, data = config.model, config.data
    ways = "both directions" if model.bidirectional else "one direction"
    how = {"recurrent": "read by a network", "convolution": "read by a convolution", "none": "not read"}
    layers = counted(model.num_layers, "layer")
    return {
        "network": f"{layers} of {model.hidden_size} units, {ways}, characters {how[model.characters]}, "
        f"{model.output} output",
        "data": ", ".join(data.train) or "none",
        "model": f"A recurrent tagger of words trained with recurra: {layers} of `{model.cell}` "
        f"with {model.hidden_size} units in {ways}; characters are {how[model.characters]}, and tags chosen by "
        f"{model.output}.",
    }
