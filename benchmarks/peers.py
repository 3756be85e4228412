"""Inference and streaming against ONNX Runtime, OpenVINO and JAX: recurra's time, theirs, and the ratios.

    python benchmarks/peers.py [--cells lstm gru rnn_tanh] [--shapes 1,100,128 ...] [--stream-sizes 128 512]
        [--peers onnxruntime openvino jax] [--rounds 9] [--threads 2]

The peers come with `pip install '.[benchmark]'`. One layer, one direction, float32, with as many inputs as units;
shapes are B,T,H. Inference is a call over whole sequences. Streaming is one step of one row, the state carried along,
as it is called from Python: `layer.stream(1)`, a bound ONNX Runtime session or OpenVINO request, a jitted function.

All have the same weights, and each output is checked against torch.nn's before anything is timed. Each contestant has a
process of its own with its own threads, and they take turns: one computes, the others sleep, and a turn ends only when
no thread spins any more. Prints medians, the median of the rounds' ratios (theirs over recurra's), and the settings by
which a peer was fastest.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from contestants import CONTESTANTS, Case, rest
from machine import busy_share, describe
from torch import nn

SHAPES = ["1,100,128", "1,100,512", "16,64,256", "32,128,512", "64,35,650", "64,128,1024"]
BUILT_IN = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}
PEERS = {"onnxruntime": ["onnx", "onnxruntime"], "openvino": ["onnx", "openvino"], "jax": ["jax"]}
STREAMED_STEPS = 100


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, name: str, threads: int) -> None:
        here, there = socket.socketpair()
        code = "import sys, contestants as c; c.serve(sys.argv[1], int(sys.argv[2]), c.Connection(int(sys.argv[3])))"
        arguments = [name, str(threads), str(there.fileno())]
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=environment(threads), pass_fds=[there.fileno()]
        )
        there.close()
        self._connection = Connection(here.detach())

    def ask(self, message: Any) -> Any:
        """Its answer, for which it must have finished its work.

        Raises:
            SystemExit: if it failed; it has printed why.
        """
        try:
            self._connection.send(message)
            return self._connection.recv()
        except (EOFError, OSError):
            raise SystemExit(f"{self._name} failed") from None

    def close(self) -> None:
        self._connection.close()
        self._process.wait()


def environment(threads: int) -> dict[str, str]:
    """What tells the libraries of their threads before they are imported."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "PJRT_NPROC": str(threads)}
    settings["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {**os.environ, **settings}


def make_case(cell: str, shape: tuple[int, int, int], streaming: bool) -> Case:
    batch, steps, size = shape
    torch.manual_seed(0)
    layer = BUILT_IN[cell](size, size)
    x = torch.randn(steps, batch, size)
    with torch.no_grad():
        expected = layer(x)[0].numpy()
    weights = {name: weight.detach().numpy() for name, weight in layer.named_parameters()}
    rest()
    return Case(cell, streaming, weights, x.numpy(), expected)


def compare(workers: dict[str, Worker], case: Case, rounds: int, scale: float) -> str:
    """The rest of a table's row; times are multiplied by `scale`."""
    settings = {name: worker.ask(tuple(case)) for name, worker in workers.items()}
    times = [[worker.ask(None) for worker in workers.values()] for _ in range(rounds)]
    medians = [scale * statistics.median(column) for column in zip(*times, strict=True)]
    ratios = [statistics.median(row[index] / row[0] for row in times) for index in range(len(workers))]
    figures = [f"{medians[0]:.2f}"]
    for median, ratio in zip(medians[1:], ratios[1:], strict=True):
        figures += [f"{median:.2f}", f"{ratio:.2f}"]
    chosen = ", ".join(f"{name} {setting}" for name, setting in settings.items() if setting)
    return " | ".join([*figures, chosen])


def print_head(label: str, workers: dict[str, Worker], unit: str) -> None:
    ours, *theirs = workers
    columns = ["cell", label, f"{ours}, {unit}"]
    for name in theirs:
        columns += [f"{name}, {unit}", "ratio"]
    print(f"\n| {' | '.join([*columns, 'settings'])} |")
    print("|---" * (len(columns) + 1) + "|")


def check_installed(peers: list[str]) -> dict[str, str]:
    """Versions of all packages that these peers need.

    Raises:
        SystemExit: if one is missing.
    """
    packages = sorted({package for peer in peers for package in PEERS[peer]})
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} missing: pip install '.[benchmark]', or leave peers out by --peers")
    return {package: version(package) for package in packages}


def run(workers: dict[str, Worker], options: argparse.Namespace) -> None:
    for streaming, sizes in ((False, options.shapes), (True, options.stream_sizes)):
        if not sizes:
            continue
        print_head("H, one step" if streaming else "B,T,H", workers, "us" if streaming else "ms")
        for cell in options.cells:
            for text in sizes:
                numbers = [1, STREAMED_STEPS, text] if streaming else [int(number) for number in text.split(",")]
                batch, steps, size = numbers
                case = make_case(cell, (batch, steps, size), streaming)
                row = compare(workers, case, options.rounds, 1e6 if streaming else 1e3)
                print(f"| {cell} | {text} | {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(BUILT_IN), choices=list(BUILT_IN))
    parser.add_argument("--shapes", nargs="*", default=SHAPES, help="B,T,H of inference; none leaves it out")
    parser.add_argument("--stream-sizes", nargs="*", type=int, default=[128, 512], help="H; none leaves streaming out")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    versions = check_installed(options.peers)
    before = busy_share()
    print(describe())
    print(", ".join(f"{package} {number}" for package, number in versions.items()))
    names = ["recurra", *(name for name in CONTESTANTS if name in options.peers)]
    workers = {name: Worker(name, options.threads) for name in names}
    try:
        run(workers, options)
    finally:
        for worker in workers.values():
            worker.close()
    print(f"\nother load before {before:.0%}, after {busy_share():.0%}")


if __name__ == "__main__":
    main()
