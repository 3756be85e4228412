"""`recurra evaluate`, `score`, `next` and `generate`: ask a trained run; of translation, pairs.py does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..shown import tell, visible
from . import pairs
from .frame import UsageError, check_texts, import_torch
from .options import AsJson, Average, Beside, Device, LengthPenalty, RunDirectory, Source, Target, TrustCell
from .output import print_json, print_pairs, print_table, show

if TYPE_CHECKING:
    from ..tasks.language_model_answers import LineScore
    from ..tasks.language_model_predictor import LanguageModelPredictor

__all__ = ["evaluate", "generate", "next_word", "score"]


def _load(directory: str, device: str, trust_cell: bool) -> LanguageModelPredictor:
    """A language model, for the commands that are for nothing else."""
    from ..errors import RunError

    loaded = _load_any(directory, device, trust_cell)
    if loaded.config.task != "language-model":
        raise RunError(f"{directory}: is a run of the task {loaded.config.task}, not of language-model.")
    model: LanguageModelPredictor = loaded
    return model


def _load_any(directory: str, device: str, trust_cell: bool, average: int = 0, beside: Sequence[str] = ()) -> Any:
    import_torch()
    from .. import load

    named = [directory, *beside] if beside else directory
    return load(named, device=device, average=average, trust_cell=trust_cell)


def evaluate(
    directory: RunDirectory,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="FILE...",
            help="What to evaluate on. Language model: one or more files, globs, folders or .gz files; - is stdin. "
            "Translation: one .tsv or .jsonl file of pairs, or --source and --target (required).",
            show_default=False,
        ),
    ] = None,
    source: Source = None,
    target: Target = None,
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", min=1, help="Translation: hypotheses kept (default: decoding.beam).", show_default=False
        ),
    ] = None,
    length_penalty: LengthPenalty = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Translation: write the translations here, one a line (default: nowhere).",
            show_default=False,
        ),
    ] = None,
    bleu_tokenizer: Annotated[
        str | None,
        typer.Option(
            "--bleu-tokenizer",
            metavar="NAME",
            help="Translation: what sacreBLEU parts words by, such as zh or char (default: training.bleu_tokenizer).",
            show_default=False,
        ),
    ] = None,
    references: Annotated[
        str | None,
        typer.Option(
            "--references",
            metavar="FORM",
            help="Translation: compare with the references as written, or normalized as the target's tokens are, which "
            "the signatures then say (default: training.references).",
            show_default=False,
        ),
    ] = None,
    empty_lines: Annotated[
        str | None,
        typer.Option(
            "--empty-lines",
            metavar="WHAT",
            help="Translation: drop leaves pairs with an empty side out of the measures; error refuses them (default: "
            "data.empty_lines).",
            show_default=False,
        ),
    ] = None,
    average: Average = 0,
    beside: Beside = None,
    device: Device = "auto",
    trust_cell: TrustCell = False,
    as_json: AsJson = False,
) -> None:
    """How good a model is: perplexity and bits per character on text; BLEU and chrF of translations.

    A language model reads the files as one stream with the state carried along; a long one in several places at once,
    each after reading what stands before it. A translation system translates the sources, and that is compared with the
    targets.
    """
    predictor = _load_any(directory, device, trust_cell, average, beside or [])
    if predictor.config.task == "translation":
        with _bar("translating") as progress:
            search = {
                "beam": beam,
                "length_penalty": length_penalty,
                "output": output,
                "bleu_tokenizer": bleu_tokenizer,
                "references": references,
                "empty_lines": empty_lines,
            }
            pairs.evaluate(predictor, data or [], source, target, search, progress, as_json)
        return
    others: dict[str, Any] = {
        "--source": source, "--target": target, "--beam": beam, "--length-penalty": length_penalty, "--output": output,
        "--bleu-tokenizer": bleu_tokenizer, "--references": references, "--empty-lines": empty_lines,
    }  # fmt: skip
    for name, value in others.items():
        if value is not None:
            raise UsageError(f"{name} is for translation, and this run is a language model; use --data.")
    if not data:
        raise UsageError("Missing option '--data': name the text to evaluate on.")
    with _bar("evaluating") as progress:
        result = predictor.evaluate(data, progress=progress)
    if as_json:
        print_json(result)
        return
    print_pairs(
        [
            ("loss", f"{result['loss']:.4f} nats per token"),
            ("perplexity", f"{result['perplexity']:.2f} per token"),
            (
                "bits per character",
                f"{result['bits_per_character']:.4f}"
                + (", without how unknown words are spelt" if result["unknown_rate"] else ""),
            ),
            ("tokens", f"{result['tokens']:,}"),
            ("characters", f"{result['characters']:,}"),
            ("unknown tokens", f"{result['unknown_rate']:.2%}"),
        ]
    )


def score(
    directory: RunDirectory,
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Text to score, a line at a time; - is stdin.", show_default=True)
    ] = "-",
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="LINE...", help="Score these lines instead of a file (default: none).", show_default=False
        ),
    ] = None,
    source: Source = None,
    target: Target = None,
    average: Average = 0,
    beside: Beside = None,
    device: Device = "auto",
    trust_cell: TrustCell = False,
    as_json: AsJson = False,
) -> None:
    """How likely each line is, and which of them is likeliest; of a translation system, each target given its source.

    Each line is read on its own, as the first of a text, so its score does not depend on the others. The rank orders
    the lines as alternatives; the share is a line's part of their total probability. Blank lines are passed over. With
    --json, one object a line. Of a translation system FILE is a .tsv or .jsonl of pairs, and stdin lines of a .tsv; a
    text is scored in the tokens that the tokenizer parts it into, which a search need not have found it in.
    """
    check_texts(text=text)
    if text and file != "-":
        raise UsageError("name a file or give lines with --text, not both.")
    # First, so that a mistyped directory is not met by silent waiting for standard input.
    predictor = _load_any(directory, device, trust_cell, average, beside or [])
    if predictor.config.task == "translation":
        if text:
            raise UsageError("--text is for language models; score translations with --source and --target.")
        with _bar("scoring") as progress:
            pairs.score(predictor, file, source, target, progress, as_json)
        return
    if source or target:
        raise UsageError("--source and --target are for translation, and this run is a language model; name a file.")
    lines = [(number, line) for number, line in enumerate(text or _lines(file), start=1) if line.strip()]
    if not lines:
        raise UsageError("there is no line to score: name a file with text in it, or give lines with --text.")
    scores = []
    with _bar("scoring") as progress:
        for _, line in lines:
            scores += predictor.score([line])
            progress(len(scores), len(lines))
    _print_scores([number for number, _ in lines], scores, as_json)


def next_word(
    directory: RunDirectory,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What comes before, in quotes.", show_default=False)],
    top: Annotated[int, typer.Option("--top", min=1, help="How many words to show.")] = 10,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            metavar="WORD,...",
            help="Ask about these words, separated by commas or spaces (default: the likeliest words).",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Show the model's own tokens after exactly this text (default: whole words)."),
    ] = False,
    device: Device = "auto",
    trust_cell: TrustCell = False,
    as_json: AsJson = False,
) -> None:
    """P(next word | words): the likeliest words after a text.

    Example: recurra next runs/books "the apple and" --candidates pear,pair
    """
    check_texts(TEXT=text, candidates=candidates)
    words = [word.strip() for part in candidates or [] for word in part.split(",") if word.strip()]
    if candidates is not None and not words:
        raise UsageError("--candidates: name at least one word, for example --candidates pear,pair.")
    if words and tokens:
        raise UsageError("--candidates are whole words: leave out --tokens.")
    predictor = _load(directory, device, trust_cell)
    found = predictor.next(text, top=top, candidates=words or None, unit="token" if tokens else "word")
    for entry in found:
        if entry.word in found.unknown:
            tell(
                f"recurra: {visible(entry.word)} is not in the model's vocabulary; its probability is that of all "
                "unknown words together."
            )
    if as_json:
        answers = [{**entry._asdict(), "known": entry.word not in found.unknown} for entry in found]
        print_json({"text": text, "next": answers, "unseen": found.unseen})
        return
    print_table(
        ["word", "probability"],
        [
            [each.word, _probability(each.probability) + (" (all unknown words)" if each.word in found.unknown else "")]
            for each in found
        ],
    )


def generate(
    directory: RunDirectory,
    prompt: Annotated[
        str,
        typer.Option("--prompt", metavar="TEXT", help="Text to go on from (default: a new line).", show_default=False),
    ] = "",
    length: Annotated[int, typer.Option("--length", min=1, help="Most tokens to write.")] = 200,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature", min=0.0, help="Divides the logits: below 1 safer, above 1 bolder, 0 the likeliest."
        ),
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", min=1, help="Draw among this many likeliest tokens (default: all).", show_default=False
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            min=0.0,
            max=1.0,
            help="Draw from the likeliest tokens that hold this much probability, 0 to 1 (default: all).",
            show_default=False,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            "--min-p",
            min=0.0,
            max=1.0,
            help="Draw among tokens this fraction as likely as the likeliest, 0 to 1 (default: all).",
            show_default=False,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float,
        typer.Option(
            "--repetition-penalty", min=0.0, help="Makes tokens that were seen less likely: 1 not, 1.2 a bit."
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed writes the same text.")] = 0,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of samples; one is shown as it is written.")] = 1,
    stop: Annotated[
        str | None,
        typer.Option(
            "--stop",
            metavar="TEXT",
            help="End at this text, which is not shown; \\n is a line end (default: only --length ends).",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    trust_cell: TrustCell = False,
    as_json: AsJson = False,
) -> None:
    """Let the model write."""
    check_texts(prompt=prompt, stop=stop)
    import_torch()
    from ..decoding.sampling import SamplingOptions
    from ..errors import ConfigError

    try:
        options = SamplingOptions(temperature, top_k, top_p, min_p, repetition_penalty)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    stop = stop.replace("\\n", "\n") if stop else None
    predictor = _load(directory, device, trust_cell)
    if n == 1 and not as_json:
        show(prompt, end="")
        for piece in predictor.stream(prompt, length, options, seed=seed, stop=stop):
            show(piece, end="")
        print()
        return
    samples = predictor.generate(prompt, length, options, n=n, seed=seed, stop=stop)
    for number, sample in enumerate(samples, start=1):
        if as_json:
            print_json({"sample": number, "prompt": prompt, "text": sample})
        else:
            show(f"--- {number} of {n}\n{prompt}{sample}")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if someone is watching: a function of what is done and what there is in all."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from ..training.logging import screen_progress

    with screen_progress(transient=True) as bar:
        task = bar.add_task(name)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(file: str) -> list[str]:
    from ..data.text import expand_paths, read_text

    return "".join(read_text(expand_paths([file]))).split("\n")


def _print_scores(numbers: Sequence[int], scores: Sequence[LineScore], as_json: bool) -> None:
    from ..tasks.language_model_answers import rank_lines

    ranked = rank_lines(scores)
    # Equal lines are equal scores, so places are looked up by identity.
    places = {id(line.score): place for place, line in enumerate(ranked, start=1)}
    shares = {id(line.score): line.probability for line in ranked}
    if as_json:
        for number, each in zip(numbers, scores, strict=True):
            print_json({"line": number, **asdict(each), "rank": places[id(each)], "share": shares[id(each)]})
        return
    known = ["known"] if any(each.unknown for each in scores) else []
    print_table(
        ["line", "rank", "share", "log-probability", "perplexity", "bits/char", "unknown", *known, "text"],
        [
            [
                str(number),
                str(places[id(each)]),
                "-" if (share := shares[id(each)]) is None else f"{share:.1%}",
                f"{each.log_probability:.3f}",
                f"{each.perplexity:.2f}",
                f"{each.bits_per_character:.3f}",
                str(each.unknown),
                *([f"{each.known_log_probability:.3f}"] if known else []),
                each.text,
            ]
            for number, each in zip(numbers, scores, strict=True)
        ],
    )
    if len(ranked) > 1:
        print(f"\nlikeliest: {visible(ranked[0].score.text)}")
    if known:
        tell(
            "recurra: an unknown word counts as any unknown word, so that the log-probability of its line is too high; "
            "the column `known` leaves it out. Lines with more unknown words than others are ranked after them."
        )


def _probability(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.2e}"
