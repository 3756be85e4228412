"""A call with resets is a call for each piece between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import recurra

from .builders import assert_close, build, states_of, zeros_or_random

T, B, I, H = 7, 4, 4, 5
NAMES = ("lstm", "gru_cho", "lstm_peephole", "lstm_fgr", "gru", "rnn_relu", "mgu")


def cut() -> Tensor:
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 1] = resets[3, 0] = resets[3, 1] = resets[4, 1] = resets[6, 3] = resets[5, 2] = True
    return resets


def pieces(resets: Tensor, row: int, length: int) -> list[tuple[int, int]]:
    """Where each piece of a row begins and ends."""
    starts = sorted({0, *(t for t in range(length) if resets[t, row])})
    return list(zip(starts, [*starts[1:], length], strict=True))


def expected(layer: Any, x: Tensor, resets: Tensor, lengths: list[int], hx: Any = None) -> tuple[Tensor, list[Tensor]]:
    """Outputs and final states from a call for each piece; hx is for layers of one direction."""
    outputs, finals = [], []
    directions = layer.num_directions
    for row in range(x.shape[1]):
        parts, ends = [], []
        for start, end in pieces(resets, row, lengths[row]):
            first = None
            if hx is not None and start == 0 and not resets[0, row]:
                first = tuple(state[:, row : row + 1] for state in states_of(hx))
                first = first if len(first) > 1 else first[0]
            output, final = layer(x[start:end, row : row + 1], first)
            parts.append(output)
            ends.append(states_of(final))
        width = parts[0].shape[2]
        outputs.append(torch.cat([*parts, x.new_zeros(len(x) - lengths[row], 1, width)]))
        # The last piece is the forward direction's last, and the first the backward direction's.
        last = [torch.arange(len(state)) % directions == 0 for state in ends[0]]
        finals.append(
            [
                torch.where(forward[:, None, None], end, begin)
                for forward, begin, end in zip(last, ends[0], ends[-1], strict=True)
            ]
        )
    return torch.cat(outputs, 1), [torch.cat(states, 1) for states in zip(*finals, strict=True)]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"learn_initial_state": True}], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_call_for_each_piece(name: str, options: dict[str, Any], backend: str) -> None:
    layer = build(name, I, H, **options)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    lengths = [7, 6, 3, 7]
    leaves = [x, *layer.parameters()]
    with recurra.backend(backend):
        output, final = layer(x, lengths=lengths, resets=cut())
        wanted, states = expected(layer, x, cut(), lengths)
        noise = torch.randn_like(output)
        loss, other = ((value * noise).sum() for value in (output, wanted))
        loss = loss + sum(state.square().sum() for state in states_of(final))
        other = other + sum(state.square().sum() for state in states)
        found, right = torch.autograd.grad(loss, leaves), torch.autograd.grad(other, leaves)
    exact = 0.0 if backend == "cpu" else 1e-12
    assert_close(output, wanted, exact)
    for one, two in zip(states_of(final), states, strict=True):
        assert_close(one, two, exact)
    for one, two in zip(found, right, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_given_states_hold_until_the_first_reset(name: str) -> None:
    layer = build(name, I, H)
    x = torch.randn(T, B, I, dtype=torch.float64)
    hx = zeros_or_random(name, 1, B, H)
    leaves = [state.requires_grad_() for state in states_of(hx)]
    output, final = layer(x, hx, resets=cut())
    wanted, states = expected(layer, x, cut(), [T] * B, hx)
    assert_close(output, wanted, 0.0)
    for one, two in zip(states_of(final), states, strict=True):
        assert_close(one, two, 0.0)
    noise = torch.randn_like(output)
    found = torch.autograd.grad((output * noise).sum(), leaves)
    for one, two in zip(found, torch.autograd.grad((wanted * noise).sum(), leaves), strict=True):
        assert_close(one, two)
        assert not one[:, 1].any()


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
@pytest.mark.parametrize("option", ["batch_first", "left", "unbatched", "all states", "numpy", "float32", "proj_size"])
def test_with_other_options(name: str, option: str) -> None:
    if option == "proj_size" and name != "lstm":
        pytest.skip("h of a GRU is no product's operand alone")
    options: dict[str, Any] = {"proj_size": 3} if option == "proj_size" else {}
    dtype = torch.float32 if option == "float32" else torch.float64
    layer = build(name, I, H, batch_first=option == "batch_first", dtype=dtype, **options)
    x = torch.randn(T, B, I, dtype=dtype)
    resets = cut()
    plain = build(name, I, H, dtype=dtype, **options)
    wanted, final = plain(x, resets=resets)
    if option == "batch_first":
        output, last = layer(x.transpose(0, 1), resets=resets.T)
        output = output.transpose(0, 1)
    elif option == "left":
        lengths = torch.tensor([7, 5, 3, 4])
        wanted, final = plain(x, lengths=lengths, resets=resets)
        order = torch.stack([torch.arange(T).roll(T - int(n)) for n in lengths], 1)
        rows = torch.arange(B)
        output, last = layer(x[order, rows], lengths=lengths, padding="left", resets=resets[order, rows])
        back = torch.stack([torch.arange(T).roll(int(n)) for n in lengths], 1)
        output = output[back, rows]
    elif option == "unbatched":
        output, last = layer(x[:, 1], resets=resets[:, 1])
        wanted, final = wanted[:, 1], [state[:, 1] for state in states_of(final)]
        final = tuple(final) if len(final) > 1 else final[0]
    elif option == "all states":
        output, last, states = layer(x, resets=resets, return_all_states=True)
        assert_close(states[0].h, wanted, 0.0)
    else:
        output, last = layer(x, resets=np.asarray(resets) if option == "numpy" else resets)
        wanted, _ = expected(layer, x, resets, [T] * B)
    assert_close(output, wanted, 0.0)
    for one, two in zip(states_of(last), states_of(final), strict=True):
        assert_close(one, two, 0.0)


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho", "lstm_fgr"])
@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout"])
def test_regularised_layers_agree_with_the_reference(name: str, option: str) -> None:
    layer = build(name, I, H, bidirectional=True, **{option: 0.3})
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    results = []
    for backend in ("cpu", "reference"):
        with recurra.backend(backend) if name != "lstm_fgr" or option == "zoneout" else recurra.backend("reference"):
            torch.manual_seed(3)
            output, final = layer(x, lengths=[7, 6, 0, 7], resets=cut())
            loss = output.square().sum() + sum(state.square().sum() for state in states_of(final))
            results.append([output, *states_of(final), *torch.autograd.grad(loss, [x, *layer.parameters()])])
    for one, two in zip(*results, strict=True):
        assert_close(one, two, 1e-11)


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_compiled_and_exported(name: str) -> None:
    layer = build(name, I, H, learn_initial_state=True)
    x = torch.randn(T, B, I, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    leaves = list(layer.parameters())
    output, wanted = compiled(x, resets=cut())[0], layer(x, resets=cut())[0]
    assert_close(output, wanted, 0.0)
    found, right = (torch.autograd.grad(value.square().sum(), leaves) for value in (output, wanted))
    for one, two in zip(found, right, strict=True):
        assert_close(one, two)
    graph = torch.export.export(layer, (x,), {"resets": cut()}).module()
    other = ~cut()
    assert_close(graph(x, resets=other)[0], layer(x, resets=other)[0], 0.0)


def test_wrong_resets_are_said() -> None:
    layer = build("lstm", I, H)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with pytest.raises(ValueError, match="must be booleans"):
        layer(x, resets=cut().float())
    with pytest.raises(ValueError, match=r"must have the shape \(7, 4\)"):
        layer(x, resets=cut().T)
    with pytest.raises(ValueError, match="padded input"):
        layer(torch.nn.utils.rnn.pack_sequence([x[:, 0]]), resets=cut())
