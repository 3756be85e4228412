"""`recurra translate`: translate lines from standard input, or at the prompt."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError
from ..shown import tell, visible
from .frame import UsageError, check_texts, import_torch
from .options import Device, LengthPenalty, TrustCell
from .output import print_json

if TYPE_CHECKING:
    from ..tasks.translation_answers import Translation
    from ..tasks.translator import Translator

__all__ = ["translate"]

# Lines that are read before the first is answered: sorted by length they keep the beams full. Their answers stay until
# they are printed, and the attention over long lines is large, so their characters are bounded too.
_LINES = 512
_CHARACTERS = 1 << 17

_SHOWN = re.compile(r"attention-\d{5,}\.(png|json)")


def translate(
    directories: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...",
            help="Run directory, or USER/NAME on the Hugging Face Hub; of several, all decide together.",
            show_default=False,
        ),
    ],
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", min=1, help="Hypotheses kept; 1 is greedy (default: decoding.beam).", show_default=False
        ),
    ] = None,
    n_best: Annotated[
        int, typer.Option("--n-best", min=1, help="Translations of each line; widens the configured beam to as many.")
    ] = 1,
    length_penalty: LengthPenalty = None,
    coverage_penalty: Annotated[
        float | None,
        typer.Option(
            "--coverage-penalty",
            min=0.0,
            help="Higher favours translations that attend to every source word (default: decoding.coverage_penalty).",
            show_default=False,
        ),
    ] = None,
    min_length: Annotated[int, typer.Option("--min-length", min=0, help="Fewest tokens of a translation.")] = 0,
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length",
            min=1,
            help="Most tokens (default: decoding.max_length_ratio x source + 10).",
            show_default=False,
        ),
    ] = None,
    no_repeat: Annotated[
        int, typer.Option("--no-repeat", min=0, help="No run of so many tokens occurs twice; 0: any may.")
    ] = 0,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="What every translation begins with (default: nothing).")
    ] = "",
    ban: Annotated[
        list[str] | None,
        typer.Option("--ban", metavar="WORD...", help="Words that must not occur (default: none).", show_default=False),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", metavar="WORD...", help="Words that must occur (default: none).", show_default=False),
    ] = None,
    average: Annotated[
        int,
        typer.Option(
            "--average",
            min=0,
            help="Mean of the weights of so many latest evaluations (training.keep_evaluated); 0: the best weights.",
        ),
    ] = 0,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw translations by their probability (default: search the likeliest).")
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            min=0.0,
            help="With --sample: below 1 safer, above 1 bolder (default: 1).",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            min=1,
            help="With --sample: draw among this many likeliest tokens (default: all).",
            show_default=False,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            min=0.0,
            max=1.0,
            help="With --sample: draw from the likeliest tokens that hold this much probability (default: all).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="With --sample: the same seed draws the same (default: 0).", show_default=False
        ),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(
            "--attention",
            metavar="DIR",
            help="Write each line's attention as a picture and JSON, and all alignments, here (default: nowhere).",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Lines side by side (default: decoding.batch_size).", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    trust_cell: TrustCell = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text (default: text).")] = False,
) -> None:
    """Translate standard input line by line: as many lines out as in, an empty one for an empty one.

    Example: recurra translate runs/en-de < news.en > news.de

    Each line is answered as soon as no other one waits, so that it can be typed to and talked to through pipes. With
    --n-best above 1, each line gives that many lines: its number, the translation and its score, parted by tabs.
    """
    check_texts(prefix=prefix, ban=ban, require=require)
    options: dict[str, Any] = {
        "beam": beam,
        "n_best": n_best,
        "length_penalty": length_penalty,
        "coverage_penalty": coverage_penalty,
        "min_length": min_length,
        "max_length": max_length,
        "no_repeat": no_repeat,
        "prefix": prefix,
        "banned": ban or [],
        "required": require or [],
        "seed": seed or 0,
        "batch_size": batch_size,
    }
    if beam is not None and n_best > beam and not sample:
        raise UsageError(f"--n-best {n_best} needs a beam of as many hypotheses: raise --beam.")
    import_torch()
    if sample:
        from ..decoding.sampling import SamplingOptions

        if beam is not None:
            raise UsageError("--beam is for searching: leave it out with --sample.")
        options["sampling"] = SamplingOptions(1.0 if temperature is None else temperature, top_k, top_p)
    else:
        drawing = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
        for name, value in drawing.items():
            if value is not None:
                raise UsageError(f"{name} is for drawing: give --sample too.")
    from ..tasks.own_cell import trusting
    from ..tasks.translator import Translator

    with trusting(trust_cell):
        translator = Translator.from_runs(directories, device=device, average=average)
    if attention is not None:
        if not translator.attends:
            raise UsageError("--attention: a model with model.attention none has no attention to show; leave it out.")
        _make_folder(attention)
    typed = sys.stdin.isatty()
    if typed:
        tell("Type a sentence to translate; end with Ctrl-D.")
    waiting: list[str] = []
    characters = 0
    with _counter(not typed) as progress:
        session = _Session(translator, options, n_best, attention, as_json, progress)
        for line in _typed_lines() if typed and sys.stdout.isatty() else _input_lines():
            if line is not None:
                waiting.append(line)
                characters += len(line)
            if waiting and (line is None or len(waiting) == _LINES or characters > _CHARACTERS):
                session.answer(waiting)
                waiting, characters = [], 0
        if waiting:
            session.answer(waiting)


@contextmanager
def _counter(wanted: bool) -> Iterator[Callable[[int], None]]:
    """The number of lines that are done on stderr, if someone is watching there and sees no answers."""
    if not wanted or not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda done: None
        return
    from ..training.logging import screen_progress

    with screen_progress("translating, {task.completed:,.0f} lines done", transient=True) as bar:
        task = bar.add_task("")
        yield lambda done: bar.update(task, completed=done)


@dataclass
class _Session:
    """Lines in, answers out, counted."""

    translator: Translator
    options: dict[str, Any]
    n_best: int
    attention: Path | None
    as_json: bool
    progress: Callable[[int], None]
    lines: int = 0

    def answer(self, lines: list[str]) -> None:
        before = self.lines
        translations = self.translator.translate(
            lines, first=before, progress=lambda done, total: self.progress(before + done), **self.options
        )
        for translation in translations:
            self.lines += 1
            if translation.cut_at is not None:
                tell(
                    f"recurra: line {self.lines} is longer than {translation.cut_at} tokens and is translated up to "
                    "there; decoding.max_source_length is the limit."
                )
            if translation.unmet:
                tell(
                    f"recurra: line {self.lines}: no translation meets the constraints; ask for fewer required, banned "
                    "or unrepeated words, or for other lengths."
                )
            self._print(translation)
            if self.attention is not None:
                _write_attention(self.attention, self.lines, translation)

    def _print(self, translation: Translation) -> None:
        if self.as_json:
            texts = [
                {
                    "text": each.text,
                    "log_probability": each.log_probability,
                    "score": each.score,
                    "alignment": each.pharaoh,
                }
                for each in translation.alternatives
            ]
            print_json(
                {
                    "line": self.lines,
                    "source": translation.source,
                    "translation": translation.best,
                    "alternatives": texts,
                    "cut_at": translation.cut_at,
                    "unmet": translation.unmet,
                }
            )
        elif self.n_best == 1:
            print(_shown(translation.best), flush=True)
        else:
            for each in translation.alternatives:
                print(f"{self.lines}\t{_shown(each.text)}\t{each.score:.4f}", flush=True)
            if not translation.alternatives:
                print(f"{self.lines}\t\t", flush=True)


def _shown(text: str) -> str:
    # Escape sequences that a model picked up from its data must not reach a terminal; a file gets what was written.
    return visible(text) if sys.stdout.isatty() else text


def _typed_lines() -> Iterator[str | None]:
    """Lines that are typed, with the keys for editing and for earlier lines where Python has readline."""
    with suppress(ImportError):
        import readline  # noqa: F401
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    with suppress(EOFError):
        while True:
            yield input()
            yield None


def _input_lines() -> Iterator[str | None]:
    """Lines of standard input, and None wherever more would have to be waited for.

    Each line as it is: what is not UTF-8 is replaced and said, so that no line is lost.
    """
    number = 0
    for raw in _raw_lines():
        if raw is None:
            yield None
            continue
        number += 1
        bare = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = bare.decode("utf-8")
        except UnicodeDecodeError as error:
            tell(
                f"recurra: standard input:{number}: byte 0x{bare[error.start]:02x} is not UTF-8 and is read as an "
                "unknown character; save the text as UTF-8."
            )
            text = bare.decode("utf-8", "replace")
        yield text.lstrip("\ufeff")


def _raw_lines() -> Iterator[bytes | None]:
    try:
        file = sys.stdin.fileno()
    except (OSError, ValueError):  # standard input that is no file, as of a notebook
        yield from sys.stdin.buffer
        return
    rest = b""
    while chunk := _read(file):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if not _more_is_there(file):
            yield None
    if rest:
        yield rest


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}).") from error


def _more_is_there(file: int) -> bool:
    try:
        return bool(select.select([file], [], [], 0)[0])
    except (OSError, ValueError):  # where only sockets can be asked, more is awaited
        return True


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What was shown of another text would be taken for this one's.
        for old in folder.iterdir():
            if _SHOWN.fullmatch(old.name):
                old.unlink()
        (folder / "alignments.txt").write_text("")
    except OSError as error:
        raise UsageError(f"--attention {folder}: cannot be written ({error.strerror}); name another folder.") from error


def _write_attention(folder: Path, line: int, translation: Translation) -> None:
    """attention-LINE.png and .json of the best translation, and its alignment in alignments.txt."""
    import json

    from ..errors import RunError
    from ..files import unwritten
    from ..tasks.alignment import draw_attention

    best = translation.alternatives[0] if translation.alternatives else None
    try:
        with open(folder / "alignments.txt", "a", encoding="utf-8") as file:
            file.write((best.pharaoh if best is not None else "") + "\n")
        if best is None or best.weights is None:
            return
        stem = f"attention-{line:05}"
        text = json.dumps(best.attention(), ensure_ascii=False)
        (folder / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        draw_attention(folder / f"{stem}.png", best.weights, best.source_pieces, best.target_pieces)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written {unwritten(error)}.") from error
