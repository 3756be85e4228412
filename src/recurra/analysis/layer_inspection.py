"""All that is measured of one layer, taken together: what `recurra inspect gradients` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..cells import Cell
from .clipping import ClippedGradient, clipped_gradient
from .flow import gradient_flow
from .jacobians import JacobianNorms, jacobian_norms, looked_at
from .layer_steps import LayerSteps
from .log_norms import averaged
from .lyapunov import lyapunov_exponents
from .memory import MemoryLength, memory_length
from .network_gradients import ReadLayer, joined_lags
from .spectrum import MatrixSpectrum, spectrum_of

__all__ = ["FEWEST_STEPS", "LayerInspection", "inspect_read_layer", "inspect_steps"]

FEWEST_STEPS = 20
"""Lyapunov exponents of shorter sequences say too little of the long run to be shown."""

_MOST_PRODUCTS = 1 << 38


@dataclass(frozen=True)
class LayerInspection:
    """One layer, as it was measured.

    Attributes:
        name: such as "lstm" or "encoder.recurrent, layer 1, backward".
        group: what stands in one panel of a picture, such as "scale 0.8".
        cell: the equations.
        units: the width of h.
        sequences: how many were run; the Jacobian and the exponents may be of fewer, the longest of them.
        gradients: for each state of the cell (lags, sequences), the natural logarithm of |dL/ds|.
        jacobian: of the longest sequences.
        memory_h, memory_state: of the median over sequences of the Frobenius norms of dh_T/dh_t and of the Jacobian of
            the whole state.
        spectrum: of the recurrent matrices.
        exponents: (k, sequences) the largest Lyapunov exponents of the longest sequences; None if they are too short.
        clipping: of the gradient of `weight_hh`, if it was asked for.
    """

    name: str
    group: str
    cell: Cell
    units: int
    sequences: int
    gradients: Mapping[str, npt.NDArray[np.float64]]
    jacobian: JacobianNorms
    memory_h: MemoryLength
    memory_state: MemoryLength
    spectrum: tuple[MatrixSpectrum, ...]
    exponents: npt.NDArray[np.float64] | None
    clipping: ClippedGradient | None


def inspect_steps(
    steps: LayerSteps, name: str, group: str = "", *, exponents: int = 1, clip_norm: float | None = None, seed: int = 0
) -> LayerInspection:
    """Measure a layer by random projections of its last h, see `recurra.analysis.flow.random_projection`.

    Args:
        steps: of the layer; see `recurra.analysis.layer_steps.steps_of`.
        name, group: for people.
        exponents: how many of the largest Lyapunov exponents.
        clip_norm: what dL/dW is clipped to; None: clipping is not looked at.
        seed: of the projections and tangent vectors.

    Raises:
        ConfigError: if the states overflow, or the layer is too wide.
    """
    gradients = gradient_flow(steps, seed=seed).log_norms
    clipping = None if clip_norm is None else clipped_gradient(steps, clip_norm, seed=seed)
    return _inspection([steps], name, group, gradients, steps.batch, exponents, clipping, seed)


def inspect_read_layer(
    read: ReadLayer, name: str, group: str, *, sequences: int = 4, exponents: int = 1, seed: int = 0
) -> LayerInspection:
    """Measure a layer of a network by what it read; the gradients are those of the network's own loss.

    Args:
        read: from `recurra.analysis.network_gradients.read_network`.
        name, group, exponents, seed: as for `inspect_steps`.
        sequences: of how many of the longest the Jacobian is computed; of fewer if they are long and the layer is wide,
            so that it takes no more than some minutes, but of one at least.
    """
    longest: list[LayerSteps] = []
    for each in sorted(read.steps, key=lambda steps: -steps.length):
        affordable = max(1, _MOST_PRODUCTS // (each.length * sum(each.widths) ** 3))
        room = min(sequences, affordable) - sum(part.batch for part in longest)
        if room > 0:
            longest.append(each.rows(room))
    count = sum(part.batch for part in read.steps)
    return _inspection(longest, name, group, read.log_norms, count, exponents, None, seed)


def _inspection(
    parts: Sequence[LayerSteps],
    name: str,
    group: str,
    gradients: Mapping[str, npt.NDArray[np.float64]],
    sequences: int,
    exponents: int,
    clipping: ClippedGradient | None,
    seed: int,
) -> LayerInspection:
    first = parts[0]
    jacobian = _together([jacobian_norms(part, looked_at(first.length)) for part in parts])
    found = None
    if exponents and first.length >= FEWEST_STEPS:
        long = [part for part in parts if part.length >= FEWEST_STEPS]
        found = np.concatenate([lyapunov_exponents(part, exponents, seed=seed).exponents for part in long], axis=1)
    return LayerInspection(
        name,
        group,
        first.cell,
        first.widths[0],
        sequences,
        gradients,
        jacobian,
        memory_length(averaged(jacobian.h_frobenius).log_median),
        memory_length(averaged(jacobian.state_frobenius).log_median),
        spectrum_of(first.cell, first.weights),
        found,
        clipping,
    )


def _together(parts: Sequence[JacobianNorms]) -> JacobianNorms:
    """The norms of sequences of different lengths, the longest first, side by side."""
    return JacobianNorms(
        joined_lags([part.h_frobenius for part in parts]),
        joined_lags([part.state_frobenius for part in parts]),
        parts[0].spectral_lags,
        joined_lags([part.h_spectral for part in parts]),
        joined_lags([part.state_spectral for part in parts]),
    )
