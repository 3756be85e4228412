"""Memory and time of the transducer loss: python benchmarks/transducer.py

One step forth and back with all logits in memory, and one by chunks, each in a process of its own. Of each the peak of
resident memory, how much of that torch and the inputs take alone, and the processor's seconds are printed; and the
seconds that the sum over alignments takes of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch
from machine import busy_share, describe, peak_memory

from recurra.models.transducer_lattice import alignments_log_probability
from recurra.models.transducer_loss import transducer_loss

WAYS = ("inputs", "all logits", "by chunks", "alignments")


def all_logits(
    encoded: torch.Tensor,
    predicted: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    frames: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    hidden = torch.tanh(encoded.unsqueeze(2) + predicted.unsqueeze(1))
    points = torch.nn.functional.linear(hidden, weight, bias).log_softmax(-1)
    steps = encoded.shape[1]
    following = points[:, :, :-1].gather(3, targets[:, None, :, None].expand(-1, steps, -1, 1)).squeeze(3)
    losses = -alignments_log_probability(points[..., 0], following, frames, labels)
    return (losses / labels).mean()


def step(way: str, sizes: argparse.Namespace) -> None:
    """One step in this process; prints its numbers as JSON."""
    torch.set_num_threads(sizes.threads)
    torch.manual_seed(1)
    rows, steps, count, width = sizes.rows, sizes.frames, sizes.labels, sizes.width
    shapes = (rows, steps, width), (rows, count + 1, width), (sizes.vocabulary, width), (sizes.vocabulary,)
    parts = [torch.randn(shape).mul_(0.3).requires_grad_() for shape in shapes]
    targets = torch.randint(1, sizes.vocabulary, (rows, count))
    lengths = torch.full((rows,), steps), torch.full((rows,), count)
    start, loss = time.process_time(), torch.zeros(())
    if way == "alignments":
        points = [-torch.rand(rows, steps, each, requires_grad=True) for each in (count + 1, count)]
        loss = -alignments_log_probability(points[0], points[1], *lengths).sum()
    elif way != "inputs":
        loss = {"all logits": all_logits, "by chunks": transducer_loss}[way](*parts, targets, *lengths)
    if way != "inputs":
        loss.backward()
    seconds = time.process_time() - start
    found = float(loss.detach()), [float(part.grad.double().norm()) for part in parts if part.grad is not None]
    print(json.dumps({"seconds": seconds, "peak": peak_memory(), "found": found}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16, help="B (16)")
    parser.add_argument("--frames", type=int, default=500, help="T (500)")
    parser.add_argument("--labels", type=int, default=50, help="U (50)")
    parser.add_argument("--vocabulary", type=int, default=500, help="V (500)")
    parser.add_argument("--width", type=int, default=256, help="J (256)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        step(arguments.way, arguments)
        return
    print(describe())
    print(f"other load {busy_share():.0%}")
    print(f"{'':12} {'peak, MiB':>10} {'seconds':>9}   loss, norms of gradients", flush=True)
    for way in WAYS:
        said = subprocess.run([sys.executable, *sys.argv, "--way", way], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(said.stdout.splitlines()[-1])
        loss, norms = found["found"]
        values = (
            "" if way in ("inputs", "alignments") else f"   {loss:.6f}, {' '.join(f'{each:.5g}' for each in norms)}"
        )
        print(f"{way:12} {found['peak']:10.0f} {found['seconds']:9.2f}{values}", flush=True)


if __name__ == "__main__":
    main()
