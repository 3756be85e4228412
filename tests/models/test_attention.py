"""Attention against the papers' equations computed position by position in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from recurra.models.attention import Attention, make_attention, masked_softmax, remember

T, S, B, Q, M, A = 4, 6, 3, 4, 4, 8
LENGTHS = [6, 3, 1]
KINDS = ("additive", "concat", "dot", "general", "local", "local-monotonic", "multi-head")


def attention(kind: str, **options: Any) -> Attention:
    torch.manual_seed(3)
    return make_attention(kind, Q, M, size=A, heads=2, window=2, **options).double()


def inputs(seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(T, B, Q, dtype=torch.float64, generator=generator)
    annotations = torch.randn(S, B, M, dtype=torch.float64, generator=generator)
    mask = torch.arange(S).unsqueeze(1) < torch.tensor(LENGTHS)
    return query, annotations, mask


def softmax(scores: list[float]) -> np.ndarray:
    powers = [math.exp(score - max(scores)) for score in scores]
    return np.array([power / sum(powers) for power in powers])


def by_hand(
    kind: str, module: Attention, s: np.ndarray, h: np.ndarray, step: int, coverage: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Context and weights of one query over one source (its length, M) without padding."""
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    length = len(h)
    if kind in ("additive", "concat"):
        seen = np.zeros(length) if coverage is None else coverage
        extra = p.get("coverage", np.zeros(A))
        energies = [
            float(p["energy"] @ np.tanh(p["query.weight"] @ s + p["query.bias"] + p["key.weight"] @ x + extra * c))
            for x, c in zip(h, seen, strict=True)
        ]
        weights = softmax(energies)
        return weights @ h, weights
    if kind == "multi-head":
        contexts, heads = [], []
        for head in range(2):
            rows = slice(head * A // 2, (head + 1) * A // 2)
            q = p["query.weight"][rows] @ s
            weights = softmax([float(q @ (p["key.weight"][rows] @ x)) / math.sqrt(A / 2) for x in h])
            contexts.append(sum(w * (p["value.weight"][rows] @ x) for w, x in zip(weights, h, strict=True)))
            heads.append(weights)
        return p["output.weight"] @ np.concatenate(contexts), np.mean(heads, axis=0)
    scores = [float(s @ x) if kind == "dot" else float(s @ (p["key.weight"] @ x)) for x in h]
    if not kind.startswith("local"):
        weights = softmax(scores)
        return weights @ h, weights
    if kind == "local":
        centre = length / (1 + math.exp(-float(p["centre"] @ np.tanh(p["position.weight"] @ s))))
    else:
        centre = min(step, length - 1)
    inside = [i for i in range(length) if abs(i - centre) <= 2]
    weights = np.zeros(length)
    weights[inside] = softmax([scores[i] for i in inside])
    if kind == "local":
        weights *= [math.exp(-((i - centre) ** 2) / (2 * 1.0**2)) for i in range(length)]
    return weights @ h, weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_context_are_those_of_the_equations(kind: str) -> None:
    module = attention(kind)
    query, annotations, mask = inputs()
    found = module(query, remember(module, annotations, mask))
    for row, length in enumerate(LENGTHS):
        for step in range(T):
            context, weights = by_hand(kind, module, query[step, row].numpy(), annotations[:length, row].numpy(), step)
            np.testing.assert_allclose(found.context[step, row].detach().numpy(), context, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(found.weights[step, row, :length].detach().numpy(), weights, rtol=1e-12)
            assert not found.weights[step, row, length:].any()


def test_coverage_enters_the_energy() -> None:
    module = attention("additive", coverage=True)
    assert module.coverage is not None
    torch.nn.init.normal_(module.coverage)
    query, annotations, mask = inputs()
    coverage = torch.rand(B, S, dtype=torch.float64)
    found = module(query[:1], remember(module, annotations, mask), coverage)
    for row, length in enumerate(LENGTHS):
        _, weights = by_hand(
            "additive", module, query[0, row].numpy(), annotations[:length, row].numpy(), 0,
            coverage[row, :length].numpy(),
        )  # fmt: skip
        np.testing.assert_allclose(found.weights[0, row, :length].detach().numpy(), weights, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right(kind: str) -> None:
    module = attention(kind)
    query, annotations, mask = inputs()

    def run(query: torch.Tensor, annotations: torch.Tensor, *parameters: torch.Tensor) -> Any:
        named = dict(zip([name for name, _ in module.named_parameters()], parameters, strict=True))

        def call(module: Attention) -> Any:
            return module(query, remember(module, annotations, mask))

        class Wrapped(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = module

            def forward(self) -> Any:
                return tuple(call(self.inner))

        return torch.func.functional_call(Wrapped(), {f"inner.{k}": v for k, v in named.items()}, ())

    arguments = [query[:2], annotations, *module.parameters()]
    assert torch.autograd.gradcheck(run, [value.detach().requires_grad_() for value in arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beyond_a_source_changes_nothing(kind: str) -> None:
    module = attention(kind)
    query, annotations, mask = inputs()
    padded = annotations.masked_fill(~mask.unsqueeze(-1), 1e3)
    one, other = (module(query, remember(module, each, mask)) for each in (annotations, padded))
    torch.testing.assert_close(one.context, other.context, rtol=0, atol=0)
    torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=0)


def test_monotonic_windows_go_on_from_the_position() -> None:
    module = attention("local-monotonic")
    query, annotations, mask = inputs()
    memory = remember(module, annotations, mask)
    whole = module(query, memory)
    later = module(query[2:], memory, None, torch.full((B,), 2))
    torch.testing.assert_close(later.weights, whole.weights[2:], rtol=0, atol=0)


def test_far_positions_are_told_apart_in_bfloat16() -> None:
    module = attention("local-monotonic").bfloat16()
    annotations = torch.randn(600, 1, M).bfloat16()
    memory = remember(module, annotations, torch.ones(600, 1, dtype=torch.bool))
    found = module(torch.randn(1, 1, Q).bfloat16(), memory, None, torch.tensor([511]))
    assert found.weights[0, 0].nonzero()[:, 0].tolist() == [509, 510, 511, 512, 513]


def test_a_softmax_over_nothing_is_zero_with_zero_gradient() -> None:
    scores = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    weights = masked_softmax(scores, mask)
    assert weights[0].sum().item() == pytest.approx(1.0) and not weights[1].any() and weights[0, 1] == 0
    weights.square().sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all() and not scores.grad[1].any()


def test_sizes_that_do_not_fit_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        make_attention("dot", 3, 4, size=2)
    with pytest.raises(ValueError, match="no attention hard"):
        make_attention("hard", 4, 4, size=2)
