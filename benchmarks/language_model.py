"""Training throughput and peak memory of the language model against a bare torch.nn loop of the same size.

    python benchmarks/language_model.py --data FILE [--cell lstm|gru] [--hidden 256] [--layers 2] [--batch 32]
                                        [--length 64] [--rounds 15] [--steps 10] [--vocabulary N]

The contestants alternate in one process, `steps` steps of each a round: recurra's own training loop with its batches
read from the memory-mapped stream, logging and guards included; and nn.Embedding, nn.LSTM, nn.Linear, AdamW on the same
tokens held in memory. Peak memory is that of a process of its own each. Prints medians and ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import busy_share, describe, peak_memory
from torch import nn

from recurra import registry
from recurra.data.text import expand_paths, read_text
from recurra.data.token_stream import TokenStream, prepare
from recurra.data.tokenizer import Tokenizer
from recurra.run.directory import Run
from recurra.systems.language_model.config import LanguageModelConfig
from recurra.systems.language_model.train import LanguageModelTask, prepare_task
from recurra.training.loop import Trainer
from recurra.training.processes import Processes


def config_of(options: argparse.Namespace, steps: int) -> LanguageModelConfig:
    return LanguageModelConfig.model_validate(
        {
            "data": {"train": [options.data]},
            "tokenizer": (
                {"kind": "bpe", "vocab_size": options.vocabulary} if options.vocabulary else {"kind": "character"}
            ),
            "model": {
                "cell": options.cell,
                "hidden_size": options.hidden,
                "num_layers": options.layers,
                "tied": False,
                "forget_bias": None,
            },
            "training": {
                "batch_size": options.batch,
                "sequence_length": options.length,
                "max_steps": steps,
                "max_epochs": None,
                "schedule": "constant",
                "evaluate_every": 10**9,
            },
            "logging": {"progress": False, "picture": False, "every_steps": 50},
        }
    )


class Bare:
    """What one writes without recurra."""

    def __init__(self, tokens: torch.Tensor, vocab_size: int, options: argparse.Namespace) -> None:
        size = options.hidden
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[options.cell]
        self.embedding = nn.Embedding(vocab_size, size)
        self.recurrent = layer(size, size, options.layers)
        self.linear = nn.Linear(size, vocab_size)
        self.parameters = [p for m in (self.embedding, self.recurrent, self.linear) for p in m.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=2e-3, fused=True)
        width = (len(tokens) - 1) // options.batch
        self.streams = tokens[: width * options.batch].view(options.batch, width).t().contiguous()
        self.length = options.length
        self.position = 0
        self.hx: Any = None

    def step(self) -> None:
        if self.position + self.length + 1 > len(self.streams):
            self.position, self.hx = 0, None
        window = self.streams[self.position : self.position + self.length + 1]
        self.position += self.length
        output, hx = self.recurrent(self.embedding(window[:-1]), self.hx)
        self.hx = tuple(state.detach() for state in hx) if isinstance(hx, tuple) else hx.detach()
        logits = self.linear(output)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


class Alternating:
    """A task that hands over to the other contestant after every `steps` batches."""

    def __init__(self, task: LanguageModelTask, bare: Bare | None, steps: int) -> None:
        self._task, self._bare, self._steps = task, bare, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task.batches if hasattr(self._task.batches, name) else self._task, name)

    @property
    def batches(self) -> Alternating:
        """Its own batches, so that it sees when each is asked for."""
        return self

    def epoch(self, number: int) -> Iterator[Any]:
        began = time.perf_counter()
        for count, batch in enumerate(self._task.batches.epoch(number), start=1):
            yield batch
            if count % self._steps == 0:
                self.ours.append(time.perf_counter() - began)
                if self._bare is not None:
                    began = time.perf_counter()
                    for _ in range(self._steps):
                        self._bare.step()
                    self.theirs.append(time.perf_counter() - began)
                began = time.perf_counter()


def run(options: argparse.Namespace, contestants: str) -> tuple[list[float], list[float]]:
    steps = options.steps * (options.rounds + 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        if contestants == "theirs":
            tokenizer = Tokenizer.train(read_text(expand_paths([options.data])), config_of(options, 1).tokenizer)
            stream = prepare(expand_paths([options.data]), tokenizer, folder / "tokens")
            bare = Bare(torch.tensor(stream.tokens.astype("int64")), tokenizer.vocab_size, options)
            for _ in range(steps):
                bare.step()
            return [], []
        config = config_of(options, steps)
        processes = Processes(config.training)
        opened = Run(folder, config, registry.find(config.task))
        task = prepare_task(opened, processes)
        bare = None
        if contestants == "both":
            tokens = torch.tensor(TokenStream.open(folder / "data" / "train").tokens.astype("int64"))
            bare = Bare(tokens, task.model.vocab_size, options)  # type: ignore[arg-type]
        alternating = Alternating(task, bare, options.steps)
        Trainer(alternating, opened, processes).run()  # type: ignore[arg-type]
        # The first round warms up.
        return alternating.ours[1:], alternating.theirs[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru"])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--vocabulary", type=int, default=0, help="subwords, so many; 0: characters")
    parser.add_argument("--memory-of", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        run(options, options.memory_of)
        print(round(peak_memory()))
        return
    print(describe())
    print(f"{options.cell} {options.layers} x {options.hidden}, batch {options.batch} x {options.length}")
    before = busy_share()
    ours, theirs = run(options, "both")
    after = busy_share()
    tokens = options.steps * options.batch * options.length
    ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
    print(f"recurra   {tokens / statistics.median(ours):10.0f} tokens/s (median of {len(ours)} rounds)")
    print(f"torch.nn  {tokens / statistics.median(theirs):10.0f} tokens/s")
    print(f"torch.nn's time over recurra's, median of the rounds' ratios: {ratio:.3f}")
    command = [sys.executable, *sys.argv, "--memory-of"]
    for name, contestant in (("recurra", "ours"), ("torch.nn", "theirs")):
        peak = subprocess.run([*command, contestant], check=True, capture_output=True, text=True).stdout.split()[-1]
        print(f"{name:9} peak memory of a process {peak} MiB")
    print(f"other load before {before:.0%}, after {after:.0%}")


if __name__ == "__main__":
    main()
