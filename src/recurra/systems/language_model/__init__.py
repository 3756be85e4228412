"""Language models: P(next token | tokens), learnt from plain text."""

from ...registry import Argument, Measure, Option, Part, System, Verb
from ..shared import AVERAGE, BITS_PER_CHARACTER, LOSS, PERPLEXITY, UNKNOWN_RATE, WORDS

__all__ = ["SYSTEM"]

_HERE = "recurra.systems.language_model"

_EVALUATE = Verb(
    "evaluate",
    f"{_HERE}.commands:evaluate",
    """How good a model is: perplexity and bits per character on text.

    The files are read as one stream with the state carried along; a long one in several places at once, each after
    reading what stands before it.
    """,
    options=(
        Option(
            "--data",
            "Text to evaluate on: one or more files, globs, folders or .gz files; - is stdin (required).",
            many=True,
            metavar="FILE...",
        ),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_evaluate",
    progress="evaluating",
)

_SCORE = Verb(
    "score",
    f"{_HERE}.commands:score",
    """How likely each line is, and which of them is likeliest.

    Each line is read on its own, as the first of a text, so its score does not depend on the others. The rank orders
    the lines as alternatives; the share is a line's part of their total probability. Blank lines are passed over. With
    --json, one object a line.
    """,
    arguments=(Argument("file", "Text to score, a line at a time; - is stdin.", "[FILE|-]", "-"),),
    options=(
        Option("--text", "Score these lines instead of a file (default: none).", many=True, metavar="LINE..."),
        WORDS,
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_score",
    progress="scoring",
)

_NEXT = Verb(
    "next",
    f"{_HERE}.commands:next_word",
    """P(next word | words): the likeliest words after a text.

    Example: recurra next runs/books "the apple and" --candidates pear,pair
    """,
    arguments=(Argument("text", "What comes before, in quotes.", "TEXT"),),
    options=(
        Option("--top", "How many words to show.", int, default=10, least=1),
        Option(
            "--candidates",
            "Ask about these words, separated by commas or spaces (default: the likeliest words).",
            many=True,
            metavar="WORD,...",
        ),
        Option("--tokens", "Show the model's own tokens after exactly this text (default: whole words).", bool),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_next_word",
)

_GENERATE = Verb(
    "generate",
    f"{_HERE}.commands:generate",
    "Let the model write.",
    options=(
        Option("--prompt", "Text to go on from (default: a new line).", default="", metavar="TEXT"),
        Option("--length", "Most tokens to write.", int, default=200, least=1),
        Option(
            "--temperature",
            "Divides the logits: below 1 safer, above 1 bolder, 0 the likeliest.",
            float,
            default=1.0,
            least=0.0,
        ),
        Option("--top-k", "Draw among this many likeliest tokens (default: all).", int, least=1),
        Option(
            "--top-p",
            "Draw from the likeliest tokens that hold this much probability, 0 to 1 (default: all).",
            float,
            least=0.0,
            most=1.0,
        ),
        Option(
            "--min-p",
            "Draw among tokens this fraction as likely as the likeliest, 0 to 1 (default: all).",
            float,
            least=0.0,
            most=1.0,
        ),
        Option(
            "--repetition-penalty",
            "Makes tokens that were seen less likely: 1 not, 1.2 a bit.",
            float,
            default=1.0,
            least=0.0,
        ),
        Option("--seed", "The same seed writes the same text.", int, default=0, least=0),
        Option("--n", "Number of samples; one is shown as it is written.", int, default=1, least=1),
        Option(
            "--stop",
            "End at this text, which is not shown; \\n is a line end (default: only --length ends).",
            metavar="TEXT",
        ),
        AVERAGE,
    ),
    check=f"{_HERE}.commands:check_generate",
)

SYSTEM = System(
    name="language-model",
    summary="P(next word | words), from plain text",
    schema=f"{_HERE}.config:LanguageModelConfig",
    prepare=f"{_HERE}.train:prepare_task",
    predictor=f"{_HERE}.predict:LanguageModelPredictor",
    build=f"{_HERE}.loading:build",
    network=f"{_HERE}.loading:network",
    describe=f"{_HERE}.config:describe",
    options=(
        Option(
            "--data",
            "Text to learn from: one or more files, globs, folders or .gz files; - is stdin (default: what the config "
            "names).",
            many=True,
            metavar="FILE...",
            key="data.train",
        ),
        Option(
            "--valid",
            "Text to validate on, in the same forms (default: a tenth of the data).",
            many=True,
            metavar="FILE...",
            key="data.valid",
        ),
        Option(
            "--vectors",
            "Word vectors that embeddings start from: a file of word2vec, GloVe or fastText (default: none).",
            metavar="FILE",
            key="data.vectors",
        ),
    ),
    verbs=(_EVALUATE, _SCORE, _NEXT, _GENERATE),
    measures=(
        LOSS,
        PERPLEXITY,
        BITS_PER_CHARACTER,
        Measure("tokens", "tokens", "{:,}"),
        Measure("characters", "characters", "{:,}"),
        UNKNOWN_RATE,
    ),
    outcomes=f"{_HERE}.outcomes:line_outcomes",
    baseline="recurra.comparison.ngram_baseline:ngram_baseline",
    unit="tokens",
    files=(("tokenizer.json",),),
    parts=(
        Part("embedding", ("embedding.",), of_tokens=True, settings=("embedding_size",)),
        Part(
            "encoder",
            ("recurrent.",),
            settings=("cell", "hidden_size", "num_layers", "residual", "learn_initial_state"),
            implied=(("bidirectional", False),),
        ),
        Part("output", ("output.", "output_bias"), of_tokens=True),
    ),
    reader=f"{_HERE}.reading:READER",
    pipeline="text-generation",
    example="""model.next("the apple and")
model.score(["the apple and pear salad", "the apple and pair salad"])
print(model.generate("the apple and", length=100)[0])""",
)
