"""The fused CPU engine on rows of several documents: the state returns to a given one where a document begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from recurra.kernels.call import LayerCall
from recurra.kernels.cpu import compiled
from recurra.kernels.cpu.layer_run import LayerRun
from recurra.kernels.cpu.rows import Rows

from .engine_calls import assert_close, each_instruction_set, make, packed, resting, same_bits

pytestmark = pytest.mark.skipif(compiled.engine() is None, reason="this installation was built without the engine")

T, B, H = 7, 5, 19
LENGTHS = [7, 7, 5, 2, 0]


class Documents:
    """A run whose rows restart; `resets` is of (T, B) or packed, `restart` of (D, width) for each state."""

    def __init__(
        self,
        call: LayerCall,
        resets: Tensor | None,
        restart: Sequence[Tensor],
        *,
        threads: int = 1,
        round_weights: bool = False,
        keep: bool = True,
    ) -> None:
        cell = compiled.compiled(call.cell)
        assert cell is not None
        if resets is not None:
            call = replace(call, resets=resets, restart=tuple(state[:, None] for state in restart))
        call.check()
        self.run = LayerRun(call, cell, Rows.of(call), threads, round_weights=round_weights)
        self.keep = keep

    def forward(self) -> list[Tensor]:
        return self.run.forward(keep=self.keep)

    def way_back(self, d_states: Sequence[Tensor], d_final: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of input, initial states and weights, then those of the states to restart from."""
        run = self.run
        assert run.kept is not None
        found = run.backward(run.states, run.kept, d_states, d_final, [True] * len(run.call.leaves()), spend=True)
        count = len(found) - len(run.restart)
        return [*found[:count], *(d[:, 0] for d in found[count:])]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(cell: str, kind: str, dtype: torch.dtype) -> tuple[LayerCall, Tensor, list[Tensor]]:
    """A call, (T, B) where documents begin, and what the states return to."""
    lengths = LENGTHS if "lengths" in kind or "packed" in kind else None
    projection = 6 if "projected" in kind else 0
    call = resting(
        make(cell, T, B, 3, H, directions=2, dtype=dtype, lengths=lengths, projection=projection, all_states=True)
    )
    generator = torch.Generator().manual_seed(4)
    if "masked" in kind:
        call = replace(call, recurrent_mask=(torch.rand(2, B, H, generator=generator) < 0.7).to(dtype) / 0.7)
    if "zoneout" in kind:
        masks = tuple(torch.rand(T, B, 2 * H, generator=generator) < 0.3 for _ in call.states)
        call = replace(call, zoneout=0.3, zoneout_masks=masks if "masks" in kind else ())
    resets = torch.rand(T, B, generator=generator) < 0.4
    # At a row's first step, at its last one, in two steps one after another, and nowhere.
    resets[0, 0] = resets[6, 0] = resets[3, 1] = resets[4, 1] = resets[4, 2] = True
    resets[:, 3] = False
    return call, resets, [draw(2, state.shape[2], seed=5 + s).to(dtype) for s, state in enumerate(call.states)]


def given_gradients(call: LayerCall) -> tuple[list[Tensor], list[Tensor]]:
    like = call.input
    outputs = [draw(T, B, 2 * state.shape[2], seed=20 + s).to(like.dtype) for s, state in enumerate(call.states)]
    return outputs, [draw(*state.shape, seed=30 + s).to(like.dtype) for s, state in enumerate(call.states)]


def piece(call: LayerCall, row: int, begin: int, end: int, states: tuple[Tensor, ...]) -> LayerCall:
    """Some steps of one row as a call of their own."""
    return replace(
        call,
        input=call.input[begin:end, row : row + 1],
        states=states,
        lengths=None,
        recurrent_mask=None if call.recurrent_mask is None else call.recurrent_mask[:, row : row + 1],
        zoneout_masks=tuple(masks[begin:end, row : row + 1] for masks in call.zoneout_masks),
    )


