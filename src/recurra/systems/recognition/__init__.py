"""Recognition of speech: from recordings with their texts to a network that writes what is said."""

from ...bounds import WIDEST_BEAM
from ...registry import Argument, Measure, Option, Part, System, Verb
from ..shared import AVERAGE

__all__ = ["SPEECH"]

_HERE = "recurra.systems.recognition"
_CONFIG = "(default: what the config names)."

_SEARCH = (
    Option(
        "--beam",
        "Search the likeliest text with so many kept (default: decoding.search of the config).",
        int,
        least=1,
        most=WIDEST_BEAM,
    ),
    Option("--label-bonus", "What each label adds to a score (default: decoding.label_bonus).", float),
    Option("--language-model", "Run of a language model that has a say too (default: none).", metavar="RUN"),
    Option("--lm-weight", "Weight of its log-probabilities (default: 0.5).", float, least=0.0, most=100.0),
    Option("--lexicon", "File of the only words that may come out, one a line (default: any).", metavar="FILE"),
    Option(
        "--hotwords",
        "File of words and phrases to expect, one a line, each with its bonus after a tab if it has its own "
        "(default: none).",
        metavar="FILE",
    ),
    Option("--hotword-bonus", "What each hotword adds to a score, in nats.", float, default=2.0, least=0.001, most=1e6),
)

_TRANSCRIBE = Verb(
    "transcribe",
    f"{_HERE}.commands:transcribe",
    """What is said in recordings: a line for each, with its name and a tab before the text.

    Example: recurra transcribe runs/speech meeting.wav

    AUDIO are files, folders and globs, or what names utterances as for a training: .jsonl, .csv, .tsv, Kaldi folders.
    Audio of another rate is resampled. With --json each recording gives one object, with words, times and confidences.

    Example: arecord -t raw -f S16_LE -r 16000 | recurra transcribe runs/speech --stream

    A stream is raw samples on standard input: one channel of 16 bits, little-endian. Text appears when it has settled;
    with --json what is not settled yet is told too.
    """,
    arguments=(Argument("audio", "Recordings.", "AUDIO...", default="", many=True),),
    options=(
        Option(
            "--stream", "Read raw samples from standard input, and write while somebody speaks (default: AUDIO).", bool
        ),
        Option(
            "--rate",
            "Samples a second of the stream (default: what the recogniser hears).",
            int,
            least=1_000,
            most=768_000,
        ),
        Option("--format", "text, ctm (words with times) or srt (subtitles).", default="text"),
        Option("--n-best", "Texts that each recording gets, the best first.", int, default=1, least=1, most=1000),
        *_SEARCH,
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_transcribe",
    progress="transcribing",
)

_EVALUATE = Verb(
    "evaluate",
    f"{_HERE}.commands:evaluate",
    """How many words and characters are wrong, how far the confidences can be believed, and the worst utterances.

    The recordings with their texts are in the form of the training data, unless their names tell another.
    """,
    options=(
        Option(
            "--data", "Recordings with their texts: files, globs or folders (required).", many=True, metavar="FILE..."
        ),
        Option("--errors", "Wrong answers that are shown, those with the most errors first.", int, default=10, least=0),
        Option(
            "--tune",
            "Try weights of the language model and bonuses of labels, and show those with the fewest errors (default: "
            "judge the answers).",
            bool,
        ),
        *_SEARCH,
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_evaluate",
    progress="reading",
)

_MEASURES = (
    Measure("loss", "loss", unit="nats per label", best="lowest"),
    Measure("word_error_rate", "word error rate", "{:.2%}", "", "lowest", "word error rate {:.2%}"),
    Measure("character_error_rate", "character error rate", "{:.2%}", "", "lowest", "character error rate {:.2%}"),
    Measure("exact", "without any error", "{:.2%}", "", "highest"),
    Measure("calibration_error", "calibration error", "{:.4f}", "", "lowest"),
)

_PARTS = (
    Part("front", ("subsampling.",), settings=("subsampling", "subsampling_factor", "convolution_size")),
    Part(
        "recognition encoder",
        ("recurrent.",),
        settings=(
            "cell",
            "hidden_size",
            "num_layers",
            "residual",
            "learn_initial_state",
            "direction",
            "chunk",
            "look_ahead",
        ),
    ),
    Part(
        "labels",
        ("output.", "confidence"),
        of_files=("tokenizer.json",),
        settings=("output", "predictor_size", "joint_size"),
    ),
)

SPEECH = System(
    name="speech",
    summary="texts of recordings, from recordings with what is said in them",
    schema=f"{_HERE}.config:SpeechConfig",
    prepare=f"{_HERE}.train:prepare_task",
    predictor=f"{_HERE}.predict:SpeechRecogniser",
    build=f"{_HERE}.loading:build",
    network=f"{_HERE}.loading:speech_network",
    describe=f"{_HERE}.config:describe",
    options=(
        Option(
            "--data",
            "Recordings with their texts: Kaldi folders, .jsonl, .csv, .tsv, or folders of audio " + _CONFIG,
            many=True,
            metavar="FILE...",
            key="data.train",
        ),
        Option(
            "--valid",
            "The same to validate on (default: a tenth of the data).",
            many=True,
            metavar="FILE...",
            key="data.valid",
        ),
        Option(
            "--pattern",
            "Regular expression for the names of audio files, with groups text and, if need be, speaker (default: "
            "none).",
            metavar="PATTERN",
            key="data.pattern",
        ),
        Option("--rate", "Samples a second; other audio is resampled (default: 16000).", int, key="features.rate"),
    ),
    verbs=(_TRANSCRIBE, _EVALUATE),
    measures=_MEASURES,
    outcomes=f"{_HERE}.outcomes:utterance_outcomes",
    unit="frames",
    files=(("tokenizer.json", "features.json"),),
    parts=_PARTS,
    pipeline="automatic-speech-recognition",
    example="""answer = model.transcribe("meeting.wav")[0]
print(answer.text, answer.words)""",
)
