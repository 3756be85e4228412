"""`recurra inspect gradients`: how far gradients reach back, in a run's layers or in untrained ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, DataError
from .frame import UsageError, check_texts, import_torch, unknown_name
from .output import print_json, print_table, show

if TYPE_CHECKING:
    from ..analysis.layer_inspection import LayerInspection

__all__ = ["gradients"]

_MOST_BYTES = 1 << 24
_MOST_SETTINGS = 24
_KINDS = ("orthogonal", "gaussian")


def gradients(
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Run directory, or USER/NAME on the Hugging Face Hub, whose layers are looked at (default: untrained "
            "layers).",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(metavar="CELL,...", help="Untrained cells (default: rnn_tanh,lstm,gru).", show_default=False),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="RADIUS,...",
            help="Spectral radii that the recurrent matrices of untrained cells get (default: 0.8,1.5).",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="How the recurrent matrices are drawn: orthogonal, where all eigenvalues have the size that --scale "
            "says, or gaussian, where the largest has it (default: orthogonal).",
            show_default=False,
        ),
    ] = None,
    forget_bias: Annotated[
        str | None,
        typer.Option(
            metavar="BIAS,...",
            help="Biases of the forget gate, for the cells that have such a gate (default: random ones near 0, as "
            "torch.nn's).",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, max=2048, help="Units of untrained cells (default: 64).", show_default=False)
    ] = None,
    input_scale: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1e6,
            help="Deviation of the noise that untrained cells read, one number a step (default: 1).",
            show_default=False,
        ),
    ] = None,
    clip_norm: Annotated[
        float | None,
        typer.Option(
            min=1e-30,
            help="Also say what clipping dL/dW of untrained cells to this norm does (default: not looked at).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|FILE",
            help="What a run reads: a text, or a file with one on each line; a translation may follow its source after "
            "a tab (default: none, required with a run).",
            show_default=False,
        ),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Read the lines of a file as one text (default: each line is a text).")
    ] = False,
    lags: Annotated[
        int, typer.Option(min=2, max=10_000, help="How many steps to look back; of a run's texts, most tokens.")
    ] = 200,
    sequences: Annotated[
        int, typer.Option(min=1, max=256, help="How many sequences of noise, or texts, to take means over.")
    ] = 4,
    exponents: Annotated[
        int, typer.Option(min=0, max=4096, help="How many Lyapunov exponents, the largest first.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, noise and projections.")] = 0,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the norms over the lags (default: none).", show_default=False),
    ] = None,
    trust_cell: Annotated[
        bool,
        typer.Option(
            "--trust-cell",
            help="Run the cell that came with the run as a file, and remember that it is trusted (default: only one "
            "that you trained with or trusted before).",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON (default: text).")] = False,
) -> None:
    """How far back gradients reach: vanishing, exploding, or carried.

    Of untrained cells the loss is a random projection of the last h, of a run -log P of its answer (a language model's
    is the last token). |dL/dh_t| and |dL/dc_t| are whole derivatives, through all later steps. Beside them stand the
    norm of the Jacobian dh_T/dh_t, the length of the memory that it shows, the spectrum of the recurrent matrices and
    the largest Lyapunov exponent. All is computed in float64.

    Example: recurra inspect gradients --cells rnn_tanh,lstm,gru --scale 0.8,1.5 --picture flow.png
    """
    check_texts(data=data, RUN=directory)
    _check_picture(picture, data)
    untrained = {
        "--cells": cells, "--scale": scale, "--weights": weights, "--forget-bias": forget_bias, "--units": units,
        "--input-scale": input_scale, "--clip-norm": clip_norm,
    }  # fmt: skip
    if directory is None:
        for flag, given in {"--data": data, "--join": join or None, "--trust-cell": trust_cell or None}.items():
            if given is not None:
                raise UsageError(f"{flag}: this is for a run; name one, or leave it out.")
        settings = _settings(cells, scale, weights, forget_bias)
        size = {"units": units or 64, "input_scale": 1.0 if input_scale is None else input_scale}
        import_torch()
        found = _of_untrained(settings, weights or "orthogonal", size, lags, sequences, exponents, clip_norm, seed)
    else:
        for flag, value in untrained.items():
            if value is not None:
                raise UsageError(f"{flag}: this is for untrained cells, and a run has its own; leave it out.")
        if data is None:
            raise UsageError("--data: say which texts the run is to read, a text or a file.")
        texts = _texts(data, join, sequences)
        import_torch()
        found = _of_run(directory, texts, trust_cell, lags, sequences, exponents, seed)
    inspections = []
    from ..analysis.findings import as_json as json_of
    from ..analysis.findings import sentences

    for inspection in found:
        inspections.append(inspection)
        if not as_json:
            show(f"{inspection.name}, {inspection.group}")
            for sentence in sentences(inspection):
                show(f"  {sentence}")
    if picture is not None:
        _draw(picture, inspections)
    if as_json:
        asked = {"run": directory, "lags": lags, "seed": seed}
        print_json({**asked, "layers": [json_of(inspection) for inspection in inspections]})
    else:
        show("")
        print_table(_COLUMNS, [_row(inspection) for inspection in inspections])


def _check_picture(picture: Path | None, data: str | None) -> None:
    """Refuse a picture that cannot be drawn, before the work.

    Raises:
        UsageError: if it is no PNG, its folder is not there, or it is a file that is read.
    """
    if picture is None:
        return
    from ..data.overwriting import refuse_overwriting

    if picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture}: must end in .png.")
    if not picture.absolute().parent.is_dir():
        raise UsageError(f"--picture {picture}: there is no such folder; make it, or name another.")
    if picture.is_dir():
        raise UsageError(f"--picture {picture}: is a folder; name a file.")
    if data is not None:
        try:
            refuse_overwriting(picture, [data])
        except ConfigError as error:
            raise UsageError(f"--picture {error}") from error
        except OSError:
            # A text that is too long for the name of a file.
            return


def _settings(
    cells: str | None, scale: str | None, weights: str | None, forget_bias: str | None
) -> list[tuple[str, float, float | None]]:
    """Cell, spectral radius and forget bias of each layer.

    Raises:
        UsageError: if a value is wrong.
    """
    from .. import cells as known

    if weights is not None and weights not in _KINDS:
        raise UsageError("--weights: " + unknown_name("kind", weights, _KINDS))
    scales = _numbers("--scale", "0.8,1.5" if scale is None else scale, 1e-6)
    biases: Sequence[float | None] = [None] if forget_bias is None else _numbers("--forget-bias", forget_bias, -100)
    names = [name.strip() for name in ("rnn_tanh,lstm,gru" if cells is None else cells).split(",") if name.strip()]
    if not names:
        raise UsageError("--cells: name at least one; `recurra cells` lists them.")
    gated = {}
    for name in names:
        if name not in known.names() and ":" not in name:
            raise UsageError("--cells: " + unknown_name("cell", name, known.names()))
        try:
            gated[name] = known.get(name).forget_bias_gate is not None
        except ValueError as error:
            raise UsageError(f"--cells: {error}") from error
    if forget_bias is not None and not any(gated.values()):
        raise UsageError("--forget-bias: none of the cells has a forget gate of its own; leave it out.")
    found = [(name, size, bias) for size in scales for name in gated for bias in (biases if gated[name] else [None])]
    if len(found) > _MOST_SETTINGS:
        raise UsageError(f"these are {len(found)} settings together, and at most {_MOST_SETTINGS} can be compared.")
    return found


def _numbers(flag: str, text: str, least: float) -> list[float]:
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise UsageError(f"{flag}: {part.strip() or 'nothing'} is no number; separate numbers by commas.") from None
        if not least <= value <= 100:
            raise UsageError(f"{flag}: must be from {least:g} to 100, not {value:g}.")
        found.append(value)
    return list(dict.fromkeys(found))


def _texts(data: str, join: bool, count: int) -> list[str]:
    """The first texts of a file, or the text itself.

    Raises:
        DataError: if a file cannot be read, is not UTF-8 or has no text.
    """
    from ..files import regular

    path = Path(data)
    try:
        is_file = path.exists()
    except OSError:  # too long for the name of a file
        is_file = False
    if not is_file:
        if path.suffix and not any(letter.isspace() for letter in data):
            raise DataError(f"{data}: there is no such file; give one, or a text in quotes.")
        lines = [data]
    else:
        with regular(path).open("rb") as file:
            whole = file.read(_MOST_BYTES)
        try:
            # A character that the bound cuts in two is left out.
            text = whole.decode("utf-8", "strict" if len(whole) < _MOST_BYTES else "ignore")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{data}: byte 0x{whole[error.start]:02x} at {error.start:,} is not UTF-8; save the file as UTF-8."
            ) from error
        lines = [text] if join else text.splitlines()
    texts = [line.lstrip("\ufeff") for line in lines if line.strip()][:count]
    if not texts:
        raise DataError(f"{data or 'the text'}: has no text; give one with words.")
    return texts


def _of_untrained(
    settings: Sequence[tuple[str, float, float | None]],
    kind: Any,
    size: dict[str, Any],
    lags: int,
    sequences: int,
    exponents: int,
    clip_norm: float | None,
    seed: int,
) -> Iterator[LayerInspection]:
    from ..analysis.layer_inspection import inspect_steps
    from ..analysis.layer_steps import steps_of
    from ..analysis.untrained import noise, untrained_layer

    read = noise(lags, sequences, scale=size["input_scale"], seed=seed + 1)
    for cell, scale, bias in settings:
        layer = untrained_layer(cell, size["units"], scale=scale, kind=kind, forget_bias=bias, seed=seed)
        name = cell if bias is None else f"{cell}, forget bias {bias:g}"
        group = f"spectral radius {scale:g}, {kind}"
        try:
            steps = steps_of(layer, read)
            yield inspect_steps(
                steps,
                name,
                group,
                exponents=min(exponents, sum(steps.widths)),
                clip_norm=clip_norm,
                seed=seed,
            )
        except ConfigError as error:
            raise ConfigError(f"{name}, {group}: {error}") from error


def _of_run(
    directory: str, texts: Sequence[str], trust_cell: bool, lags: int, sequences: int, exponents: int, seed: int
) -> Iterator[LayerInspection]:
    import torch

    from ..analysis.layer_inspection import inspect_read_layer
    from ..analysis.network_gradients import read_network
    from ..loading import load
    from ..shown import tell

    predictor = load(directory, device="cpu", trust_cell=trust_cell)
    network = predictor.frozen_copy(torch.float64)
    losses = [partial(predictor.answer_loss, network, text, lags) for text in texts]
    read = read_network(network, losses)
    shown = 0
    for layer in read:
        module = layer.module or "the model"
        if max((steps.length for steps in layer.steps), default=0) < 2:
            tell(f"recurra: {module}: takes no two steps one after the other here, and is left out.")
            continue
        two = any(other.direction for other in read if other.module == layer.module)
        direction = ["", ""] if not two else [", forward", ", backward"]
        shown += 1
        width = sum(layer.steps[0].widths)
        name = f"layer {layer.layer + 1}{direction[layer.direction]}"
        yield inspect_read_layer(layer, name, module, sequences=sequences, exponents=min(exponents, width), seed=seed)
    if not shown:
        raise ConfigError("--data: no layer takes two steps here; give a longer text.")


_COLUMNS = [
    "layer",
    "of",
    "lags",
    "|dL/dh| at the last lag",
    "steps a factor of 10",
    "memory 1/e",
    "1/100",
    "exponent",
    "radius",
]


def _row(inspection: LayerInspection) -> list[str]:
    import math

    from ..analysis.log_norms import averaged

    memory, exponents = inspection.memory_state, inspection.exponents
    left = ""
    if "h" in inspection.gradients:
        log = float(averaged(inspection.gradients["h"]).log_mean[-1])
        left = "0" if log == -math.inf else f"1e{log / math.log(10):+.1f}"
    beyond = f">{memory.looked_at}"
    return [
        inspection.name,
        inspection.group,
        str(memory.looked_at),
        left,
        "" if memory.steps_per_factor_10 is None else f"{memory.steps_per_factor_10:.1f}",
        beyond if memory.to_e is None else str(memory.to_e),
        beyond if memory.to_hundredth is None else str(memory.to_hundredth),
        "" if exponents is None else f"{exponents[0].mean():+.3f}",
        ", ".join(f"{each.name} {each.radius:.2f}" for each in inspection.spectrum),
    ]


def _draw(path: Path, inspections: Sequence[LayerInspection]) -> None:
    from ..analysis.panels import panels
    from ..errors import RunError
    from ..files import unwritten
    from ..pictures.gradient_flow import draw_gradient_flow

    found = panels(inspections)
    longest = max(len(curve.mean) for panel in found for curve in panel.curves) - 1
    try:
        draw_gradient_flow(path, found, longest)
    except OSError as error:
        raise RunError(f"{path}: the picture cannot be written {unwritten(error)}.") from error