def in_pieces(
    call: LayerCall, resets: Tensor, restart: list[Tensor], narrow: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """What the whole call gives, and its gradients, each document of each row run as a call of its own."""
    count = len(call.states)
    lengths = [T] * B if call.lengths is None else call.lengths.tolist()
    d_states, d_final = given_gradients(call)
    outputs = [torch.zeros_like(d) for d in d_states]
    final = [state.clone() for state in call.states]
    d_input = torch.zeros_like(call.input)
    d_initial = [d.clone() for d in d_final]
    d_restart = [torch.zeros_like(state, dtype=torch.float64) for state in restart]
    d_weights: list[Tensor] = []
    for row, length in enumerate(lengths):
        cuts = [0, *(t for t in range(1, length) if resets[t, row]), length]
        for begin, end in pairwise(cuts):
            if begin == end:
                continue
            own = [begin > 0 or bool(resets[0, row]), end < length]  # whether each direction restarts here
            ends = [end == length, begin == 0]
            states = tuple(
                torch.stack(
                    [
                        (r if restarts else initial)[None]
                        for restarts, r, initial in zip(own, rs, s[:, row], strict=True)
                    ]
                )
                for rs, s in zip(restart, call.states, strict=True)
            )
            run = Documents(piece(call, row, begin, end, states), None, (), round_weights=narrow)
            results = run.forward()
            for s in range(count):
                outputs[s][begin:end, row] = results[s][:, 0]
                for direction in (0, 1):
                    if ends[direction]:
                        final[s][direction, row] = results[count + s][direction, 0]
            last = [
                torch.stack([d[i, row, None] if ends[i] else torch.zeros_like(d[i, row, None]) for i in (0, 1)])
                for d in d_final
            ]
            found = run.way_back([d[begin:end, row : row + 1] for d in d_states], last)
            d_input[begin:end, row] = found[0][:, 0]
            for s in range(count):
                for direction in (0, 1):
                    d = found[1 + s][direction, 0]
                    if own[direction]:
                        d_restart[s][direction] += d.double()
                    if not own[direction]:
                        d_initial[s][direction, row] = d
                    elif direction == 0 and begin == 0:
                        d_initial[s][direction, row] = 0
            sums = [d.double() for d in found[1 + count :]]
            d_weights = [a + b for a, b in zip(d_weights, sums, strict=True)] if d_weights else sums
    return [*outputs, *final], [d_input, *d_initial, *d_weights, *d_restart]


def check(cell: str, kind: str, dtype: torch.dtype) -> None:
    call, resets, restart = case(cell, kind, dtype)
    narrow = "bfloat16" in kind
    expected, expected_d = in_pieces(call, resets, restart, narrow)
    d_states, d_final = given_gradients(call)
    whole = call
    if "packed" in kind:
        counts = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
        whole, resets = packed(call), resets[counts]
        d_states = [d[counts] for d in d_states]
        count = len(call.states)
        expected[:count] = [output[counts] for output in expected[:count]]
        expected_d[0] = expected_d[0][counts]
    run = Documents(whole, resets, restart, round_weights=narrow)
    found = run.forward()
    assert same_bits(found, expected)
    exact = 1 + len(call.states)
    d = run.way_back(d_states, d_final)
    assert same_bits(d[:exact], expected_d[:exact])
    for one, other in zip(d[exact:], expected_d[exact:], strict=True):
        # On matrix tiles sums of weights' gradients round what they add.
        assert_close(one, other, 2e-2 if narrow else 1e-5 if dtype == torch.float32 else 1e-12)

    inference = Documents(replace(whole, all_states=False), resets, restart, round_weights=narrow, keep=False).forward()
    assert same_bits(inference, [found[0], *found[len(call.states) :]])
    several = Documents(whole, resets, restart, round_weights=narrow, threads=2)
    assert same_bits(several.forward(), found)
    assert same_bits(several.way_back(d_states, d_final), d)


KINDS = [
    "plain",
    "lengths",
    "packed",
    "masked lengths",
    "zoneout",
    "zoneout masks lengths",
    "zoneout masks packed",
    "bfloat16 lengths",
]


@each_instruction_set
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["lstm", "gru_cho", "rnn_tanh"])
def test_documents_are_calls_of_their_own(cell: str, kind: str, instruction_set: str) -> None:
    check(cell, kind, torch.float32 if "bfloat16" in kind else torch.float64)


@each_instruction_set
@pytest.mark.parametrize("kind", ["projected", "projected lengths", "projected packed", "projected bfloat16 lengths"])
def test_documents_of_a_projected_state(kind: str, instruction_set: str) -> None:
    check("lstm", kind, torch.float32)


@pytest.mark.parametrize("cell", ["lstm_fgr", "gru", "mgu", "lstm_peephole"])
def test_documents_of_other_cells(cell: str) -> None:
    check(cell, "lengths", torch.float64)


def test_resets_in_any_layout() -> None:
    call, resets, restart = case("lstm", "lengths", torch.float64)
    expected = Documents(call, resets, restart).forward()
    spread = torch.zeros(B, 2, T, 3, dtype=torch.bool)[:, 1, :, 1].T
    spread.copy_(resets)
    assert same_bits(Documents(call, spread, restart).forward(), expected)


def test_without_a_reset_nothing_changes() -> None:
    call, resets, restart = case("gru_cho", "masked lengths", torch.float64)
    d_states, d_final = given_gradients(call)
    none, plain = Documents(call, torch.zeros_like(resets), restart), Documents(call, None, ())
    assert same_bits(none.forward(), plain.forward())
    d = none.way_back(d_states, d_final)
    assert same_bits(d[:-1], plain.way_back(d_states, d_final))
    assert not d[-1].any()


def test_a_state_to_restart_from_is_needed() -> None:
    call, resets, restart = case("lstm", "plain", torch.float64)
    with pytest.raises(RuntimeError, match="a value to begin anew with for each"):
        Documents(call, resets, restart[:1])
    run = Documents(call, resets, restart).run
    run.restart = run.restart[:1]
    with pytest.raises(ValueError, match="a row to restart from for each state"):
        run.forward()
