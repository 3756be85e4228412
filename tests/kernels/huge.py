"""Layers whose tensors have more than 2^31 elements: python -m tests.kernels.huge, with 24 GiB of memory."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import recurra

# What passes 2^31 in each check.
ELEMENTS = 2**31 + 2**24


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def states_of_all_steps() -> bool:
    """T x B x H: a whole sequence is its parts, one after another."""
    hidden, batch = 64, 1024
    steps = ELEMENTS // (batch * hidden)
    layer = recurra.Recurrent("rnn_tanh", 1, hidden).requires_grad_(False)
    x = draw(1, batch, 1).expand(steps, batch, 1)
    output, last = layer(x)
    same, state, part = True, None, steps // 8 + 1
    for at in range(0, steps, part):
        expected, state = layer(x[at : at + part], state)
        same &= torch.equal(output[at : at + part], expected)
    return same and torch.equal(last, state)


def rows_of_one_step() -> bool:
    """B x padded H: a batch is its parts."""
    batch = ELEMENTS // 16
    layer = recurra.Recurrent("rnn_tanh", 1, 1).requires_grad_(False)
    x = draw(1, batch, 1)
    output, _ = layer(x)
    return all(
        torch.equal(part, layer(rows)[0])
        for part, rows in zip(output.split(batch // 8 + 1, dim=1), x.split(batch // 8 + 1, dim=1), strict=True)
    )


def what_is_kept_for_the_way_back() -> bool:
    """N x padded H: gradients of a batch's rows are those of its parts, and of weights the sum of theirs."""
    batch = 2**17
    steps = ELEMENTS // 16 // batch
    layer = recurra.Recurrent("rnn_tanh", 1, 1)

    def result(x: Tensor) -> list[Tensor]:
        leaf = x.detach().requires_grad_()
        output, _ = layer(leaf)
        return [output.detach(), *torch.autograd.grad(output.sum(), [leaf, *layer.parameters()])]

    # Of one sign, for of terms that cancel float32 leaves nothing to compare.
    x = draw(steps, batch, 1).abs_()
    parts = [result(rows) for rows in x.split(batch // 4, dim=1)]
    whole = result(x)
    same = all(torch.equal(whole[i], torch.cat([part[i] for part in parts], dim=1)) for i in (0, 1))
    sums = [sum(part[i].double() for part in parts) for i in range(2, len(whole))]
    return same and all(
        torch.allclose(one.double(), total, rtol=1e-2) for one, total in zip(whole[2:], sums, strict=True)
    )


def main() -> None:
    failed = False
    for check in (states_of_all_steps, rows_of_one_step, what_is_kept_for_the_way_back):
        torch.manual_seed(0)
        with recurra.backend("cpu"):
            right = check()
        print(f"{str(check.__doc__).partition(':')[0]}: {'as its parts' if right else 'WRONG'}", flush=True)
        failed |= not right
    sys.exit(failed)


if __name__ == "__main__":
    main()
