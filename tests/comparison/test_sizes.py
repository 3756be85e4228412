"""Widths and weights against formulas written down by hand and against trying every width."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recurra import cells
from recurra.comparison.sizes import (
    Sized,
    equal_weights,
    equal_widths,
    layer_weights,
    nearest_width,
    system_weights,
)
from recurra.errors import ConfigError


def lstm(width: int, input_size: int) -> int:
    """Four gates, each with a matrix for the input, one for the state, and the two biases that torch has."""
    return 4 * (width * input_size + width * width + 2 * width)


@pytest.mark.parametrize("weights", [lambda w: w, lambda w: 7 * w + 300, lambda w: lstm(w, w), lambda w: w**3])
def test_nearest_width_is_the_best_of_all(weights: Callable[[int], int]) -> None:
    largest = 60
    for target in range(weights(1), weights(largest), max(1, weights(largest) // 997)):
        best = min(range(1, largest + 1), key=lambda width: (abs(weights(width) - target), width))
        assert nearest_width(weights, target, largest=largest) == best, target


def test_targets_out_of_reach_are_refused() -> None:
    assert nearest_width(lambda width: 10 * width, 6) == 1
    with pytest.raises(ConfigError, match="the nearest has 10;"):
        nearest_width(lambda width: 10 * width, 5)
    assert nearest_width(lambda width: 10 * width, 1999, largest=100) == 100
    with pytest.raises(ConfigError, match="from 1 to 100"):
        nearest_width(lambda width: 10 * width, 2000, largest=100)


def test_layers_have_the_weights_of_their_equations() -> None:
    assert layer_weights("lstm", 5, input_size=3) == lstm(5, 3)
    assert layer_weights("lstm", 5, input_size=3, num_layers=2) == lstm(5, 3) + lstm(5, 5)
    assert layer_weights("gru", 5) == lstm(5, 5) * 3 // 4
    assert layer_weights("lstm_peephole", 5) == lstm(5, 5) + 3 * 5
    # Nine matrices between the three gates.
    assert layer_weights("lstm_fgr", 5) == lstm(5, 5) + 3 * 5 + 9 * 25
    assert layer_weights("mgu", 5, bias=False) == 2 * 2 * 25
    assert layer_weights("lstm", 5, input_size=3, bidirectional=True) == 2 * lstm(5, 3)


def test_language_models_share_one_matrix_if_tied() -> None:
    config = {"model": {"num_layers": 2}}
    expected = 50 * 8 + 2 * lstm(8, 8) + 50
    assert system_weights(config, "lstm", 8, 50) == expected
    assert system_weights({"model": {**config["model"], "tied": False}}, "lstm", 8, 50) == expected + 50 * 8


def test_translation_systems_are_counted_with_both_vocabularies() -> None:
    config = {"task": "translation", "model": {"tied": "none", "embedding_size": 6}}
    small, large = (system_weights(config, "gru", 8, 30, target) for target in (40, 50))
    # An embedding, an output row and its bias for each word.
    assert large - small == 10 * (6 + 6 + 1)
    with pytest.raises(ConfigError, match="tied"):
        system_weights({"task": "translation", "model": {"tied": "all"}}, "gru", 8, 30, 40)
    with pytest.raises(ConfigError, match=r"cannot be built of the sizes \(30, 40, 50\)"):
        system_weights(config, "gru", 8, 30, 40, 50)


def test_all_cells_come_near_the_weights_of_a_reference() -> None:
    def weights(cell: str, width: int) -> int:
        return layer_weights(cell, width)

    target = weights("lstm", 64)
    found = equal_weights(cells.names(), target, weights)
    assert [each.cell for each in found] == cells.names()
    assert Sized("lstm", 64, target) in found
    for each in found:
        assert each.weights == weights(each.cell, each.width)
        # Weights grow with the square of the width: the nearest is at most half a unit's weights away.
        assert abs(each.weights / target - 1) <= 0.5 / each.width * 2.1, each
    widths = {each.cell: each.width for each in found}
    # Two gates in place of four: a width greater by the square root of two.
    assert widths["mgu"] in (90, 91) and widths["rnn_tanh"] in (128, 129)


def test_equal_widths_have_the_weights_they_have() -> None:
    found = equal_widths(["lstm", "gru"], 16, lambda cell, width: layer_weights(cell, width, input_size=8))
    assert found == [Sized("lstm", 16, lstm(16, 8)), Sized("gru", 16, lstm(16, 8) * 3 // 4)]


def test_what_is_wrong_names_the_cell() -> None:
    with pytest.raises(ConfigError, match="lstm: 3 weights"):
        equal_weights(["lstm"], 3, lambda cell, width: layer_weights(cell, width))
    with pytest.raises(ConfigError, match=r"model\.cel"):
        system_weights({"model": {"cel": "lstm"}}, "lstm", 8, 50)
