"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Average", "Beside", "Device", "LengthPenalty", "RunDirectory", "Source", "Target", "TrustCell"]

RunDirectory = Annotated[
    str, typer.Argument(metavar="DIR", help="Run directory, or USER/NAME on the Hugging Face Hub.", show_default=False)
]
TrustCell = Annotated[
    bool,
    typer.Option(
        "--trust-cell",
        help="Run the cell that came with the run as a file, and remember that it is trusted (default: only one "
        "that you trained with or trusted before).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people (default: text).")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or mps.")]

Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="FILE", help="Translation: sentences, one a line (default: none).", show_default=False
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="FILE",
        help="Translation: their translations, line by line (default: none).",
        show_default=False,
    ),
]

LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        min=0.0,
        max=10.0,
        help="Higher favours longer translations (default: decoding.length_penalty).",
        show_default=False,
    ),
]

Average = Annotated[
    int, typer.Option("--average", min=0, help="Translation: as of `recurra translate`; 0: the best weights.")
]

Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="DIR...",
        help="Translation: more runs of the same vocabulary, which decide together with it (default: none).",
        show_default=False,
    ),
]
