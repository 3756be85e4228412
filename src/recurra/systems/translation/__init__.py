"""Translation: from pairs of sentences to a system that writes one language for another."""

from ...registry import Argument, Measure, Option, Part, System, Verb
from ..shared import AVERAGE, BITS_PER_CHARACTER, LOSS, PERPLEXITY, UNKNOWN_RATE, WORDS

__all__ = ["SYSTEM"]

_HERE = "recurra.systems.translation"
_VECTORS = ("data.source_vectors", "data.target_vectors")
_CONFIG = "(default: what the config names)."


def _file(flag: str, help: str, key: str = "") -> Option:
    return Option(flag, help, metavar="FILE", key=key)


def _pairs(flag: str, help: str, key: str) -> Option:
    return Option(flag, help, many=True, single="file of pairs", metavar="FILE", key=key)


_TOGETHER = Option(
    "--with",
    "More runs of the same vocabulary, which decide together with it (default: none).",
    many=True,
    metavar="DIR...",
    loads=True,
    parameter="beside",
)
_LENGTH_PENALTY = Option(
    "--length-penalty",
    "Higher favours longer translations (default: decoding.length_penalty).",
    float,
    least=0.0,
    most=10.0,
)
_BEAM = Option("--beam", "Hypotheses kept; 1 is greedy (default: decoding.beam).", int, least=1)

_EVALUATE = Verb(
    "evaluate",
    f"{_HERE}.commands:evaluate",
    """How good translations are: BLEU and chrF, and the perplexity of the references.

    The sources are translated, and what comes out is compared with the targets.
    """,
    options=(
        Option(
            "--data",
            "One .tsv, .csv or .jsonl file of pairs, or --source and --target (required).",
            many=True,
            metavar="FILE",
        ),
        _file("--source", "Sentences, one a line (default: none)."),
        _file("--target", "Their translations, line by line (default: none)."),
        _BEAM,
        _LENGTH_PENALTY,
        _file("--output", "Write the translations here, one a line (default: nowhere)."),
        Option(
            "--bleu-tokenizer",
            "What sacreBLEU parts words by, such as zh or char (default: training.bleu_tokenizer).",
            metavar="NAME",
        ),
        Option(
            "--references",
            "Compare with the references as written, or normalized as the target's tokens are, which the signatures "
            "then say (default: training.references).",
            metavar="FORM",
        ),
        Option(
            "--empty-lines",
            "drop leaves pairs with an empty side out of the measures; error refuses them (default: data.empty_lines).",
            metavar="WHAT",
        ),
        AVERAGE,
        _TOGETHER,
    ),
    check=f"{_HERE}.commands:check_evaluate",
    progress="translating",
)

_SCORE = Verb(
    "score",
    f"{_HERE}.commands:score",
    """How likely each target is, given its source.

    FILE is a .tsv, .csv or .jsonl of pairs, and stdin lines of a .tsv. A text is scored in the tokens that the
    tokenizer parts it into, which a search need not have found it in. With --json, one object a line.
    """,
    arguments=(Argument("file", "Pairs to score; - is stdin.", "[FILE|-]", "-"),),
    options=(
        _file("--source", "Sentences, one a line (default: none)."),
        _file("--target", "Their translations, line by line (default: none)."),
        WORDS,
        AVERAGE,
        _TOGETHER,
    ),
    check=f"{_HERE}.commands:check_score",
    progress="scoring",
)

