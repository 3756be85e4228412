"""The eigenvalues of the recurrent matrices: what repeated multiplication by them would do by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..cells import Cell
from ..layers import Recurrent

__all__ = ["MatrixSpectrum", "recurrent_spectrum", "spectrum_of"]


@dataclass(frozen=True)
class MatrixSpectrum:
    """The spectrum of one recurrent matrix.

    Attributes:
        name: the gate that it is the block of, or the cell's own matrix.
        eigenvalues: complex, the largest in absolute value first.
        radius: the largest absolute value of an eigenvalue.
        norm: the spectral norm, the largest singular value.
        outside: the share of the eigenvalues outside the unit circle.
    """

    name: str
    eigenvalues: npt.NDArray[np.complex128]
    radius: float
    norm: float
    outside: float


def recurrent_spectrum(layers: Recurrent, *, layer: int = 0, direction: int = 0) -> tuple[MatrixSpectrum, ...]:
    """The spectrum of each gate's recurrent block, and of the cell's own recurrent matrices.

    Args:
        layers: such as `recurra.LSTM`.
        layer: which, from the bottom, 0 the first.
        direction: 1 is the direction that runs backwards in time.
    """
    with torch.no_grad():
        return spectrum_of(layers.cell, layers.layer_weights(layer)[direction])


def spectrum_of(cell: Cell, weights: Mapping[str, Tensor]) -> tuple[MatrixSpectrum, ...]:
    """The same of one direction's parameters by name.

    With a projection a block is taken together with it, as the map from h to h that they make.
    """
    projection = weights.get("weight_hr")
    found = []
    for gate, block in zip(cell.gates, weights["weight_hh"].chunk(len(cell.gates)), strict=True):
        found.append(_spectrum(gate, block if projection is None else projection @ block))
    return (*found, *[_spectrum(name, weights[f"weight_{name}"]) for name in cell.matrices])


def _spectrum(name: str, matrix: Tensor) -> MatrixSpectrum:
    values = np.asarray(matrix.detach().cpu().double())
    eigenvalues = np.linalg.eigvals(values).astype(np.complex128)
    eigenvalues = eigenvalues[np.argsort(-np.abs(eigenvalues), kind="stable")]
    sizes = np.abs(eigenvalues)
    return MatrixSpectrum(
        name, eigenvalues, float(sizes[0]), float(np.linalg.norm(values, 2)), float((sizes > 1).mean())
    )
