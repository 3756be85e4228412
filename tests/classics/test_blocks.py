"""Memory blocks of 1997: the printed weight counts, the truncated gradient by autograd, and the loop against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recurra.classics.blocks import BlockNetwork, Sequences, Weights, is_compiled, run, run_in_numpy

# (B, S), inputs and outputs, other settings, and the number of weights that the paper prints.
PRINTED = [
    ((7, 4, 1, 7), {"biases": "gates"}, 264),
    ((7, 3, 2, 7), {"biases": "gates"}, 276),
    ((101, 1, 1, 101), {"output_gates": False, "recurrent": False, "direct": True, "plain": True}, 10_504),
    *(((p + 4, 2, 1, 2), {}, count) for p, count in ((50, 364), (100, 664), (200, 1264), (500, 3064), (1000, 6064))),
    ((1, 3, 1, 1), {"biases": "hidden"}, 102),
    ((2, 2, 2, 1), {"biases": "all"}, 93),
    ((8, 2, 2, 4), {"biases": "all"}, 156),
    ((8, 3, 2, 8), {"biases": "all"}, 308),
]


@pytest.mark.parametrize(("sizes", "settings", "count"), PRINTED)
def test_networks_have_as_many_weights_as_the_paper_prints(
    sizes: tuple[int, int, int, int], settings: dict[str, Any], count: int
) -> None:
    network = BlockNetwork(*sizes, **settings)
    assert network.weights == count
    if count > 1000:
        return
    # As many as a training changes.
    generator = np.random.default_rng(0)
    weights = network.start(generator, 0.2)
    before = weights.copy()
    data = random_sequences(network, generator, of_symbols=False)
    run_in_numpy(network, weights, data, 0.5)
    changed = sum(
        int((new != old).sum()) for new, old in ((weights.hidden, before.hidden), (weights.output, before.output))
    )
    assert changed == count


def random_sequences(
    network: BlockNetwork, generator: np.random.Generator, *, of_symbols: bool, at_every_step: bool = False
) -> Sequences:
    starts = np.concatenate([[0], np.cumsum(generator.integers(1, 9, 5))]).astype(np.int64)
    steps = int(starts[-1])
    symbols = generator.integers(network.inputs, size=steps).astype(np.int32) if of_symbols else None
    values = None if of_symbols else generator.normal(size=(steps, network.inputs))
    ends = None if at_every_step else generator.uniform(size=(5, network.outputs))
    following = generator.integers(network.outputs, size=steps).astype(np.int32) if at_every_step else None
    return Sequences(starts, symbols, values, ends, following)


NETWORKS = [
    BlockNetwork(3, 2, 2, 2, biases="all"),
    BlockNetwork(3, 1, 3, 1, biases="hidden"),
    BlockNetwork(4, 3, 1, 2, biases="gates"),
    BlockNetwork(5, 2, 1, 5, output_gates=False, recurrent=False, direct=True, plain=True),
    BlockNetwork(4, 2, 2, 3, output_gates=False, biases="all"),
    BlockNetwork(3, 0, 1, 3, direct=True),
]


def autograd_step(
    network: BlockNetwork, weights: Weights, data: Sequences, rate: float
) -> tuple[list[np.ndarray], Weights]:
    """What each sequence is answered, and the weights after all, with torch's derivatives."""
    hidden, output = (torch.tensor(w, requires_grad=True) for w in (weights.hidden, weights.output))
    gates, cells, outputs = network.has_biases
    answers = []
    for n in range(len(data)):
        y = torch.zeros(network.hidden, dtype=torch.float64)
        state = torch.zeros(network.blocks, network.cells, dtype=torch.float64)
        loss = torch.zeros((), dtype=torch.float64)
        for t in range(int(data.starts[n]), int(data.starts[n + 1])):
            if data.values is not None:
                x = torch.tensor(data.values[t])
            else:
                assert data.symbols is not None
                x = torch.nn.functional.one_hot(torch.tensor(int(data.symbols[t])), network.inputs).double()
            # The truncation: what units gave before is a constant.
            seen = [x, *([y.detach()] if network.recurrent else [])]
            net = hidden[:, :-1] @ torch.cat(seen) + hidden[:, -1]
            net = net.view(network.blocks, network.units_of_a_block)
            in_gate = net[:, :1].sigmoid()
            out_gate = net[:, 1:2].sigmoid() if network.output_gates else torch.ones_like(in_gate)
            net_c = net[:, 1 + network.output_gates :]
            g = net_c.sigmoid() if network.plain else 2 * torch.tanh(net_c / 2)
            state = state + in_gate * g
            h = state if network.plain else torch.tanh(state / 2)
            y_c = out_gate * h
            y = torch.cat([in_gate, *([out_gate] if network.output_gates else []), y_c], 1).reshape(-1)
            last = t + 1 == data.starts[n + 1]
            if data.next is None and not last:
                continue
            read = [*([x] if network.direct else []), y_c.reshape(-1)]
            answer = (output[:, :-1] @ torch.cat(read) + output[:, -1]).sigmoid()
            answers.append(answer.detach().numpy())
            if data.next is not None:
                wanted = torch.nn.functional.one_hot(torch.tensor(int(data.next[t])), network.outputs).double()
            else:
                assert data.ends is not None
                wanted = torch.tensor(data.ends[n])
            loss = loss + ((wanted - answer) ** 2).sum() / 2
        of_hidden, of_output = torch.autograd.grad(loss, (hidden, output), allow_unused=True)
        with torch.no_grad():
            kind = torch.arange(network.hidden) % network.units_of_a_block
            is_gate = kind < 1 + network.output_gates
            if of_hidden is not None:
                of_hidden[is_gate & (not gates), -1] = 0
                of_hidden[~is_gate & (not cells), -1] = 0
                hidden -= rate * of_hidden
            of_output[:, -1] *= outputs
            output -= rate * of_output
    return answers, Weights(hidden.detach().numpy(), output.detach().numpy())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("of_symbols", [True, False])
