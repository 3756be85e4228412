"""Recorded states and gates against steps that are taken one by one, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recurra import Recurrent, cells
from recurra.analysis import recording
from recurra.analysis.recording import SideRecord, layer_places, numbers_per_step, record
from recurra.errors import ConfigError
from recurra.kernels.known_cells import register
from recurra.kernels.reference import run_step
from recurra.systems.reading import Reading, Side

# Records are float32; the references are float64.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}


def side(tokens: int, **options: object) -> Side:
    places = np.stack([np.arange(tokens), np.arange(tokens) + 1], axis=1)
    return Side("text", "x" * tokens, places, "", **options)  # type: ignore[arg-type]


def recorded(module: nn.Module, input: Tensor, tokens: int | None = None, **options: object) -> list[SideRecord]:
    reading = Reading(module, (side(len(input) if tokens is None else tokens, **options),), lambda: module(input))
    return record([reading])


def layer(cell: str | cells.Cell = "lstm", **options: object) -> Recurrent:
    torch.manual_seed(3)
    made = Recurrent(cell, 5, 6, dtype=torch.float64, **options).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return made


def by_steps(module: Recurrent, number: int, direction: int, inputs: Tensor) -> list[tuple[Tensor, ...]]:
    """The states after each step of one direction of a layer, (1, H) each, the first step in time first."""
    weights = module.layer_weights(number)[direction]
    states = tuple(state[direction] for state in module.initial_states(1, inputs)[number])
    found = []
    for step in inputs.flip(0) if direction else inputs:
        states = run_step(module.cell, register(module.cell), step, states, weights)
        found.append(states)
    return found[::-1] if direction else found


@pytest.mark.parametrize("name", cells.names())
@pytest.mark.parametrize("direction", [0, 1])
def test_states_are_those_of_single_steps(name: str, direction: int) -> None:
    module = layer(name, num_layers=2, bidirectional=True)
    input = torch.randn(9, 1, 5, dtype=torch.float64)
    (found,) = recorded(module, input)
    with torch.no_grad():
        first = [by_steps(module, 0, way, input) for way in (0, 1)]
        middle = torch.stack([torch.cat([each[t][0] for each in first], -1) for t in range(9)])
        wanted = [first[direction], by_steps(module, 1, direction, middle)]
    for number, steps in enumerate(wanted):
        (own,) = [
            each for each in found.layers if each.place.number == number + 1 and each.place.direction == direction
        ]
        assert tuple(own.states) == tuple(module.cell.states)
        for index, state in enumerate(module.cell.states):
            reference = torch.cat([step[index] for step in steps]).numpy()
            np.testing.assert_allclose(own.states[state], reference, **CLOSE)


@pytest.mark.parametrize("options", [{}, {"learn_initial_state": True}, {"bias": False}, {"proj_size": 3}], ids=str)
def test_gates_of_an_lstm_are_its_sigmoids(options: dict[str, object]) -> None:
    module = layer("lstm", **options)
    input = torch.randn(8, 1, 5, dtype=torch.float64)
    (found,) = recorded(module, input)
    own = found.layers[0]
    weights = module.layer_weights(0)[0]
    h = module.initial_states(1, input)[0][0][0]
    assert set(own.gates) == {"i", "f", "o"} and set(own.candidates) == {"g"}
    with torch.no_grad():
        for t in range(8):
            total = input[t] @ weights["weight_ih"].T + h @ weights["weight_hh"].T
            if module.bias:
                total = total + weights["bias_ih"] + weights["bias_hh"]
            i, f, g, o = total.chunk(4, -1)
            for name, value in {"i": i, "f": f, "o": o}.items():
                np.testing.assert_allclose(own.gates[name][t], value.sigmoid()[0].numpy(), **CLOSE)
            np.testing.assert_allclose(own.candidates["g"][t], g.tanh()[0].numpy(), **CLOSE)
            h = torch.from_numpy(own.states["h"][t : t + 1].astype(np.float64))


@pytest.mark.parametrize("name", ["gru", "gru_cho", "lstm_peephole", "lstm_fgr", "janet", "mgu"])
@pytest.mark.parametrize("direction", [0, 1])
def test_gates_make_the_states(name: str, direction: int) -> None:
    """What the equations make of the recorded gates and the states before is the recorded state."""
    module = layer(name, bidirectional=True)
    (found,) = recorded(module, torch.randn(7, 1, 5, dtype=torch.float64))
    own = found.layers[direction]
    h = own.states["h"]
    zero = np.zeros_like(h[:1])
    before = np.concatenate([h[1:], zero] if direction else [zero, h[:-1]])
    gates, inside = own.gates, own.candidates
    if name == "gru":
        wanted = (1 - gates["z"]) * inside["n"] + gates["z"] * before
    elif name == "gru_cho":
        wanted = (1 - gates["z"]) * before + gates["z"] * inside["n"]
    elif name == "mgu":
        wanted = (1 - gates["f"]) * before + gates["f"] * inside["n"]
    elif name == "janet":
        wanted = gates["σ(f_t)"] * before + (1 - gates["σ(f_t - 1)"]) * inside["g"]
    else:
        c = own.states["c"]
        c_before = np.concatenate([c[1:], zero] if direction else [zero, c[:-1]])
        np.testing.assert_allclose(c, gates["f"] * c_before + gates["i"] * inside["g"], **CLOSE)
        wanted = gates["o"] * np.tanh(c)
    np.testing.assert_allclose(h, wanted, **CLOSE)


@pytest.mark.parametrize(
    "options",
    [{"residual": "residual"}, {"residual": "highway"}, {"bidirectional": True, "merge": "mean"}, {"zoneout": 0.2}],
    ids=str,
)
def test_the_model_computes_what_it_computes_alone(options: dict[str, object]) -> None:
    module = layer("lstm", num_layers=3, **options)
    input = torch.randn(6, 1, 5, dtype=torch.float64)
    heard: list[Tensor] = []
    reading = Reading(module, (side(6),), lambda: heard.append(module(input)[0]))
    (found,) = record([reading])
    with torch.no_grad():
        alone = module(input)
        _, _, states = module(input, return_all_states=True)
    torch.testing.assert_close(heard[0], alone[0], rtol=1e-12, atol=1e-12)
    for each in found.layers:
        place = each.place
        part = states[place.index].c[:, 0].chunk(module.num_directions, -1)[place.direction]
        np.testing.assert_array_equal(each.states["c"], part.detach().float().numpy())
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_gates_above_a_residual_connection_see_its_output() -> None:
    module = layer("lstm", num_layers=3, residual="residual")
    (found,) = recorded(module, torch.randn(6, 1, 5, dtype=torch.float64))
    for own in found.layers:
        c = own.states["c"]
        before = np.concatenate([np.zeros_like(c[:1]), c[:-1]])
        np.testing.assert_allclose(c, own.gates["f"] * before + own.gates["i"] * own.candidates["g"], **CLOSE)


class Stepping(nn.Module):
    """Takes single steps and carries the state, as decoders with input feeding do."""

    def __init__(self, inner: Recurrent) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input: Tensor) -> Tensor:
        state, found = None, []
        for step in input.split(1):
            output, state = self.inner(step, state)
            found.append(output)
        return torch.cat(found)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_single_steps_are_put_together(cell: str) -> None:
    inner = layer(cell)
    input = torch.randn(7, 1, 5, dtype=torch.float64)
    (whole,), (steps,) = recorded(inner, input), recorded(Stepping(inner), input)
    for kind in ("states", "gates", "candidates"):
        for name, values in getattr(whole.layers[0], kind).items():
            np.testing.assert_allclose(getattr(steps.layers[0], kind)[name], values, **CLOSE)


def test_steps_round_the_tokens_are_left_out_and_backward_readings_turned() -> None:
    module = layer()
    input = torch.randn(7, 1, 5, dtype=torch.float64)
    (whole,) = recorded(module, input)
    (inner,) = recorded(module, input, 4, before=1, after=2)
    (turned,) = recorded(module, input, 5, before=0, after=2, backwards=True)
    np.testing.assert_array_equal(inner.layers[0].states["c"], whole.layers[0].states["c"][1:5])
    np.testing.assert_array_equal(turned.layers[0].gates["f"], whole.layers[0].gates["f"][6:1:-1])


def test_rows_may_come_first() -> None:
    module = layer(bidirectional=True, num_layers=2)
    turned = layer(bidirectional=True, num_layers=2, batch_first=True)
    turned.load_state_dict(module.state_dict())
    input = torch.randn(7, 1, 5, dtype=torch.float64)
    (wanted,) = recorded(module, input)
    (found,) = recorded(turned, input.transpose(0, 1), 7)
    for one, other in zip(found.layers, wanted.layers, strict=True):
        np.testing.assert_allclose(one.states["c"], other.states["c"], **CLOSE)
        np.testing.assert_allclose(one.gates["o"], other.gates["o"], **CLOSE)


def test_several_rows_are_no_text() -> None:
    module = layer()
    with pytest.raises(ConfigError, match="no recurrent layer"):
        recorded(module, torch.randn(7, 2, 5, dtype=torch.float64))


def test_padding_of_a_row_is_not_recorded() -> None:
    module = layer(bidirectional=True)
    input = torch.randn(7, 1, 5, dtype=torch.float64)
    reading = Reading(module, (side(4),), lambda: module(input, lengths=torch.tensor([4])))
    (found,), (short,) = record([reading]), recorded(module, input[:4])
    for one, other in zip(found.layers, short.layers, strict=True):
        np.testing.assert_allclose(one.states["h"], other.states["h"], **CLOSE)
        np.testing.assert_allclose(one.gates["i"], other.gates["i"], **CLOSE)


def test_several_texts_stand_one_after_another() -> None:
    module = layer()
    inputs = [torch.randn(count, 1, 5, dtype=torch.float64) for count in (3, 4)]

    def reading(input: Tensor) -> Reading:
        return Reading(module, (side(len(input)),), lambda: module(input))

    (both,) = record([reading(each) for each in inputs])
    assert both.text == "xxx\nxxxx" and both.starts == (0, 3)
    assert both.places[:, 0].tolist() == [0, 1, 2, 4, 5, 6, 7]
    alone = [recorded(module, each)[0].layers[0].states["h"] for each in inputs]
    np.testing.assert_array_equal(both.layers[0].states["h"], np.concatenate(alone))


def numbers(places: Sequence[object]) -> list[int]:
    return [place.number for place in places]  # type: ignore[attr-defined]


def test_layers_are_chosen_by_their_number() -> None:
    module = nn.ModuleList([layer(num_layers=2, bidirectional=True), layer("gru")])
    places = layer_places(module, [side(1)])
    assert numbers(places) == [1, 1, 2, 2, 3] and numbers(layer_places(module, [replace(side(1), modules="1")])) == [1]
    assert numbers_per_step(places) == 4 * 6 * 6 + 4 * 6
    one = layer(num_layers=3)
    reading = Reading(one, (side(4),), lambda: one(torch.randn(4, 1, 5, dtype=torch.float64)))
    assert numbers([each.place for each in record([reading], [2])[0].layers]) == [2]
    with pytest.raises(ConfigError, match=r"--layer 4: the model has layers 1 to 3"):
        record([reading], [4])


def test_too_much_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = layer()
    monkeypatch.setattr(recording, "MOST_NUMBERS", 6 * 6 * 10)

    def run() -> None:
        raise AssertionError("it ran")

    with pytest.raises(ConfigError, match=r"11 tokens, and these layers can be recorded over 10"):
        record([Reading(module, (side(11),), run)])


def test_nothing_to_read_and_nobody_who_reads_are_refused() -> None:
    module = layer()
    with pytest.raises(ConfigError, match="no text"):
        record([Reading(module, (side(0),), lambda: None)])
    with pytest.raises(ConfigError, match="no recurrent layer"):
        record([Reading(nn.Linear(1, 1), (side(3),), lambda: None)])
