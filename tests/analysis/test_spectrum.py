"""Spectra of recurrent matrices that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import recurra
from recurra.analysis.spectrum import recurrent_spectrum
from recurra.analysis.untrained import untrained_layer


def test_each_gate_has_its_own_block() -> None:
    layer = recurra.GRU(1, 2)
    blocks = {
        "r": [[0.0, -2.0], [2.0, 0.0]],
        "z": [[0.5, 0.0], [0.0, 1.5]],
        "n": [[0.0, 3.0], [0.0, 0.0]],
    }
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.tensor([row for block in blocks.values() for row in block]))
    r, z, n = recurrent_spectrum(layer)
    assert [each.name for each in (r, z, n)] == ["r", "z", "n"]
    np.testing.assert_allclose(sorted(r.eigenvalues, key=lambda value: value.imag), [-2j, 2j], atol=1e-12)
    assert (r.radius, r.norm, r.outside) == (pytest.approx(2), pytest.approx(2), 1.0)
    np.testing.assert_allclose(z.eigenvalues, [1.5, 0.5])
    assert z.outside == 0.5
    # A matrix whose eigenvalues are all zero can still make a vector longer once.
    assert (n.radius, n.norm, n.outside) == (0.0, pytest.approx(3), 0.0)


def test_the_matrices_of_full_gate_recurrence_are_among_them() -> None:
    names = [each.name for each in recurrent_spectrum(recurra.Recurrent("lstm_fgr", 1, 3))]
    assert names == ["i", "f", "g", "o", "ii", "fi", "oi", "if", "ff", "of", "io", "fo", "oo"]


def test_a_projection_belongs_to_the_map_from_h_to_h() -> None:
    layer = recurra.Recurrent("lstm", 1, 4, proj_size=2, dtype=torch.float64)
    first = recurrent_spectrum(layer)[0]
    wanted = torch.linalg.eigvals((layer.weight_hr_l0 @ layer.weight_hh_l0[:4]).detach()).abs().max()
    assert len(first.eigenvalues) == 2
    assert first.radius == pytest.approx(float(wanted))


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "lstm_fgr", "janet"])
def test_untrained_weights_have_the_wanted_size(cell: str) -> None:
    for each in recurrent_spectrum(untrained_layer(cell, 16, scale=0.8, seed=4)):
        np.testing.assert_allclose(np.abs(each.eigenvalues), 0.8)
        assert each.norm == pytest.approx(0.8)
    for each in recurrent_spectrum(untrained_layer(cell, 16, scale=1.2, kind="gaussian", seed=4)):
        assert each.radius == pytest.approx(1.2)
        assert each.norm > 1.3


def test_without_a_scale_the_weights_are_torchs() -> None:
    drawn = recurrent_spectrum(untrained_layer("gru", 64, seed=4))[0]
    # Uniform in +-1/8: by the circular law the radius is near sqrt(1/3).
    assert drawn.radius == pytest.approx(math.sqrt(1 / 3), rel=0.2)
