"""Untrained layers whose recurrent weights are of a wanted size, and sequences of noise to run them on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .. import cells
from ..errors import ConfigError
from ..layers import Recurrent

__all__ = ["KINDS", "Kind", "noise", "untrained_layer"]

Kind = Literal["orthogonal", "gaussian"]
KINDS: tuple[Kind, ...] = ("orthogonal", "gaussian")


def untrained_layer(
    cell: str,
    units: int,
    input_size: int = 1,
    *,
    scale: float | None = None,
    kind: Kind = "orthogonal",
    forget_bias: float | None = None,
    seed: int = 0,
) -> Recurrent:
    """One untrained layer in float64.

    All weights and biases are uniform in +-1/sqrt(H), as torch.nn's. With a scale the recurrent block of each gate, and
    each recurrent matrix of the cell's own, is drawn anew as a random matrix of this spectral radius.

    Args:
        cell: a name of `recurra.cells`, or FILE.py:CLASS.
        units: H.
        input_size: I.
        scale: the spectral radius; None leaves the blocks as they are.
        kind: "orthogonal" is a random orthogonal matrix times the scale, all of whose eigenvalues and singular values
            have this size; "gaussian" has independent normal numbers, divided by its own spectral radius and multiplied
            by the scale, so that the largest eigenvalue alone has this size.
        forget_bias: of the forget gate, if the cell has one with a bias.
        seed: of all weights.

    Raises:
        ConfigError: if there is no such cell, or it has no forget gate.
    """
    try:
        the_cell = cells.get(cell)
    except Exception as error:  # whatever goes wrong in a user's own file
        raise ConfigError(f"cells: {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            layer = Recurrent(the_cell, input_size, units, dtype=torch.float64, forget_bias=forget_bias)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{cell}: {error}.") from error
        if scale is not None:
            recurrent = [layer.weight_hh_l0, *[getattr(layer, f"weight_{name}_l0") for name in the_cell.matrices]]
            with torch.no_grad():
                for block in (block for matrix in recurrent for block in matrix.split(units)):
                    block.copy_(_random_matrix(units, kind) * scale)
    return layer.requires_grad_(False).eval()


def _random_matrix(units: int, kind: Kind) -> Tensor:
    """A random matrix of spectral radius 1."""
    normal = torch.randn(units, units, dtype=torch.float64)
    if kind == "gaussian":
        return normal / torch.linalg.eigvals(normal).abs().max()
    # Without the signs the matrices would not be uniform over the orthogonal ones (Mezzadri 2007, math-ph/0609050).
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal().sign()


def noise(length: int, batch: int, input_size: int = 1, *, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Independent normal inputs of deviation `scale`, (T, B, I), in float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(length, batch, input_size, generator=generator, dtype=torch.float64)
