"""A page that shows what the units of a recurrent network do on a text.

States are rounded to 8 bits: each unit of each state has the scale s, the greatest absolute value that it takes in the
text, and a value v is kept as the whole number nearest to 127 v / s. What is shown is wrong by at most s / 254, and
zero is exact. Gates lie between 0 and 1 and are kept as the whole number nearest to 255 times their value, so that they
are wrong by at most 1/510. The bytes of a unit follow one another in time; they are compressed (zlib) and written in
base64, 4 characters for 3 bytes. The h and c of 2 x 512 units over 10,000 tokens are 20.5 million bytes, so their page
has at most 27.4 MB where nothing can be compressed; with the most numbers that it may have, a page has 29.4 MB.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .page import page_script, write_page

__all__ = ["MOST_BYTES", "ShownLayer", "ShownRanking", "ShownSide", "ShownUnit", "quantised", "write_states"]

MOST_BYTES = 22_000_000
"""The most numbers of a page, a byte each."""

Array = npt.NDArray[np.float32]

_STYLE = """
body { max-width: 75rem; }
#controls { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; position: sticky; top: 0; background: Canvas;
  padding: .5rem 0; border-bottom: 1px solid var(--line); z-index: 1; }
#controls label { white-space: nowrap; } select, input, button { font: inherit; max-width: 100%; }
input[type=number] { width: 5.5rem; }
#said { min-height: 1.5em; margin: .3rem 0; overflow-wrap: anywhere; }
#text { line-height: 1.7; max-height: 24rem; overflow: auto; border: 1px solid var(--line); padding: .5rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: .9rem;
  user-select: none; }
#text [data-place] { border-radius: .15rem; }
#text .here { box-shadow: 0 0 0 2px currentColor; } #text .chosen { text-decoration: underline 2px; }
canvas { width: 100%; display: block; border: 1px solid var(--line); box-sizing: border-box; }
#heat { cursor: crosshair; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots figure { margin: 0; width: 15rem; max-width: 100%; }
figcaption { font-size: .9rem; }
.tables { display: flex; flex-wrap: wrap; gap: .5rem 2rem; align-items: flex-start; }
.tables > div { max-width: 100%; overflow-x: auto; } td.number { white-space: nowrap; }
 .tables h3 { font-size: 1rem; margin: .6rem 0 .2rem; }
.key { display: inline-block; width: 1.6rem; height: 0; border-top: 3px solid; vertical-align: middle;
  margin: 0 .3rem; }
.legend span { margin-right: 1rem; white-space: nowrap; }
"""

_BODY = """
<p class="quiet">Each token of the text is coloured by what one unit holds once the network has read it: orange above
zero, blue below, the full colour at the greatest absolute value that the unit takes here. Choose the unit above the
text, by a click in a picture or a table, or with the arrow keys in the number's field.</p>
<noscript>This page needs JavaScript.</noscript>
<div id="controls" role="group" aria-label="What is shown"></div>
<p id="said" role="status" aria-live="polite"></p>
<h2 id="text-heading">Text</h2>
<div id="text" dir="auto" role="group" aria-labelledby="text-heading" aria-describedby="text-help"></div>
<p class="quiet" id="text-help">Point at a token, or move with the arrow keys. Hold Shift or drag to choose a span.</p>
<h2>The unit over time</h2>
<canvas id="trace" role="img" aria-label="The unit's state and gates over time"></canvas>
<p class="legend quiet" id="legend"></p>
<h2>All units of the layer</h2>
<canvas id="heat" tabindex="0" role="img"
  aria-label="States of all units over time; the arrow keys choose unit and token"
  aria-describedby="heat-help"></canvas>