_TRANSLATE = Verb(
    "translate",
    f"{_HERE}.commands:translate",
    """Translate standard input line by line: as many lines out as in, an empty one for an empty one.

    Example: recurra translate runs/en-de < news.en > news.de

    Each line is answered as soon as no other one waits, so that it can be typed to and talked to through pipes. With
    --n-best above 1, each line gives that many lines: its number, the translation and its score, parted by tabs. Of
    several runs all decide together.
    """,
    options=(
        _BEAM,
        Option(
            "--n-best", "Translations of each line; widens the configured beam to as many.", int, default=1, least=1
        ),
        _LENGTH_PENALTY,
        Option(
            "--coverage-penalty",
            "Higher favours translations that attend to every source word (default: decoding.coverage_penalty).",
            float,
            least=0.0,
        ),
        Option("--min-length", "Fewest tokens of a translation.", int, default=0, least=0),
        Option("--max-length", "Most tokens (default: decoding.max_length_ratio x source + 10).", int, least=1),
        Option("--no-repeat", "No run of so many tokens occurs twice; 0: any may.", int, default=0, least=0),
        Option("--prefix", "What every translation begins with (default: nothing).", default="", metavar="TEXT"),
        Option(
            "--prefixes",
            "Each line is a sentence, a tab, and what its translation begins with (default: a sentence).",
            bool,
        ),
        Option("--ban", "Words that must not occur (default: none).", many=True, metavar="WORD..."),
        Option("--require", "Words that must occur (default: none).", many=True, metavar="WORD..."),
        AVERAGE,
        Option("--sample", "Draw translations by their probability (default: search the likeliest).", bool),
        Option("--temperature", "With --sample: below 1 safer, above 1 bolder (default: 1).", float, least=0.0),
        Option("--top-k", "With --sample: draw among this many likeliest tokens (default: all).", int, least=1),
        Option(
            "--top-p",
            "With --sample: draw from the likeliest tokens that hold this much probability (default: all).",
            float,
            least=0.0,
            most=1.0,
        ),
        Option("--seed", "With --sample: the same seed draws the same (default: 0).", int, least=0),
        Option(
            "--attention",
            "Write each line's attention as a picture and JSON, and all alignments, here (default: nowhere).",
            metavar="DIR",
        ),
        Option(
            "--page",
            "Write the translations and what each word looks at as a page of HTML too (default: nowhere).",
            metavar="FILE",
        ),
        Option("--batch-size", "Lines side by side (default: decoding.batch_size).", int, least=1),
    ),
    check=f"{_HERE}.commands:check_translate",
    several=True,
    lines=True,
    progress="translating",
)

SYSTEM = System(
    name="translation",
    summary="one language from another, from pairs of sentences",
    schema=f"{_HERE}.config:TranslationConfig",
    prepare=f"{_HERE}.train:prepare_task",
    predictor=f"{_HERE}.predict:Translator",
    build=f"{_HERE}.loading:build",
    network=f"{_HERE}.loading:network",
    describe=f"{_HERE}.config:describe",
    options=(
        _pairs("--data", f"One .tsv, .csv or .jsonl file of pairs {_CONFIG}", "data.pairs"),
        _pairs("--valid", "Pairs to validate on, in the same form (default: a tenth of the data).", "data.valid_pairs"),
        _file("--source", f"Sentences to translate from, one a line {_CONFIG}", "data.source"),
        _file("--target", f"Their translations, line by line {_CONFIG}", "data.target"),
        _file("--valid-source", f"Sentences to validate on {_CONFIG}", "data.valid_source"),
        _file("--valid-target", f"Their translations {_CONFIG}", "data.valid_target"),
        _file("--source-vectors", "Word vectors that source embeddings start from (default: none).", _VECTORS[0]),
        _file("--target-vectors", "Word vectors that target embeddings start from (default: none).", _VECTORS[1]),
        Option(
            "--toy",
            "Made-up rows of letters: reverse or copy, learnt in a minute (default: real data).",
            metavar="NAME",
            key="data.toy",
            settings=f"{_HERE}.toy:toy_settings",
        ),
    ),
    verbs=(_EVALUATE, _SCORE, _TRANSLATE),
    measures=(
        LOSS,
        PERPLEXITY,
        BITS_PER_CHARACTER,
        Measure("bleu", "BLEU", "{:.2f}", "", "highest", "BLEU {:.2f}", "recurra.measures.translation:bleu_of_sums"),
        Measure("bleu_tokenized", "BLEU, tokenised", "{:.2f}", "", "highest"),
        Measure("chrf", "chrF", "{:.2f}", "", "highest", "chrF {:.2f}"),
        Measure("exact", "exact", "{:.2%}", "", "highest", "{:.2%} exact"),
        Measure("aligned", "aligned", "{:.2%}", "", "highest", "{:.2%} aligned"),
        Measure("length_ratio", "length ratio", "{:.3f}", "", "nearest to 1", "length ratio {:.3f}"),
        UNKNOWN_RATE,
    ),
    outcomes=f"{_HERE}.outcomes:pair_outcomes",
    unit="tokens",
    files=(("tokenizer.json",), ("tokenizer.source.json", "tokenizer.target.json")),
    parts=(
        Part("source embedding", ("source_embedding.",), of_tokens=True),
        Part("embedding", ("target_embedding.",), of_tokens=True),
        Part("encoder", ("encoder.recurrent.", "encoder.")),
        Part("decoder", ("decoder.",)),
        Part("copying", ("copy_gate.",)),
        Part("output", ("output.", "output_bias"), of_tokens=True),
    ),
    reader=f"{_HERE}.reading:READER",
    pipeline="translation",
    example="""print(model.translate(["A sentence of the source language."])[0].best)""",
)
