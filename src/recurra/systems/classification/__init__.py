"""Classification: from labelled texts to a network that labels others, or gives each a number."""

from ...registry import Measure, Option, Part, System, Verb
from ..shared import AVERAGE

__all__ = ["SYSTEM"]

_HERE = "recurra.systems.classification"
_CONFIG = "(default: what the config names)."

_LABEL = Option(
    "--label-column", "Column by name or number, or JSON key, of the labels (default: data.label).", metavar="COLUMN"
)
_TEXT = Option("--text-column", "The same for the text (default: data.text).", metavar="COLUMN")

_EVALUATE = Verb(
    "evaluate",
    f"{_HERE}.commands:evaluate",
    """How many labels are right, label by label, how far the probabilities can be believed, and the worst errors.

    The labelled texts are in the form of the training texts, unless their names or the options say otherwise.
    """,
    options=(
        Option("--data", "Labelled texts: files, globs or folders (required).", many=True, metavar="FILE..."),
        _LABEL,
        _TEXT,
        Option("--errors", "Wrong answers that are shown, the surest first.", int, default=10, least=0),
        Option(
            "--pictures",
            "Write confusion.png and reliability.png into this folder (default: nowhere).",
            metavar="DIR",
        ),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_evaluate",
    progress="reading",
)

_CLASSIFY = Verb(
    "classify",
    f"{_HERE}.commands:classify",
    """The label of each line of standard input and its probability, parted by a tab: as many lines out as in.

    Example: echo "what a lovely film" | recurra classify runs/films

    Of several labels each has its probability after it, and none gives an empty line; a number stands alone. An empty
    line of input gets what is likeliest without a look at any text. With --json each line gives one object with all
    probabilities.
    """,
    options=(
        Option(
            "--abstain",
            "Write ? in place of a label whose probability is below this (default: never).",
            float,
            least=0.0,
            most=1.0,
        ),
        Option(
            "--explain",
            "Show what each token adds to the answer, by integrated gradients (default: the answer alone).",
            bool,
        ),
        Option("--page", "Write the explained texts as a page of HTML too (default: nowhere).", metavar="FILE"),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_classify",
    lines=True,
    progress="classifying",
)

SYSTEM = System(
    name="classification",
    summary="labels of texts, or a number for each, from labelled texts",
    schema=f"{_HERE}.config:ClassificationConfig",
    prepare=f"{_HERE}.train:prepare_task",
    predictor=f"{_HERE}.predict:Classifier",
    build=f"{_HERE}.loading:build",
    network=f"{_HERE}.loading:network",
    describe=f"{_HERE}.config:describe",
    options=(
        Option(
            "--data",
            "Labelled texts: .tsv, .csv, .jsonl, fastText lines, or a folder of folders " + _CONFIG,
            many=True,
            metavar="FILE...",
            key="data.train",
        ),
        Option(
            "--valid",
            "Labelled texts to validate on, in the same forms (default: a tenth of the data).",
            many=True,
            metavar="FILE...",
            key="data.valid",
        ),
        Option(
            "--label-column",
            "Column by name or number from 1, or JSON key, of the labels (default: 1, or label).",
            metavar="COLUMN",
            key="data.label",
        ),
        Option("--text-column", "The same for the text (default: 2, or text).", metavar="COLUMN", key="data.text"),
        Option(
            "--kind",
            "single-label, multi-label or regression (default: single-label).",
            metavar="KIND",
            key="data.kind",
        ),
        Option(
            "--vectors", "Word vectors that embeddings start from (default: none).", metavar="FILE", key="data.vectors"
        ),
    ),
    verbs=(_EVALUATE, _CLASSIFY),
    measures=(
        Measure("loss", "loss", unit="per text", best="lowest"),
        Measure("accuracy", "accuracy", "{:.2%}", "", "highest", "{:.2%} right"),
        Measure("exact", "all labels right", "{:.2%}", "", "highest", "{:.2%} exact"),
        Measure("micro_f1", "micro F1", "{:.4f}", "", "highest", "micro F1 {:.4f}"),
        Measure("macro_f1", "macro F1", "{:.4f}", "", "highest", "macro F1 {:.4f}"),
        Measure("calibration_error", "calibration error", "{:.4f}", "", "lowest"),
        Measure("brier", "Brier score", "{:.4f}", "", "lowest"),
        Measure("temperature", "temperature", "{:.3f}"),
        Measure("pearson", "Pearson correlation", "{:.4f}", "", "highest", "Pearson {:.4f}"),
        Measure(
            "rmse", "root mean squared error", "{:.4f}", "", "lowest", "error {:.4f}", f"{_HERE}.outcomes:root_of_mean"
        ),
    ),
    outcomes=f"{_HERE}.outcomes:text_outcomes",
    baseline=f"{_HERE}.outcomes:most_frequent_label",
    unit="texts",
    files=(("tokenizer.json", "labels.json"),),
    parts=(
        Part("embedding", ("embedding.",), of_tokens=True, settings=("embedding_size",)),
        Part(
            "encoder",
            ("recurrent.",),
            settings=("cell", "hidden_size", "num_layers", "residual", "learn_initial_state", "bidirectional"),
        ),
        Part("pooling", ("pooling.",)),
        Part("labels", ("hidden.", "output.", "temperature", "thresholds", "prior"), of_files=("labels.json",)),
    ),
    reader=f"{_HERE}.reading:READER",
    pipeline="text-classification",
    example="""answer = model.classify(["what a lovely film"])[0]
print(answer.json())""",
)
