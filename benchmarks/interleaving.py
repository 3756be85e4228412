"""Layers and torch's own operations in turn, on one pool of threads and on two.

    python benchmarks/interleaving.py [--shapes 1,100,128 ...] [--rounds 9] [--threads 2] [--other LIBRARY]

A turn is a layer's inference and a linear map of its output, as in most models. "One pool" is how recurra runs: the
engine's threads are those of torch. "Two pools" gives the engine another OpenMP library, as if it were linked to its
own: the threads of each pool go on spinning for a while after their work, and hold up those of the other. Both
alternate in one process. Prints the medians of one turn, and of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from machine import busy_share, describe
from torch import nn

import recurra
from recurra.kernels.cpu.compiled import engine, instruction_set, openmp_functions


def another_openmp() -> str:
    """The copy of GCC's OpenMP library that comes with sentencepiece's wheel."""
    spec = find_spec("sentencepiece")
    folder = Path(str(spec and spec.origin)).parents[1] / "sentencepiece.libs"
    for library in folder.glob("libgomp*"):
        return str(library)
    raise SystemExit(f"{folder} has no libgomp: name another OpenMP library than torch's with --other.")


def turns(layer: nn.Module, linear: nn.Module, x: torch.Tensor, seconds: float) -> float:
    """The median seconds of a turn, of as many as come in a time."""
    times = []
    end = time.perf_counter() + seconds
    with torch.no_grad():
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            linear(layer(x)[0])
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["1,100,128", "16,64,256", "32,128,512"], help="B,T,H")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--other", help="an OpenMP library that torch does not use (default: that of sentencepiece)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = engine()
    if module is None:
        raise SystemExit("this installation has no engine to measure")
    pools = [openmp_functions(torch._C.__file__), openmp_functions(options.other or another_openmp())]
    if None in pools or pools[0] == pools[1]:
        raise SystemExit("two OpenMP libraries are needed, torch's and another")
    before = busy_share()
    print(f"{describe()}; instruction set {instruction_set()}; {module.__file__}")
    print("| B,T,H | one pool, ms | two pools, ms | ratio |")
    print("|---|---|---|---|")
    for shape in options.shapes:
        batch, steps, size = (int(number) for number in shape.split(","))
        torch.manual_seed(0)
        layer, linear = recurra.Recurrent("lstm", size, size), nn.Linear(size, size)
        x = torch.randn(steps, batch, size)
        times = []
        for round_ in range(options.rounds + 1):
            pair = []
            for functions in pools:
                module.use_openmp(*functions)
                pair.append(turns(layer, linear, x, 0.2))
            # The first round starts the threads.
            if round_:
                times.append(pair)
        one, two = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(two / one for one, two in times)
        print(f"| {shape} | {one:.2f} | {two:.2f} | {ratio:.2f} |", flush=True)
    print(f"other load before {before:.0%}, after {busy_share():.0%}")


if __name__ == "__main__":
    main()
