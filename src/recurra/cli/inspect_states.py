"""`recurra inspect states`: what the units and gates of a network do on a text."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import ConfigError, RunError
from ..registry import Argument, Option
from ..shown import tell
from .build import build
from .frame import UsageError, check_texts, import_torch
from .options import AS_JSON, DEVICE, RUN, TRUST_CELL
from .output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ..analysis.inspection import InspectedSide
    from ..systems.reading import Reader, Reading

__all__ = ["states_command"]

_HELP = """What each unit of a recurrent network does on a text, which gates are saturated, and which units follow what.

Example: recurra inspect states runs/shakespeare --data scene.txt --page states.html

Units are ranked by how well their states follow properties of the text: line (characters since the line end), quotes
(inside quotation marks), brackets (how many are open), spaces, word-starts, and label, what a file of labels says. They
are chosen on the first half of the text; the second half shows how far to believe it. A language model reads a file as
one text, the others line by line; for a translation system a tab may part a source from its translation.
"""

_TEXT = Argument("text", "Texts to read (default: --data).", "[TEXT]...", default="", many=True)
_OPTIONS = (
    Option("--data", "Files to read, or - for standard input (default: TEXT).", many=True, metavar="FILE..."),
    Option("--layer", "Look at this layer alone, counted from 1 (default: all layers).", int, metavar="N", least=1),
    Option("--state", "Look at this state alone, such as c (default: all states).", metavar="NAME"),
    Option(
        "--units",
        "Units that are looked at closely, with their gates in the page: numbers, or best:PROPERTY, parted by commas "
        "(default: the best unit of each property).",
        metavar="UNITS",
    ),
    Option("--property", "Properties that units are ranked by (default: all of them).", many=True, metavar="NAME..."),
    Option(
        "--labels",
        "A file with a label for each token, one a line, or with lines of START, tab, STOP, tab, LABEL that count "
        "characters from 0, a line end being one; for translation those of the sources (default: none).",
        metavar="FILE",
    ),
    Option(
        "--untrained",
        "Show how well the best unit of the same network does with new weights, which have learnt nothing (default: "
        "the trained network alone).",
        bool,
    ),
    Option(
        "--span",
        "Show places where the units are on that are on throughout these tokens, counted from 0 (default: none).",
        metavar="START:STOP",
    ),
    Option(
        "--top", "Units that are shown for each property, and places for a span.", int, default=5, least=1, most=100
    ),
    Option("--page", "Write a page of HTML that shows all states (default: nowhere).", metavar="FILE.html"),
    Option("--picture", "Draw the units that are looked at closely (default: nowhere).", metavar="FILE.png"),
)
_CHARACTERS = 1 << 20
"""The most characters of a file that is one text; the first of them are read."""


def states_command() -> Any:
    """The command, for click."""
    return build("states", _run, _HELP, [RUN, _TEXT], [*_OPTIONS, DEVICE, TRUST_CELL, AS_JSON])


def _run(
    dir: str,
    text: Sequence[str],
    data: Sequence[str] | None,
    layer: int | None,
    state: str | None,
    units: str | None,
    property: Sequence[str] | None,
    labels: str | None,
    untrained: bool,
    span: str | None,
    top: int,
    page: str | None,
    picture: str | None,
    device: str,
    trust_cell: bool,
    as_json: bool,
) -> None:
    check_texts(
        TEXT=text, data=data, state=state, units=units, property=property, labels=labels, page=page, picture=picture
    )
    import_torch()
    import torch

    from ..analysis.inspection import LABEL, UnitChoice, check_property, inspect_states
    from ..analysis.properties import BUILT_IN
    from ..analysis.recording import most_steps
    from ..pages.states import MOST_BYTES
    from ..run.directory import read_run
    from ..run.hub import fetch
    from ..run.own_cell import trusting

    try:
        choice = None if units is None else UnitChoice.parse(units)
        tokens = None if span is None else _span(span)
        for name in property or ():
            check_property(name)
        if labels is None and any(name.split(":")[0] == LABEL for name in (*(property or ()), *_best_of(choice))):
            raise ConfigError("the property label is what a file says: name the file with --labels.")
        if not text and not data:
            raise ConfigError("give a text, or name a file with --data.")
        _check_outputs(page, picture, [*(data or ()), labels, f"{glob.escape(dir)}/**"])
    except ConfigError as error:
        raise UsageError(str(error)) from error
    run = read_run(fetch(dir))
    if not run.system.reader:
        raise RunError(
            f"{dir}: its system {run.system.name} does not say how it reads a text, so there is nothing to show."
        )
    reader: Reader = registry.resolve(run.system.reader)
    fresh = None
    with trusting(trust_cell):
        if untrained:
            torch.manual_seed(run.config.training.seed)
            fresh = registry.resolve(run.system.network)(run).state_dict()
        predictor = registry.resolve(run.system.predictor).from_runs([dir], device=device)
    # A page holds all states that are looked at.
    page_bytes = None if page is None else MOST_BYTES
    most = most_steps(reader.read(predictor, "", 0), layer, page_bytes, one_state=state is not None)
    readings = _readings(reader, predictor, _texts(reader, text, data or ()), most)
    names = tuple(property) if property else tuple(BUILT_IN)
    sides = inspect_states(
        readings,
        layer=layer,
        state=state,
        names=names,
        labels=labels,
        units=choice,
        count=top,
        span=tokens,
        untrained=fresh,
    )
    if page is not None:
        from ..analysis.showing import write_inspection

        write_inspection(page, f"States of {dir}", sides)
    if picture is not None:
        from ..analysis.showing import draw_inspection

        draw_inspection(Path(picture), sides)
    if as_json:
        print_json({"run": str(run.path), "sides": [side.json() for side in sides]})
    else:
        _print(sides)


def _span(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--span {text}: give the first token and the one after the last, such as 12:15.")
    return int(found[1]), int(found[2])


def _best_of(choice: Any) -> Sequence[str]:
    return () if choice is None else choice.best_of


def _check_outputs(page: str | None, picture: str | None, inputs: Sequence[str | None]) -> None:
    from ..data.overwriting import refuse_overwriting

    for flag, path in (("--page", page), ("--picture", picture)):
        if path is None:
            continue
        refuse_overwriting(path, inputs)
        if not Path(path).parent.is_dir() or Path(path).is_dir():
            raise ConfigError(f"{flag} {path}: cannot be a file; name one in a folder that there is.")
    if page is not None and picture is not None and Path(page).resolve() == Path(picture).resolve():
        raise ConfigError("--page and --picture are one file; name two.")


def _readings(reader: Reader, predictor: Any, texts: Iterator[str], most: int) -> list[Reading]:
    """The texts as the model is about to read them, as many as can be recorded and shown."""
    found: list[Reading] = []
    steps = 0
    for number, text in enumerate(texts, start=1):
        left = most - steps
        # One more than there is room for, to know whether the text is cut.
        reading = reader.read(predictor, text, max(left, 1))
        needed = max(side.steps for side in reading.sides)
        if needed > left:
            left -= needed - max(len(side.places) for side in reading.sides)
            found.append(reader.read(predictor, text, max(left, 0)))
            tell(
                f"recurra: the text is read up to {most:,} tokens, as many as can be kept of these layers; --layer and "
                "--state keep less of each."
            )
            break
        if reading.cut_at is not None:
            tell(
                f"recurra: text {number} is longer than {reading.cut_at:,} tokens, and the model reads it up to there."
            )
        found.append(reading)
        steps += needed
    return found


def _texts(reader: Reader, given: Sequence[str], data: Sequence[str]) -> Iterator[str]:
    from ..data.text import expand_paths, read_lines, read_text

    yield from given
    for path in expand_paths(data) if data else ():
        if reader.by_line:
            yield from (line for line in read_lines(path) if line.strip())
            continue
        text = ""
        for piece in read_text([path]):
            text += piece
            if len(text) >= _CHARACTERS:
                break
        yield text[:_CHARACTERS]


def _print(sides: Sequence[InspectedSide]) -> None:
    from ..analysis.showing import score_text

    for side in sides:
        found = side.record
        pairs = [("text", found.name), ("tokens", f"{len(found.places):,}")]
        print_pairs(
            [*pairs, ("layers", ", ".join(f"{each.place.name} of {each.place.units}" for each in found.layers))]
        )
        print()
        gates = [
            [layer.place.name, name, *(f"{share:.3f}" for share in each.layer)]
            for layer, own in zip(found.layers, side.saturation, strict=True)
            for name, each in own.items()
        ]
        if gates:
            print_table(["layer", "gate", "below 0.1", "above 0.9"], gates)
            print()
        bare = all(ranking.untrained is None for ranking in side.rankings)
        rows = [
            [
                ranking.property,
                "AUC" if ranking.score == "auc" else "r",
                f"{unit.state} {unit.unit}",
                unit.layer.name,
                score_text(ranking, unit.chosen),
                score_text(ranking, unit.held_out),
                f"{unit.p:.2g}",
                *([] if bare else [score_text(ranking, ranking.untrained.held_out) if ranking.untrained else ""]),
            ]
            for ranking in side.rankings
            for unit in ranking.units
        ]
        if rows:
            heads = ["property", "score", "unit", "layer", "first half", "second half", "p"]
            print_table(heads if bare else [*heads, "untrained"], rows)
            print()
        _print_contexts(side)
        for ranking in side.rankings:
            if ranking.remark:
                tell(f"recurra: {ranking.property}: {ranking.remark}.")


def _print_contexts(side: InspectedSide) -> None:
    if side.span is None:
        return
    start, stop = side.span
    rows = []
    for layer, state, found in side.contexts:
        on = f"{state}, {layer}"
        rows.append([on, f"{start}", f"{len(found.units)} on", _around(side, start, stop)])
        rows += [[on, f"{p.start}", f"{p.share:.0%}", _around(side, p.start, p.stop)] for p in found.places]
    print_table(["state", "token", "units", "text"], rows)
    print()


def _around(side: InspectedSide, start: int, stop: int) -> str:
    """A span of the text between brackets, with some tokens on both sides."""
    before, after = side.text_of(max(start - 12, 0), start), side.text_of(stop, stop + 12)
    return f"{before}[{side.text_of(start, stop)}]{after}"
