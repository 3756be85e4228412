"""Options and arguments that several commands take."""

from __future__ import annotations

from ..registry import Argument, Option

__all__ = ["AS_JSON", "DEVICE", "RUN", "RUNS", "TRUST_CELL"]

_ELSE = "a model that comes with recurra (`recurra info` names them), or USER/NAME on the Hugging Face Hub."
RUN = Argument("dir", f"Run directory, {_ELSE}", "DIR")
RUNS = Argument("dir", f"Run directories, {_ELSE}", "DIR...", many=True)
DEVICE = Option("--device", "Where to compute: auto, cpu, cuda or mps.", default="auto")
TRUST_CELL = Option(
    "--trust-cell",
    "Run the cell that came with the run as a file, and remember that it is trusted (default: only one that you "
    "trained with or trusted before).",
    bool,
)
AS_JSON = Option("--json", "Print JSON instead of text for people (default: text).", bool, parameter="as_json")
