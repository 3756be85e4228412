"""Training throughput of a translation system against an equal model of torch.nn, and how fast it translates.

    python benchmarks/translation.py [--rounds 5] [--threads 2] [--bf16]
    python benchmarks/translation.py --forms [--rounds 5] [--threads 2]
    python benchmarks/translation.py --run runs/en-de --source val.en

Training: the configuration `configs/translation.yaml` and a bare torch.nn loop with as many weights, which starts from
the same weights and gives the same loss, take the same batches in turn. Forms: decoders of one layer that run all steps
at once against those that wait for each step's attention. Translating: sentences a second of a trained
run with beams of 1 and 5, one and 64 sentences side by side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from machine import busy_share, describe
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurra
from recurra.config.load import load_config
from recurra.data.token_batches import IGNORED, PairBatch
from recurra.layers.regularize import locked_mask
from recurra.systems.translation.network import EncoderDecoder

CONFIG = Path(__file__).parents[1] / "configs" / "translation.yaml"
VOCABULARY = 5000
ROWS, LENGTH = 128, 15


class Plain(nn.Module):
    """What one writes by hand: nn.GRU, packed sources, additive attention; the same sizes and dropouts."""

    def __init__(self, ours: EncoderDecoder) -> None:
        super().__init__()
        config = ours.config
        e, h = config.embedding_size, config.hidden_size
        self.config = config
        self.embedding = nn.Embedding(VOCABULARY, e)
        self.encoder = nn.GRU(e, h, bidirectional=True)
        self.first = nn.GRU(e, h)
        self.second = nn.GRU(3 * h, h)
        self.bridge = nn.ModuleList([nn.Linear(2 * h, h) for _ in range(2)])
        self.query, self.key, self.energy = (
            nn.Linear(h, h),
            nn.Linear(2 * h, h, bias=False),
            nn.Linear(h, 1, bias=False),
        )
        self.readout = nn.Linear(3 * h + e, e)
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))
        names = {
            "target_embedding": "embedding", "encoder.recurrent": "encoder", "decoder.recurrent": "first",
            "decoder.upper": "second", "decoder.bridge.maps": "bridge", "decoder.attention.query": "query",
            "decoder.attention.key": "key", "decoder.readout": "readout",
        }  # fmt: skip
        state = {"bias": ours.output_bias, "energy.weight": ours.decoder.attention.energy.unsqueeze(0)}  # type: ignore[union-attr]
        for name, value in ours.named_parameters():
            for long, short in names.items():
                if name.startswith(long + "."):
                    state[short + name[len(long) :]] = value
        self.load_state_dict({name: value.detach().clone() for name, value in state.items()})

    def drop(self, value: Tensor, rate: float) -> Tensor:
        return value * locked_mask(value, rate, (1, *value.shape[1:])) if self.training and rate else value

    def forward(self, source: Tensor, lengths: Tensor, before: Tensor) -> Tensor:
        config = self.config
        scale = config.embedding_size**0.5
        words = self.drop(self.embedding(source) * scale, config.input_dropout)
        packed, final = self.encoder(pack_padded_sequence(words, lengths, enforce_sorted=False))
        annotations = self.drop(pad_packed_sequence(packed)[0], config.annotation_dropout)
        last = torch.cat(tuple(final), dim=-1)
        starts = [torch.tanh(each(last)).unsqueeze(0) for each in self.bridge]
        target = self.drop(self.embedding(before) * scale, config.input_dropout)
        low, _ = self.first(target, starts[0])
        energies = torch.tanh(self.query(low).unsqueeze(1) + self.key(annotations).unsqueeze(0))
        scores = self.energy(energies).squeeze(-1)
        outside = torch.arange(len(source)).unsqueeze(1) >= lengths
        weights = scores.masked_fill(outside, -torch.inf).softmax(dim=1)
        context = torch.einsum("tsb,sbm->tbm", weights, annotations)
        top, _ = self.second(torch.cat([self.drop(low, config.dropout), context], dim=-1), starts[1])
        read = torch.tanh(self.readout(torch.cat([top, context, target], dim=-1)))
        return F.linear(self.drop(read, config.output_dropout), self.embedding.weight, self.bias)


def batch(seed: int) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(LENGTH - 3, LENGTH + 1, (ROWS,), generator=generator)
    lengths[0] = LENGTH
    tokens = [torch.randint(0, VOCABULARY, (LENGTH, ROWS), generator=generator) for _ in range(3)]
    return PairBatch(tokens[0], lengths, tokens[1], tokens[2], tokens[2].numel())


def loss_of(model: EncoderDecoder, each: PairBatch, smoothing: float) -> Tensor:
    return model(each.source, each.lengths, each.before, each.target, smoothing).objective


def stepper(model: nn.Module, loss: Callable[[PairBatch], Tensor], bf16: bool = False) -> Callable[[PairBatch], None]:
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, fused=True)

    def step(each: PairBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(each)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def in_turn(steps: dict[str, Callable[[PairBatch], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each, in each round, all taking the same batches."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            for seed in range(4):
                step(batch(seed))
            if number:
                times[name].append((time.perf_counter() - began) / 4)
    for name, seconds in times.items():
        print(f"{name:<20} {ROWS * LENGTH / statistics.median(seconds):8,.0f} target tokens/s")
    return times


FORMS: dict[str, dict[str, object]] = {
    "luong": {"decoder": "luong"},
    "luong, input feeding": {"decoder": "luong", "input_feeding": True},
    "bahdanau": {"decoder": "bahdanau"},
    "conditional": {"decoder": "conditional"},
    "fixed context": {"attention": "none"},
}


def forms(rounds: int) -> None:
    config = load_config(CONFIG)
    steps = {}
    for name, options in FORMS.items():
        section = type(config.model).model_validate(config.model.model_dump() | {"decoder_layers": 1} | options)
        model = EncoderDecoder(VOCABULARY, VOCABULARY, section)
        steps[name] = stepper(model, partial(loss_of, model, smoothing=config.training.label_smoothing))
    in_turn(steps, rounds)


def training(rounds: int, bf16: bool) -> None:
    config = load_config(CONFIG)
    torch.manual_seed(0)
    ours = EncoderDecoder(VOCABULARY, VOCABULARY, config.model)
    plain = Plain(ours)
    one = batch(0)
    with torch.no_grad():
        arguments = (one.source, one.lengths, one.before)
        torch.testing.assert_close(ours.eval()(*arguments).logits, plain.eval()(*arguments), rtol=1e-4, atol=1e-4)
    smoothing = config.training.label_smoothing

    def plain_loss(each: PairBatch) -> Tensor:
        logits = plain(each.source, each.lengths, each.before).flatten(0, 1)
        return F.cross_entropy(logits.float(), each.target.flatten(), label_smoothing=smoothing, ignore_index=IGNORED)

    steps = {
        "recurra": stepper(ours, partial(loss_of, ours, smoothing=smoothing), bf16),
        "torch.nn": stepper(plain, plain_loss, bf16),
    }
    times = in_turn(steps, rounds)
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    print(f"torch.nn's time over recurra's: {statistics.median(ratios):.2f} (median of {rounds} rounds)")


def translating(run: Path, source: Path) -> None:
    lines = source.read_text(encoding="utf-8").splitlines()
    translator = recurra.load(run, device="cpu")
    print("beam  side by side  sentences/s")
    for beam in (1, 5):
        for size in (1, 64):
            chosen = lines[: 32 if size == 1 else 512]
            translator.translate(chosen[:size], beam=beam, batch_size=size)
            began = time.perf_counter()
            translator.translate(chosen, beam=beam, batch_size=size)
            print(f"{beam:4}  {size:12}  {len(chosen) / (time.perf_counter() - began):11.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bf16", action="store_true", help="train both under autocast to bfloat16")
    parser.add_argument("--forms", action="store_true", help="decoders against one another")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(describe())
    print(f"other load before: {busy_share():.0%}")
    if options.forms:
        forms(options.rounds)
    elif options.run:
        translating(options.run, options.source)
    else:
        training(options.rounds, options.bf16)
    print(f"other load after: {busy_share():.0%}")


if __name__ == "__main__":
    main()
