"""One layer against torch.nn's: time of inference and of a training step, and what the machine could do at most.

    python benchmarks/layers.py [--cells lstm gru rnn_tanh] [--shapes 1,100,128 ...] [--rounds 9] [--threads 2]
                                [--against recurra] [--bfloat16] [--resets 0.01]

Contestants alternate in one process. Shapes are B,T,H with as many inputs as units. A training step is a forward that
records and the gradients of input and parameters. Cells that torch.nn lacks are timed against the built-in of as many
products (LSTM, GRU or RNN). With `--against recurra` the rival is recurra's own LSTM, GRU or RNN instead, its time
scaled to the cell's number of products: what the equations of a cell cost beside its products. With `--bfloat16` both
compute in it, but recurra as a rival of itself in float32. With `--resets` the rival is the same layer without them:
what it costs that so great a share of all steps begins anew. Prints medians, the median of the rounds' ratios (the
rival's over recurra's), and recurra's share of the multiply-add peak measured on the same threads; before them that
peak, and how fast the threads read memory, which bounds a few rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from machine import busy_share, describe
from torch import nn

import recurra
from recurra.kernels.cpu.compiled import compiled, engine, instruction_set

SHAPES = ["1,100,128", "1,100,512", "16,64,256", "32,128,512", "64,35,650", "64,128,1024"]
# In the first, the second and the third cache of most machines.
MEMORY = [16, 512, 8192]
# The built-in with as many products a step.
BUILT_IN = {4: nn.LSTM, 3: nn.GRU, 1: nn.RNN}


def rival_of(cell: recurra.Cell) -> Callable[..., nn.Module]:
    count = len(cell.gates)
    return BUILT_IN.get(count, nn.LSTM)


def products_of(layer: recurra.Recurrent) -> int:
    the_cell = compiled(layer.cell)
    assert the_cell is not None
    return len(the_cell.plan.products)


def own_rival(cell: recurra.Cell, size: int) -> recurra.Recurrent:
    name = {4: "lstm", 3: "gru", 1: "rnn_tanh"}.get(len(cell.gates), "gru")
    return recurra.Recurrent(name, size, size)


def timed(work: Callable[[], Any], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats


def inference(layer: nn.Module, x: torch.Tensor, **options: Any) -> Callable[[], Any]:
    def work() -> None:
        with torch.no_grad():
            layer(x, **options)

    return work


def training(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, **options: Any) -> Callable[[], Any]:
    leaves = [x.clone().requires_grad_(), *layer.parameters()]

    def work() -> None:
        output, _ = layer(leaves[0], **options)
        torch.autograd.grad(output, leaves, gradient)

    return work


def compare(name: str, shape: tuple[int, int, int], options: argparse.Namespace, peak: float) -> None:
    batch, steps, size = shape
    torch.manual_seed(0)
    ours = recurra.Recurrent(name, size, size)
    products = products_of(ours)
    within = options.against == "recurra"
    theirs = own_rival(ours.cell, size) if within else rival_of(ours.cell)(size, size)
    resets: dict[str, torch.Tensor] = {}
    if options.resets is not None:
        theirs, resets = ours, {"resets": torch.rand(steps, batch) < options.resets}
    # The rival's products are as many, or its time is taken for as many.
    scaled = products / products_of(theirs) if isinstance(theirs, recurra.Recurrent) else 1.0
    x, gradient = torch.randn(steps, batch, size), torch.randn(steps, batch, size)
    flops = 2.0 * batch * steps * size * size * products
    sides: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = [(theirs, x, gradient), (ours, x, gradient)]
    if options.bfloat16:
        for side in (1,) if within else (0, 1):
            layer = sides[side][0].to(torch.bfloat16)
            sides[side] = (layer, x.bfloat16(), gradient.bfloat16())
    for kind, scale in (("inference", 1), ("training", 3)):
        if kind == "inference":
            contestants = [
                inference(layer, x, **given) for (layer, x, _), given in zip(sides, ({}, resets), strict=True)
            ]
        else:
            contestants = [training(*side, **given) for side, given in zip(sides, ({}, resets), strict=True)]
        for work in contestants:
            timed(work, 2)
        repeats = max(1, int(0.05 / timed(contestants[1], 1)))
        times = [[timed(work, repeats) for work in contestants] for _ in range(options.rounds)]
        times = [[scaled * theirs, ours] for theirs, ours in times]
        torch_ms, our_ms = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(theirs / ours for theirs, ours in times)
        share = scale * flops / (our_ms / 1e3) / 1e9 / peak
        print(
            f"| {name} | {batch},{steps},{size} | {kind} | {torch_ms:.2f} | {our_ms:.2f} | {ratio:.2f} | {share:.0%} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "rnn_tanh"], choices=recurra.cells.names())
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="B,T,H")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--against", choices=["torch", "recurra"], default="torch")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--resets", type=float, help="the share of all steps that begin anew")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module, isa = engine(), instruction_set()
    if module is None:
        raise SystemExit("this installation has no engine to measure")
    before = busy_share()
    peak = module.peak(isa) * options.threads
    print(describe())
    print(f"instruction set {isa}; multiply-add peak of {options.threads} threads {peak:.0f} GFLOP/s in float32")
    speeds = [f"{kilobytes} KiB {module.reading(isa, 1024 * kilobytes, options.threads):.0f}" for kilobytes in MEMORY]
    print(f"reading again and again, each of {options.threads} threads its own: {', '.join(speeds)} GB/s in all")
    rival = options.against if options.resets is None else "without resets"
    print(f"| cell | B,T,H | | {rival}, ms | recurra, ms | ratio | of the peak |")
    print("|---|---|---|---|---|---|---|")
    for name in options.cells:
        for shape in options.shapes:
            batch, steps, size = (int(number) for number in shape.split(","))
            compare(name, (batch, steps, size), options, peak)
    print(f"other load before {before:.0%}, after {busy_share():.0%}")


if __name__ == "__main__":
    main()
