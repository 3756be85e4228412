"""The configuration of a recogniser: its network, its search and its training; and of one of speech, its data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ...bounds import MOST_UNITS, WIDEST_BEAM
from ...config.sections import RunConfig, Section, TokenizerConfig, TrainingConfig
from ...data.fbank import FbankSettings
from ...data.speech_augmentation import MaskSettings
from ...data.utterances import Keys
from ...errors import ConfigError

__all__ = [
    "AugmentationConfig",
    "DecodingConfig",
    "FeaturesConfig",
    "RecognitionConfig",
    "RecognitionModelConfig",
    "RecognitionTrainingConfig",
    "SpeechConfig",
    "SpeechDataConfig",
    "describe",
]


class SpeechDataConfig(Section):
    train: list[str] = Field([], description="Recordings with their texts to learn from: files, globs or folders.")
    valid: list[str] = Field([], description="The same to validate on; empty: some of the training recordings.")
    validation_fraction: float = Field(
        0.1, gt=0.0, lt=1.0, description="Share of the recordings held out when `valid` is empty (0.1)."
    )
    form: Literal["kaldi", "jsonl", "csv", "tsv", "folder", "names"] | None = Field(
        None, description="How the data are written; null: as their names tell (null)."
    )
    pattern: str | None = Field(
        None, description="Regular expression for the names of audio files, with a group (?P<text>...) (null)."
    )
    audio_folder: str | None = Field(None, description="Where relative paths to audio are looked for first (null).")
    audio: str | None = Field(None, description="Column or JSON key of the path to the audio; null: the usual (null).")
    text: str | None = Field(None, description="The same for what is said (null).")
    speaker: str | None = Field(None, description="The same for who speaks (null).")
    id: str | None = Field(None, description="The same for the name of the utterance (null).")
    start: str | None = Field(None, description="The same for the second at which the utterance begins (null).")
    end: str | None = Field(None, description="The same for the second at which it ends (null).")
    duration: str | None = Field(None, description="The same for how many seconds it has (null).")
    header: bool | None = Field(
        None, description="Whether the first line of a table names its columns; null: unless numbers are given (null)."
    )
    skip_bad: bool = Field(
        False, description="Leave out recordings that cannot be used, and say so, in place of an error (false)."
    )

    @property
    def keys(self) -> Keys:
        """Where a row has what."""
        return Keys(
            self.audio, self.text, self.speaker, self.id, self.start, self.end, self.duration, header=self.header
        )


class FeaturesConfig(Section):
    rate: int = Field(16_000, ge=1_000, le=768_000, description="Samples a second; other audio is resampled (16000).")
    bins: int = Field(80, ge=1, le=512, description="Bands of the mel scale, and so numbers of a frame (80).")
    window_ms: float = Field(25.0, gt=0, le=1000, description="Length of a frame in milliseconds (25).")
    shift_ms: float = Field(10.0, gt=0, le=1000, description="From one frame to the next, in milliseconds (10).")
    low: float = Field(20.0, ge=0, description="Lowest frequency in Hz (20).")
    high: float = Field(0.0, description="Highest frequency in Hz; 0 or less: so much below half of the rate (0).")
    normalization: Literal["training", "utterance"] = Field(
        "training",
        description="Mean and deviation by which features are normalised: of all training data, which streams can "
        "use, or of each utterance (training).",
    )
    kept: Literal["features", "samples"] = Field(
        "features",
        description="What is prepared once: features, or samples, of which each epoch makes features anew, as changes "
        "of speed, noise and gain need it (features).",
    )

    @model_validator(mode="after")
    def _computable(self) -> Self:
        try:
            _ = self.settings
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def settings(self) -> FbankSettings:
        """What the features are computed with."""
        return FbankSettings(self.rate, self.bins, self.window_ms, self.shift_ms, self.low, self.high)


_Speed = Annotated[float, Field(ge=0.5, le=2)]


class AugmentationConfig(Section):
    frequency_masks: int = Field(2, ge=0, le=1000, description="Bands of features that are masked (2).")
    frequency_width: int = Field(15, ge=0, le=10_000, description="Most features of such a band (15).")
    time_masks: int = Field(2, ge=0, le=1000, description="Stretches of time that are masked (2).")
    time_width: int = Field(30, ge=0, le=10_000, description="Most frames of such a stretch (30).")
    most_time: float = Field(0.2, ge=0, le=1, description="Share of the frames that one stretch has at most (0.2).")
    speeds: list[_Speed] = Field(
        [1.0], min_length=1, description="Speeds of which each utterance gets one, such as 0.9, 1 and 1.1 (1)."
    )
    gain_decibels: float = Field(0.0, ge=0, le=60, description="Most that a recording is made louder or softer (0).")
    noise: Literal["none", "white", "pink"] = Field("none", description="Kind of noise behind recordings (none).")
    noise_share: float = Field(0.5, ge=0, le=1, description="Share of the utterances that get noise (0.5).")
    noise_decibels: tuple[float, float] = Field(
        (10.0, 30.0), description="Lowest and highest signal-to-noise ratio in dB (10, 30)."
    )

    @property
    def masks(self) -> MaskSettings:
        """Of SpecAugment."""
        return MaskSettings(
            self.frequency_masks, self.frequency_width, self.time_masks, self.time_width, self.most_time
        )

    @property
    def changes_samples(self) -> bool:
        """Whether anything is done to the samples of a recording."""
        return self.speeds != [1.0] or bool(self.gain_decibels) or self.noise != "none"


class RecognitionModelConfig(Section):
    output: Literal["ctc", "transducer"] = Field(
        "ctc", description="CTC, or a recurrent transducer, which knows the labels before each (ctc)."
    )
    predictor_size: int = Field(
        128, ge=1, le=MOST_UNITS, description="Units of a transducer's predictor and of its embeddings (128)."
    )
    joint_size: int = Field(256, ge=1, le=MOST_UNITS, description="Units of a transducer's joint (256).")
    cell: str = Field("lstm", description="A cell listed by `recurra cells`, or FILE.py:CLASS for your own (lstm).")
    hidden_size: int = Field(256, ge=1, le=MOST_UNITS, description="Units of each layer and direction (256).")
    num_layers: int = Field(3, ge=1, le=1000, description="Recurrent layers (3).")
    direction: Literal["both", "forward", "latency-controlled"] = Field(
        "both",
        description="Read the input in both directions; forward alone, for streams; or latency-controlled, in both "
        "directions with a bounded look-ahead, for streams too (both).",
    )
    chunk: int = Field(
        24, ge=1, le=100_000, description="Subsampled frames of a chunk, for direction latency-controlled (24)."
    )
    look_ahead: int = Field(
        12, ge=0, le=100_000, description="Subsampled frames that a chunk's backward direction sees beyond it (12)."
    )
    subsampling: Literal["stacking", "convolution"] = Field(
        "stacking", description="How several frames become one before the recurrent layers (stacking)."
    )
    subsampling_factor: int = Field(
        3, ge=1, le=64, description="How many frames become one; a power of two for convolution (3)."
    )
    convolution_size: int = Field(256, ge=1, le=MOST_UNITS, description="Channels of each convolution (256).")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout between layers (0).")
    input_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Locked dropout on the subsampled input (0).")
    weight_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the recurrent weights (0).")
    output_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout before the output layer (0).")
    residual: Literal["none", "residual", "highway"] = Field(
        "none", description="Connection around each layer but the first (none)."
    )
    forget_bias: float | None = Field(1.0, description="Initial bias of the forget gate; null: as torch.nn (1).")
    learn_initial_state: bool = Field(False, description="Make the first state a parameter (false).")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        factor = self.subsampling_factor
        if self.subsampling == "convolution" and (factor < 2 or factor & (factor - 1)):
            raise ValueError(f"subsampling_factor must be a power of two above 1 for convolution, not {factor}")
        if self.direction == "latency-controlled" and self.residual != "none":
            raise ValueError("residual connections are for direction both or forward; set residual=none")
        return self

    @property
    def output_size(self) -> int:
        """Units of the last layer at each frame, both directions together."""
        return self.hidden_size * (1 if self.direction == "forward" else 2)


class DecodingConfig(Section):
    search: Literal["greedy", "beam"] = Field(
        "greedy", description="Take the likeliest path, or search the likeliest text (greedy)."
    )
    beam: int = Field(16, ge=1, le=WIDEST_BEAM, description="Texts that a beam goes on with (16).")
    least_probability: float = Field(
        1e-4, ge=0, lt=1, description="A label of this probability or less is not begun at a frame (0.0001)."
    )
    most_behind: float = Field(
        14.0, gt=0, description="A text that is further behind the best one, in nats, is given up (14)."
    )
    label_bonus: float = Field(
        0.0, ge=-100, le=100, description="What each label adds to a score, against outputs that are too short (0)."
    )
    labels_per_frame: int = Field(
        3, ge=1, le=1000, description="Most labels that a transducer writes in one frame (3)."
    )
    settle_after: int = Field(1000, ge=1, description="Frames after which a stream settles a label in any case (1000).")


class RecognitionTrainingConfig(TrainingConfig):
    batch_frames: int = Field(10_000, ge=1, description="Most frames of a batch, padding included (10,000).")
    samples: int = Field(3, ge=0, description="Validation examples that are shown in the log with their answers (3).")


class RecognitionConfig(RunConfig):
    """What the configurations of all recognisers have."""

    data: Any
    tokenizer: TokenizerConfig = TokenizerConfig(kind="character")
    model: RecognitionModelConfig = RecognitionModelConfig()
    decoding: DecodingConfig = DecodingConfig()
    training: RecognitionTrainingConfig = RecognitionTrainingConfig()


class SpeechConfig(RecognitionConfig):
    """The configuration of a recogniser of speech."""

    task: Literal["speech"] = Field("speech", description="The system that is trained.")
    data: SpeechDataConfig = SpeechDataConfig()
    features: FeaturesConfig = FeaturesConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    tokenizer: TokenizerConfig = TokenizerConfig(kind="character")
    model: RecognitionModelConfig = RecognitionModelConfig()
    decoding: DecodingConfig = DecodingConfig()
    training: RecognitionTrainingConfig = RecognitionTrainingConfig()

    def missing(self) -> str | None:
        """What a training lacks, as a sentence; None: nothing."""
        if not self.data.train:
            return "Missing option '--data': name recordings with their texts (or set data.train in the config)."
        return None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.augmentation.changes_samples and self.features.kept != "samples":
            raise ValueError("augmentation of speed, gain or noise changes samples; set features.kept=samples")
        low, high = self.augmentation.noise_decibels
        if not low <= high:
            raise ValueError(f"augmentation.noise_decibels goes from {low:g} up to {high:g}; give the lower one first")
        return self


_OUTPUTS = {"ctc": "CTC", "transducer": "transducer"}


def describe(config: SpeechConfig) -> dict[str, str]:
    """What a configuration makes, in a few words: its network, its data, and the whole model in a sentence."""
    model, data = config.model, config.data
    ways = {"both": "both directions", "forward": "one direction"}.get(model.direction, "both directions by chunks")
    layers = f"{model.num_layers} layer(s) of {model.hidden_size} units"
    return {
        "network": f"{layers}, {ways}, {model.subsampling} by {model.subsampling_factor}, {_OUTPUTS[model.output]}",
        "data": ", ".join(data.train) or "none",
        "model": f"A recurrent recogniser of speech trained with recurra: {layers} of `{model.cell}` in {ways}, "
        f"trained with {_OUTPUTS[model.output]} on {config.tokenizer.kind} tokens from audio at "
        f"{config.features.rate:,} Hz.",
    }
