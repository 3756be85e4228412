"""The configuration of a translation system."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ...bounds import WIDEST_BEAM
from ...config.encoder_decoder import DecoderSection, EncoderSection
from ...config.sections import RunConfig, Section, TokenizerConfig, TrainingConfig
from ...shown import counted

__all__ = [
    "DecodingConfig",
    "ParallelDataConfig",
    "TranslationConfig",
    "TranslationModelConfig",
    "TranslationTokenizerConfig",
    "TranslationTrainingConfig",
    "describe",
]


class ParallelDataConfig(Section):
    source: str | None = Field(None, description="Sentences to translate from, one a line; .gz is read too (null).")
    target: str | None = Field(None, description="Their translations, line by line (null).")
    pairs: str | None = Field(None, description="Both in one .tsv, .csv or .jsonl file, in place of two files (null).")
    valid_source: str | None = Field(None, description="Sentences to validate on (null).")
    valid_target: str | None = Field(None, description="Their translations (null).")
    valid_pairs: str | None = Field(None, description="Both in one .tsv, .csv or .jsonl file (null).")
    source_vectors: str | None = Field(
        None, description="Word vectors that source embeddings start from: word2vec, GloVe or fastText (null)."
    )
    target_vectors: str | None = Field(None, description="The same for the target (null).")
    columns: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        (1, 2), description="Columns of source and target in a .tsv file, from 1 (1, 2)."
    )
    keys: tuple[str, str] = Field(
        ("source", "target"),
        description="Keys of source and target in a .jsonl file, or columns of a .csv; translation.en is a key in "
        "an object (source, target).",
    )
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the pairs held out when there is no validation file (0.1)."
    )
    empty_lines: Literal["error", "drop"] = Field(
        "error", description="What becomes of a pair with an empty side: an error, or dropped and counted (error)."
    )
    max_length: int = Field(100, ge=1, description="Training pairs with more tokens on a side are dropped (100).")
    max_length_ratio: float | None = Field(
        None, ge=1, description="Training pairs whose longer side has more than so many times the shorter's (null)."
    )
    toy: Literal["none", "reverse", "copy"] = Field(
        "none", description="Made-up pairs instead of files: a row of letters reversed, or copied (none)."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        for name in ("", "valid_"):
            source, target, pairs = (getattr(self, f"{name}{key}") for key in ("source", "target", "pairs"))
            if (source is None) != (target is None):
                given, missing = ("source", "target") if target is None else ("target", "source")
                raise ValueError(f"{name}{given} is given without {name}{missing}")
            if source is not None and pairs is not None:
                raise ValueError(f"{name}pairs holds both sides; leave out {name}source and {name}target, or it")
        return self


class TranslationTokenizerConfig(TokenizerConfig):
    joint: bool = Field(
        True, description="One vocabulary for both languages, learnt from both; false: one for each (true)."
    )


class TranslationModelConfig(EncoderSection, DecoderSection):
    reverse_source: bool = Field(False, description="Read the source backwards (Sutskever et al. 2014) (false).")
    copy_source: bool = Field(
        False, description="Mix copies of attended source tokens into the output (See et al. 2017) (false)."
    )
    tied: Literal["none", "decoder", "all"] = Field(
        "all", description="One matrix for target embedding and output, and for the source embedding too (all)."
    )
    embedding_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of whole words dropped (0).")
    input_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout on embedded words, both sides (0).")
    init_scale: float | None = Field(
        None,
        gt=0,
        description="Deviation of the normal start values of embeddings and output weights; null: embedding_size^-1/2 "
        "(null).",
    )

    @property
    def source_layers(self) -> int:
        return self.encoder_layers

    @property
    def source_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.copy_source and self.attention in ("none", "local"):
            raise ValueError(f"copy_source needs attention weights that sum to one, which {self.attention} has not")
        if self.annotation_dropout and not self.reads_annotations:
            raise ValueError("annotation_dropout needs annotations or a context at every step to drop; set it to 0")
        return self


class TranslationTrainingConfig(TrainingConfig):
    batch_tokens: int = Field(
        2048, ge=1, description="Most tokens of a batch on its longer side, padding included (2048)."
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the target spread evenly over the vocabulary (Szegedy et al. 2016) (0.1).",
    )
    scheduled_sampling: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of target words fed from the model's own guesses, reached evenly over the first ten epochs "
        "(Bengio et al. 2015) (0).",
    )
    coverage_loss: float = Field(
        0.0, ge=0, description="Weight of the loss on attending to the same place again (See et al. 2017) (0)."
    )
    bleu_tokenizer: Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"] = Field(
        "13a", description="What sacreBLEU parts words by; zh, ja-mecab and ko-mecab for these languages (13a)."
    )
    references: Literal["written", "normalized"] = Field(
        "written",
        description="Translations are compared with the references as they were written, or both in the form that the "
        "target's tokens write: Unicode form, case, spaces (written).",
    )
    translate_valid: int | None = Field(
        500, ge=0, description="Validation sentences translated at each evaluation; null: all, 0: none (500)."
    )
    samples: int = Field(3, ge=0, description="Of these, how many are shown in the log with their alignment (3).")

    @model_validator(mode="after")
    def _translates(self) -> Self:
        if self.select_by != "loss" and self.translate_valid == 0:
            raise ValueError(f"select_by {self.select_by} needs translations; set translate_valid above 0")
        return self


class DecodingConfig(Section):
    beam: int = Field(5, ge=1, le=WIDEST_BEAM, description="Hypotheses kept side by side; 1 is greedy (5).")
    length_penalty: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Exponent alpha of ((5 + length) / 6)^alpha, which divides log-probability (Wu 2016) (1).",
    )
    coverage_penalty: float = Field(
        0.0, ge=0, description="Weight beta of the penalty on source words not attended to (Wu et al. 2016) (0)."
    )
    max_source_length: int = Field(
        1000, ge=1, description="Tokens of a line that are read; the rest is cut off with a warning (1000)."
    )
    max_length_ratio: float = Field(
        2.0, gt=0, description="Longest translation in tokens over the source's, 10 more being allowed (2)."
    )
    batch_size: int = Field(32, ge=1, le=1_000_000, description="Sentences translated side by side (32).")
    replace_unknown: bool = Field(
        True,
        description="Write the attended source word in place of <unk> (Jean et al. 2015; Luong et al. 2015) (true).",
    )


class TranslationConfig(RunConfig):
    """The configuration of a translation system."""

    task: Literal["translation"] = Field("translation", description="The system that is trained.")
    data: ParallelDataConfig = ParallelDataConfig()
    tokenizer: TranslationTokenizerConfig = TranslationTokenizerConfig()
    model: TranslationModelConfig = TranslationModelConfig()
    training: TranslationTrainingConfig = TranslationTrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        if self.data.source is None and self.data.pairs is None and self.data.toy == "none":
            return (
                "Missing options '--source' and '--target': name the sentences to learn from (or --data with a .tsv, "
                ".csv or .jsonl file of pairs, or --toy reverse)."
            )
        return None

    @model_validator(mode="after")
    def _tying(self) -> Self:
        if self.model.tied == "all" and not self.tokenizer.joint and self.data.toy == "none":
            raise ValueError(
                "model.tied all needs one vocabulary: set tokenizer.joint to true or model.tied to decoder"
            )
        toy = self.data.toy != "none"
        if toy and any((self.data.source, self.data.target, self.data.pairs)):
            raise ValueError("data.toy makes pairs up, so no files can be given: leave out one or the other")
        if toy and self.training.select_by not in ("loss", "exact"):
            raise ValueError(f"training.select_by {self.training.select_by} is for text; toys have loss and exact")
        if self.training.coverage_loss and self.model.attention == "none":
            raise ValueError(
                "training.coverage_loss needs attention weights: set it to 0 or model.attention to additive"
            )
        return self


def describe(config: TranslationConfig) -> dict[str, str]:
    """What a configuration makes, in a few words: its network, its data, and the whole model in a sentence."""
    model, data = config.model, config.data
    units = model.hidden_size
    layers = f"{model.encoder_layers} + {model.decoder_layers} layers of {units} units"
    said = f"{model.encoder_layers} + {counted(model.decoder_layers, 'layer')} of `{model.cell}` with {units} units"
    if model.attention == "none":
        how, read = f"fixed context {model.fixed_context}", "a fixed context"
    else:
        how, read = f"attention {model.attention}, decoder {model.decoder}", f"{model.attention} attention"
    given = data.pairs or f"{data.source}, {data.target}"
    return {
        "network": f"{layers}, {how}",
        "data": given if data.toy == "none" else f"made up: {data.toy}",
        "model": f"A recurrent translation system trained with recurra: {said}, {read}, over {config.tokenizer.kind} "
        "tokens.",
    }
