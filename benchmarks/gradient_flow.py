"""What it costs to read |dL/dh| and |dL/dc| of every step, against a training step and a backward pass of the layer.

    python benchmarks/gradient_flow.py [--cells lstm gru] [--shapes 16,200,256 ...] [--rounds 7] [--threads 1]

Contestants alternate in one process. Shapes are B,T,H with as many inputs as units, in float32. "reading" is
`recurra.analysis.flow.gradient_flow` whole: a forward pass that keeps every step's states, one backward pass to them,
and the norms. "backward" is the gradient of input and parameters alone, from what a forward pass on the layer's own
backend has kept; "training" is that forward pass and the gradient. Prints medians, and the median of the rounds'
ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from machine import busy_share, describe

import recurra
from recurra.analysis.flow import gradient_flow
from recurra.analysis.layer_steps import steps_of

SHAPES = ["16,200,256", "16,1000,256"]


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(cell: str, shape: tuple[int, int, int], rounds: int) -> None:
    batch, length, units = shape
    torch.manual_seed(0)
    layer = recurra.Recurrent(cell, units, units)
    x, gradient = torch.randn(length, batch, units), torch.randn(length, batch, units)
    leaves = [x.clone().requires_grad_(), *layer.parameters()]
    steps = steps_of(layer, x, dtype=torch.float32)
    kept, _ = layer(leaves[0])

    def training() -> None:
        torch.autograd.grad(layer(leaves[0])[0], leaves, gradient)

    def backward() -> None:
        torch.autograd.grad(kept, leaves, gradient, retain_graph=True)

    def reading() -> None:
        # A copy has not taken the input's products yet.
        gradient_flow(replace(steps))

    contestants = [training, backward, reading]
    for work in contestants:
        work()
    times = [[timed(work) for work in contestants] for _ in range(rounds)]
    training_ms, backward_ms, reading_ms = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    of_training = statistics.median(reading / step for step, _, reading in times)
    of_backward = statistics.median(reading / alone for _, alone, reading in times)
    print(
        f"| {cell} | {batch},{length},{units} | {training_ms:.0f} | {backward_ms:.0f} | {reading_ms:.0f} | "
        f"{of_training:.2f} | {of_backward:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"], choices=recurra.cells.names())
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="B,T,H")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = busy_share()
    print(describe())
    print("| cell | B,T,H | training, ms | backward, ms | reading, ms | of training | of backward |")
    print("|---|---|---|---|---|---|---|")
    for cell in options.cells:
        for shape in options.shapes:
            batch, length, units = (int(number) for number in shape.split(","))
            compare(cell, (batch, length, units), options.rounds)
    print(f"other load before {before:.0%}, after {busy_share():.0%}")


if __name__ == "__main__":
    main()
