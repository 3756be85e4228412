"""Tagging: from tagged sentences to a network that tags the words of others."""

from ...registry import Argument, Measure, Option, Part, System, Verb
from ..shared import AVERAGE

__all__ = ["SYSTEM"]

_HERE = "recurra.systems.tagging"
_CONFIG = "(default: what the config names)."

_EVALUATE = Verb(
    "evaluate",
    f"{_HERE}.commands:evaluate",
    """How many tags are right: of all words, of unknown ones, by how often training had a word; spans; confusions.""",
    options=(
        Option("--data", "Tagged sentences: files, globs or folders (required).", many=True, metavar="FILE..."),
        Option("--errors", "Wrong tags that are shown with their places.", int, default=10, least=0),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_evaluate",
    progress="tagging",
)

_TAG = Verb(
    "tag",
    f"{_HERE}.commands:tag",
    """Tag the words of a file: its own text comes out, with other tags and all else untouched.

    Example: recurra tag runs/english < new.conllu > tagged.conllu

    FILE is in the format of the training files, unless its name or --format says otherwise. With --plain each line of
    standard input is a sentence, its words parted by spaces, and each word comes out with its tags after a slash. With
    --json each sentence is one object.
    """,
    arguments=(Argument("file", "Sentences to tag; - is stdin.", "[FILE|-]", "-"),),
    options=(
        Option("--plain", "Lines of words in, word/tag out (default: the format of the file).", bool),
        Option("--format", "conllu, columns or jsonl (default: as the file's name or training says).", metavar="NAME"),
        Option("--words-column", "Column or key of the words (default: data.words).", metavar="COLUMN"),
        Option("--n-best", "With --plain: ways to tag each sentence, with log-probabilities.", int, default=1, least=1),
        Option("--marginals", "With --plain: the probability of each tag too (default: the tag alone).", bool),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_tag",
    lines=True,
    progress="tagging",
)

SYSTEM = System(
    name="tagging",
    summary="tags of words, such as parts of speech and entities, from tagged sentences",
    schema=f"{_HERE}.config:TaggingConfig",
    prepare=f"{_HERE}.train:prepare_task",
    predictor=f"{_HERE}.predict:TaggerPredictor",
    build=f"{_HERE}.loading:build",
    network=f"{_HERE}.loading:network",
    describe=f"{_HERE}.config:describe",
    options=(
        Option(
            "--data",
            "Tagged sentences: .conllu, columns or .jsonl " + _CONFIG,
            many=True,
            metavar="FILE...",
            key="data.train",
        ),
        Option(
            "--valid",
            "Tagged sentences to validate on (default: a tenth of the data).",
            many=True,
            metavar="FILE...",
            key="data.valid",
        ),
        Option(
            "--tags",
            "Columns or keys of the tags (default: UPOS, the last column, or the key tags).",
            many=True,
            metavar="COLUMN...",
            key="data.tags",
        ),
        Option(
            "--words", "Column or key of the words (default: FORM, 1, or words).", metavar="COLUMN", key="data.words"
        ),
        Option(
            "--scheme",
            "How tags mark spans of words: none, iob1, bio, bioes, bilou or bmes (default: none).",
            metavar="NAME",
            key="data.scheme",
        ),
        Option(
            "--language-models",
            "Character language models that are read along (default: none).",
            many=True,
            metavar="RUN...",
            key="data.language_models",
        ),
        Option(
            "--backward-language-models",
            "The same of models trained on lines that run backwards (default: none).",
            many=True,
            metavar="RUN...",
            key="data.backward_language_models",
        ),
        Option(
            "--vectors", "Word vectors that embeddings start from (default: none).", metavar="FILE", key="data.vectors"
        ),
    ),
    verbs=(_EVALUATE, _TAG),
    measures=(
        Measure("loss", "loss", unit="nats per word", best="lowest"),
        Measure("accuracy", "accuracy", "{:.2%}", "", "highest", "{:.2%} right"),
        Measure("unknown_accuracy", "accuracy on unknown words", "{:.2%}", "", "highest", "{:.2%} of unknown"),
        Measure("mean_accuracy", "mean accuracy of columns", "{:.2%}", "", "highest", "{:.2%} in the mean"),
        Measure("all_right", "all columns right", "{:.2%}", "", "highest"),
        Measure("span_f1", "F1 of spans", "{:.4f}", "", "highest", "span F1 {:.4f}"),
    ),
    outcomes=f"{_HERE}.outcomes:sentence_outcomes",
    unit="words",
    files=(("vocabulary.json",),),
    parts=(
        Part("word embedding", ("word_embedding.",), of_files=("vocabulary.json",)),
        Part("characters", ("character_embedding.", "spelling."), of_files=("vocabulary.json",)),
        Part("language models", ("readers.",), of_files=("vocabulary.json",)),
        Part("encoder", ("recurrent.",)),
        Part("tags", ("outputs.", "fields."), of_files=("vocabulary.json",)),
    ),
    reader=f"{_HERE}.reading:READER",
    pipeline="token-classification",
    example="""tagged = model.tag([["The", "pear", "is", "sweet"]])[0]
print(tagged.tags)""",
)