@pytest.mark.parametrize("at_every_step", [True, False])
def test_the_truncated_gradient_is_that_of_autograd(
    network: BlockNetwork, of_symbols: bool, at_every_step: bool
) -> None:
    generator = np.random.default_rng(3)
    weights = network.start(generator, 0.8, [-1.0, -2.0][: network.blocks])
    data = random_sequences(network, generator, of_symbols=of_symbols, at_every_step=at_every_step)
    answers, after = autograd_step(network, weights.copy(), data, 0.7)
    for go in (run_in_numpy, run):
        ours = weights.copy()
        assert np.allclose(go(network, ours, data, 0.7), answers, rtol=1e-12, atol=1e-14)
        assert np.allclose(ours.hidden, after.hidden, rtol=1e-12, atol=1e-14)
        assert np.allclose(ours.output, after.output, rtol=1e-12, atol=1e-14)


@pytest.mark.skipif(not is_compiled(), reason="built without a compiler")
@pytest.mark.parametrize("network", NETWORKS)
def test_the_compiled_loop_is_the_numpy_one(network: BlockNetwork) -> None:
    generator = np.random.default_rng(5)
    one = network.start(generator, 0.3)
    other = one.copy()
    for _ in range(20):
        data = random_sequences(network, generator, of_symbols=True)
        answers = run(network, one, data, 0.5)
        assert np.abs(answers - run_in_numpy(network, other, data, 0.5)).max() < 1e-12
    assert np.allclose(one.hidden, other.hidden, rtol=0, atol=1e-12)
    assert np.allclose(one.output, other.output, rtol=0, atol=1e-12)
    assert np.abs(run(network, one, data) - run_in_numpy(network, other, data)).max() < 1e-12


def test_without_a_rate_nothing_changes_and_states_begin_at_zero() -> None:
    network = NETWORKS[0]
    generator = np.random.default_rng(1)
    weights = network.start(generator, 0.3)
    before = weights.copy()
    data = random_sequences(network, generator, of_symbols=False)
    answers = run(network, weights, data)
    assert (weights.hidden == before.hidden).all() and (weights.output == before.output).all()
    # The first sequence alone is answered as the first of all.
    assert (run(network, weights, data.head(1)) == answers[:1]).all()
    assert len(data.head(2)) == 2 and data.head(2).steps == data.starts[2]


@pytest.mark.skipif(not is_compiled(), reason="built without a compiler")
def test_what_does_not_fit_is_refused() -> None:
    network = BlockNetwork(3, 2, 2, 2)
    generator = np.random.default_rng(1)
    weights = network.start(generator, 0.3)
    data = random_sequences(network, generator, of_symbols=True)
    assert data.symbols is not None and data.ends is not None
    wrong = [
        Sequences(data.starts, data.symbols + 3, None, data.ends),
        Sequences(data.starts, data.symbols - 3, None, data.ends),
        Sequences(data.starts, data.symbols[:-1], None, data.ends),
        Sequences(data.starts, data.symbols, None, data.ends[:-1]),
        Sequences(data.starts[::-1].copy(), data.symbols, None, data.ends),
        Sequences(np.array([0, 0, data.steps]), data.symbols, None, data.ends[:2]),
        Sequences(data.starts, None, None, data.ends),
        Sequences(data.starts, data.symbols, None, None, data.symbols + 2),
    ]
    for each in wrong:
        with pytest.raises((ValueError, TypeError)):
            run(network, weights, each)
    with pytest.raises(ValueError, match="the weights have not the shapes"):
        run(network, Weights(weights.hidden[:, 1:].copy(), weights.output), data)
    for hidden in (weights.hidden.astype(np.float32), np.asfortranarray(weights.hidden)):
        with pytest.raises(TypeError):
            run(network, Weights(hidden, weights.output), data)  # type: ignore[arg-type]


def test_start_values() -> None:
    network = BlockNetwork(2, 3, 2, 1, biases="all")
    weights = network.start(np.random.default_rng(0), 0.1, [-3.0, -6.0], [-1.0, -2.0, -3.0])
    assert weights.hidden.shape == (12, 2 + 12 + 1) and weights.output.shape == (1, 6 + 1)
    assert weights.hidden[[0, 4], -1].tolist() == [-3.0, -6.0] and abs(weights.hidden[8, -1]) <= 0.1
    assert weights.hidden[[1, 5, 9], -1].tolist() == [-1.0, -2.0, -3.0]
    assert 0.08 < np.abs(weights.hidden[:, :-1]).max() <= 0.1
    with pytest.raises(ValueError, match="more biases of gates than the 3 blocks"):
        network.start(np.random.default_rng(0), 0.1, [-1.0] * 4)