<p class="quiet" id="heat-help">A row for each unit, a column for each token near the chosen one. Point at a place to
read its value, click to choose its unit and token; with the keyboard, up and down choose a unit, left and right a
token.</p>
<h2>Units that follow a property</h2>
<p class="quiet">Units were chosen on the first half of the text; the second half, which took no part in that, shows how
well they do. r is a correlation, 0 by chance; AUC the area under the ROC curve, 0.5 by chance and below that for a unit
that is low where the answer is yes. p is the share of the ways to move the property along the second half with which
the unit would do as well, adjusted for all units of all tables (Holm).</p>
<div class="tables" id="rankings"></div>
<h2>Gates that are nearly closed or nearly open</h2>
<p class="quiet">A dot for each unit: to the right the share of tokens at which its gate is below 0.1, upwards the share
at which it is above 0.9. Click a dot to choose its unit.</p>
<div class="plots" id="plots"></div>
<div class="tables" id="saturation"></div>
<h2>Places like a span</h2>
<p class="quiet">A unit is on where its value is at least this part of its greatest absolute value. Of the units that
are on throughout the chosen span with one sign, other places have so many on throughout.</p>
<div class="controls" role="group" aria-label="The span" id="span"></div>
<p id="contexts-said" role="status"></p>
<ol id="contexts"></ol>
<p class="quiet">The values in this page are rounded to 8 bits: states are wrong by at most 1/254 of the unit's greatest
absolute value, gates by at most 1/510.</p>
"""


@dataclass(frozen=True)
class ShownLayer:
    """A layer of a page.

    Attributes:
        name: such as "layer 1 backward".
        states: by name, (T, H).
        gates: of some units, by name, (T, units in `gate_units`).
        gate_units: the units whose gates are shown, in the order of the columns.
        saturation: of each gate the shares of steps at which each unit is nearly closed and nearly open, (H,) each.
    """

    name: str
    states: Mapping[str, Array]
    gates: Mapping[str, Array] = field(default_factory=dict)
    gate_units: Sequence[int] = ()
    saturation: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownUnit:
    """A row of a ranking: the place of the layer in its side, the state and the unit; scores as people read them."""

    layer: int
    state: str
    unit: int
    chosen: str
    held_out: str
    p: str


@dataclass(frozen=True)
class ShownRanking:
    """The units that follow a property best, or a remark why there are none.

    `untrained` is the score of the best unit of the same network with new weights, or empty.
    """

    property: str
    about: str
    score: str
    units: Sequence[ShownUnit]
    remark: str = ""
    untrained: str = ""


@dataclass(frozen=True)
class ShownSide:
    """A text and what its layers did.

    Attributes:
        name: such as "source".
        text: as it was given.
        places: (T, 2), of its tokens in the text.
        layers: from the bottom up.
        rankings: of properties of the text.
    """

    name: str
    text: str
    places: npt.NDArray[np.int64]
    layers: Sequence[ShownLayer]
    rankings: Sequence[ShownRanking] = ()


def write_states(
    path: str | Path, title: str, sides: Sequence[ShownSide], first: Mapping[str, Any], threshold: float
) -> None:
    """Write the page.

    Args:
        path: of the file.
        title: of the page.
        sides: at least one.
        first: what is shown at first: `side`, `layer` (their places), `state`, `unit`.
        threshold: from which on a unit is on; see `recurra.analysis.contexts`.

    Raises:
        ConfigError: if the states have more than `MOST_BYTES` numbers.
        RunError: if it cannot be written.
    """
    numbers = sum(values.size for side in sides for layer in side.layers for values in layer.states.values())
    numbers += sum(values.size for side in sides for layer in side.layers for values in layer.gates.values())
    if numbers > MOST_BYTES:
        raise ConfigError(
            f"{path}: a page holds {MOST_BYTES / 1e6:.0f} million numbers, and these states are {numbers / 1e6:.0f} "
            "million; show fewer layers with --layer, or a shorter text."
        )
    data = {"sides": [_side(side) for side in sides], "first": dict(first), "threshold": threshold}
    write_page(path, title, _BODY, _STYLE, page_script("common", "states", "pictures", "start"), data)


def quantised(values: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """States as 8-bit numbers, (H, T), and the scale of each unit, (H,): a value is number * scale / 127."""
    scales = np.abs(values).max(axis=0, initial=0.0).astype(np.float32)
    relative = np.divide(values, scales, out=np.zeros(values.shape, np.float64), where=scales > 0)
    return np.ascontiguousarray(np.rint(relative * 127).astype(np.int8).T), scales


def _side(side: ShownSide) -> dict[str, Any]:
    tokens, gaps, end = [], [], 0
    for start, stop in side.places.tolist():
        # Tokens that are parts of one character share its place, and the first of them shows it.
        begin = max(start, end)
        gaps.append(side.text[end:begin])
        tokens.append(side.text[begin:stop])
        end = max(stop, end)
    return {
        "name": side.name,
        "tokens": tokens,
        "gaps": gaps,
        "layers": [_layer(layer) for layer in side.layers],
        "rankings": [
            {
                "property": ranking.property,
                "about": ranking.about,
                "score": ranking.score,
                "remark": ranking.remark,
                "untrained": ranking.untrained,
                "units": [vars(unit) for unit in ranking.units],
            }
            for ranking in side.rankings
        ],
    }


def _layer(layer: ShownLayer) -> dict[str, Any]:
    states = {}
    for name, values in layer.states.items():
        numbers, scales = quantised(values)
        states[name] = {"scales": [float(f"{scale:.6g}") for scale in scales], "bytes": _packed(numbers)}
    gates = {
        name: _packed(np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8).T)
        for name, values in layer.gates.items()
    }
    return {
        "name": layer.name,
        "units": next(iter(layer.states.values())).shape[1],
        "states": states,
        "gates": gates,
        "gateUnits": list(layer.gate_units),
        "saturation": {
            name: [[round(float(share), 4) for share in shares] for shares in both]
            for name, both in layer.saturation.items()
        },
    }


def _packed(numbers: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(numbers).tobytes(), 6)).decode()
