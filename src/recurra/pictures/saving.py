"""Writing a picture to its file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_png"]


def save_png(figure: Figure, path: Path) -> None:
    """Draw a figure into a PNG, which is written under another name and renamed.

    Raises:
        OSError: if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with written_whole(path) as aside, warnings.catch_warnings():
        # No installed font has every character; a box stands for those that are missing.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing.*")
        FigureCanvasAgg(figure).print_png(str(aside))
