"""Speed of the recognisers' searches: python benchmarks/recognition.py

Utterances of made-up log-probabilities, as a trained network gives them: most frames are blanks, a label is likely for
one to three frames, and one in ten labels has a rival. Of each search the utterances a second and the milliseconds for
100 frames are printed, the median of rounds in which the contestants alternate. The time is that of this process on a
processor, so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from machine import busy_share, describe

from recurra.decoding.ctc import CTCOptions, ctc_beam_search, ctc_greedy
from recurra.decoding.ctc_alignment import ctc_align, ctc_log_likelihood
from recurra.decoding.hotwords import Hotwords
from recurra.decoding.language_model_scorer import LanguageModelScorer
from recurra.decoding.transducer import TransducerOptions, transducer_beam_search, transducer_greedy


def utterance(seed: int, frames: int, labels: int) -> torch.Tensor:
    """Log-probabilities (T, V) with about a label every six frames."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((frames, labels)) - 2.0
    logits[:, 0] += 8.0
    place = 0
    while True:
        place += int(random.integers(3, 10))
        size = int(random.integers(1, 4))
        if place + size > frames:
            return torch.from_numpy(logits).log_softmax(-1)
        label, rival = random.integers(1, labels, 2)
        logits[place : place + size, label] += 10.0
        if random.random() < 0.1:
            logits[place : place + size, rival] += 9.5
        place += size


class Network:
    """A language model of one LSTM layer, and a transducer whose predictor it is."""

    def __init__(self, labels: int, hidden: int, frame: int) -> None:
        torch.manual_seed(1)
        self.labels, self.blank = labels, 0
        self.embedding = torch.nn.Embedding(labels, hidden)
        self.cell = torch.nn.LSTM(hidden, hidden)
        self.output = torch.nn.Linear(hidden, labels)
        self.encoder = torch.nn.Linear(frame, hidden)

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        output, state = self.cell(self.embedding(tokens).unsqueeze(0), state)
        return output[0], state


class LanguageModel(Network):
    def begin(self, tokens: Any = ()) -> tuple[torch.Tensor, Any]:
        log_probabilities, state = self.advance(torch.tensor([0]), None)
        return log_probabilities[0], state

    def advance(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        output, state = self.read(tokens, state)
        return self.output(output).log_softmax(-1).double(), state


class MadeUpTransducer(Network):
    """Its frames are log-probabilities, and its joint leaves out the label that was written last."""

    def begin(self) -> tuple[torch.Tensor, Any]:
        return self.advance(torch.tensor([0]), None)

    def advance(self, labels: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        output, state = self.read(labels, state)
        last = torch.nn.functional.one_hot(labels, self.labels).float()
        last[:, 0] = 0.0
        return torch.cat([output, last], 1), state

    def joint(self, frame: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.encoder(frame) + rows[:, : -self.labels])
        return (frame + self.output(hidden) - 20.0 * rows[:, -self.labels :]).log_softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=5, help="how many (5)")
    parser.add_argument("--frames", type=int, default=300, help="of each (300)")
    parser.add_argument("--labels", type=int, default=40, help="the blank included (40)")
    parser.add_argument("--rounds", type=int, default=3, help="of all contestants in turn (3)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    labels = arguments.labels
    utterances = [utterance(seed, arguments.frames, labels) for seed in range(arguments.utterances)]
    spoken = [ctc_greedy(frames).labels for frames in utterances]
    narrow = [frames.float() for frames in utterances]
    model = LanguageModel(labels, 256, labels)
    transducer = MadeUpTransducer(labels, 256, labels)
    fused = [LanguageModelScorer(model, range(labels), 0.3)]
    hot = [Hotwords([(each[:5], 2.0) for each in spoken], labels)]
    each = zip(utterances, spoken, strict=True)
    pairs = list(each)
    contestants: dict[str, Callable[[], Any]] = {
        "CTC, greedy": lambda: [ctc_greedy(frames) for frames in utterances],
        "CTC, alignment": lambda: [ctc_align(frames, right) for frames, right in pairs],
        "CTC, likelihood": lambda: [ctc_log_likelihood(frames, right) for frames, right in pairs],
        **{f"CTC, beam {k}": lambda k=k: ctc_beam_search(utterances, CTCOptions(beam=k)) for k in (1, 8, 32)},
        "CTC, beam 8, all labels": lambda: ctc_beam_search(utterances, CTCOptions(least_probability=0.0)),
        "CTC, beam 32, all labels": lambda: ctc_beam_search(utterances, CTCOptions(beam=32, least_probability=0.0)),
        "CTC, beam 8, hotwords": lambda: ctc_beam_search(utterances, None, hot),
        "CTC, beam 8, language model": lambda: ctc_beam_search(utterances, None, fused),
        "transducer, greedy": lambda: [transducer_greedy(transducer, frames) for frames in narrow],
        **{
            f"transducer, beam {k}": lambda k=k: transducer_beam_search(transducer, narrow, TransducerOptions(beam=k))
            for k in (1, 4, 8)
        },
    }
    print(describe())
    print(f"{len(utterances)} utterances, {arguments.frames} frames, {labels} labels; other load {busy_share():.0%}")
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, run in contestants.items():
            start = time.process_time()
            with torch.inference_mode():
                run()
            seconds[name].append((time.process_time() - start) / len(utterances))
    print(f"{'':28} {'utterances/s':>12} {'ms for 100 frames':>18}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:28} {1 / median:12.1f} {1e5 * median / arguments.frames:18.1f}")
    print(f"other load {busy_share():.0%}")


if __name__ == "__main__":
    main()
