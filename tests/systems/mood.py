"""A text classifier in one file, as a package from outside brings it: lines of `label TAB text`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra import Recurrent
from recurra.config.sections import RunConfig, Section, TokenizerConfig, TrainingConfig
from recurra.data.length_batches import LengthBatches
from recurra.data.tokenizer import Tokenizer
from recurra.registry import Measure, Option, System, Verb
from recurra.run.device import find_device
from recurra.run.directory import Run
from recurra.run.own_cell import model_settings
from recurra.run.saving import Savable
from recurra.run.weights import load_weights
from recurra.systems.output import Output, Pairs, Record
from recurra.systems.predictor import Predictor
from recurra.training.processes import Processes
from recurra.training.randomness import seed_everything
from recurra.training.task import Evaluation, Loss

DATA = Option("--data", "Lines of label, tab and text (required).", metavar="FILE", key="data.train")
SYSTEM = System(
    name="mood", summary="labels of texts", schema="mood:Config", prepare="mood:prepare", predictor="mood:Moods",
    build="mood:Network", network="mood:network", describe="mood:describe", options=(DATA,),
    verbs=(
        Verb("evaluate", "mood:evaluate", "How many labels are right.", options=(DATA,)),
        Verb("classify", "mood:classify", "The label of each line of standard input.", lines=True),
    ),
    measures=(
        Measure("loss", "loss", unit="nats per text", best="lowest"),
        Measure("accuracy", "accuracy", "{:.1%}", "", "highest", "{:.1%} right"),
    ),
    unit="texts", files=(("tokenizer.json", "labels.json"),), pipeline="text-classification",
    example='model.classify(["a fine day"])',
)  # fmt: skip


class Data(Section):
    train: str | None = None


class Model(Section):
    cell: str = "gru"
    hidden_size: int = 16


class Config(RunConfig):
    task: Literal["mood"] = "mood"
    data: Data = Data()
    tokenizer: TokenizerConfig = TokenizerConfig(kind="word")
    model: Model = Model()
    training: TrainingConfig = TrainingConfig(max_epochs=4, select_by="accuracy")


def describe(config: Config) -> dict[str, str]:
    units = f"{config.model.hidden_size} units"
    return {"network": units, "data": str(config.data.train), "model": f"A classifier of texts with {units}."}


class Network(nn.Module):
    def __init__(self, settings: Model, tokens: int, labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, settings.hidden_size)
        self.recurrent = Recurrent(settings.cell, settings.hidden_size, settings.hidden_size)
        self.output = nn.Linear(settings.hidden_size, labels)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(ids), lengths=lengths)
        return self.output(states.sum(0) / lengths.to(states)[:, None])


class Batch(NamedTuple):
    ids: Tensor
    lengths: Tensor
    labels: Tensor
    rate_scale: float = 1.0

    @property
    def weight(self) -> int:
        return len(self.labels)

    units = weight

    def to(self, device: torch.device) -> Batch:
        return self._replace(ids=self.ids.to(device), labels=self.labels.to(device))


def read(path: str) -> list[tuple[str, str]]:
    return [tuple(line.split("\t")) for line in Path(path).read_text(encoding="utf-8").splitlines()]  # type: ignore[misc]


def batch(tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int]) -> Batch:
    rows = [torch.tensor([*tokenizer.encode(text).tolist(), tokenizer.eos_id]) for text in texts]
    return Batch(nn.utils.rnn.pad_sequence(rows), torch.tensor([len(row) for row in rows]), torch.tensor(labels))


class Task(NamedTuple):
    model: nn.Module
    batches: LengthBatches[Batch]
    held: Batch
    header: Mapping[str, str] = {}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        nats = F.cross_entropy(model(batch.ids, batch.lengths), batch.labels)
        return Loss(nats, nats.detach())

    def evaluate(self) -> Evaluation:
        logits = self.model(self.held.ids, self.held.lengths)
        right = (logits.argmax(-1) == self.held.labels).double().mean()
        return Evaluation(float(F.cross_entropy(logits, self.held.labels)), {"accuracy": float(right)})

    def measures(self, loss: float) -> Mapping[str, float]:
        return {}

    carried = dict

    def carry(self, state: dict[str, Any]) -> None: ...


def prepare(run: Run, processes: Processes) -> Task:
    pairs = read(run.config.data.train)
    labels = sorted({label for label, _ in pairs})
    tokenizer = Tokenizer.train([f"{text}\n" for _, text in pairs], run.config.tokenizer)
    tokenizer.save(run.path / "tokenizer.json")
    (run.path / "labels.json").write_text(json.dumps(labels))
    held, rest = pairs[::5], [pair for number, pair in enumerate(pairs) if number % 5]

    def batch_of(chosen: Any) -> Batch:
        found = [(rest if chosen is not None else held)[i] for i in (range(len(held)) if chosen is None else chosen)]
        return batch(tokenizer, [text for _, text in found], [labels.index(label) for label, _ in found])

    lengths = np.array([len(tokenizer.encode(text)) + 1 for _, text in rest])
    seed_everything(run.config.training.seed)
    return Task(network(run), LengthBatches(lengths, batch_of, 64, seed=run.config.training.seed), batch_of(None))


def network(run: Run) -> Network:
    tokenizer, labels = (run.path / name for name in run.files)
    return Network(model_settings(run), Tokenizer.load(tokenizer).vocab_size, len(json.loads(labels.read_text())))


class Moods(Predictor):
    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        found = cls()
        run = runs[0].of("mood")
        found.config, found.directory = run.config, run.path
        found.model = load_weights(lambda: network(run), run, average).to(find_device(device, "--device"))  # type: ignore[attr-defined]
        found.tokenizer = Tokenizer.load(run.path / "tokenizer.json")  # type: ignore[attr-defined]
        found.labels = json.loads((run.path / "labels.json").read_text())  # type: ignore[attr-defined]
        return found

    def _files(self) -> Mapping[str, Savable]:
        return {"tokenizer.json": self.tokenizer}  # type: ignore[attr-defined]

    def _network(self) -> nn.Module:
        return self.model  # type: ignore[attr-defined,no-any-return]

    @torch.inference_mode()
    def classify(self, texts: Sequence[str]) -> list[str]:
        asked = batch(self.tokenizer, texts, [0] * len(texts))  # type: ignore[attr-defined]
        return [self.labels[i] for i in self.model(asked.ids, asked.lengths).argmax(-1)]  # type: ignore[attr-defined]


def evaluate(predictor: Moods, data: str) -> Iterator[Output]:
    labels, texts = zip(*read(data), strict=True)
    right = np.mean([one == two for one, two in zip(labels, predictor.classify(texts), strict=True)])
    yield Record({"accuracy": float(right)})
    yield Pairs(SYSTEM.shown({"accuracy": right}))


def classify(predictor: Moods, lines: Iterator[str | None]) -> Iterator[Output]:
    for line in lines:
        if line is not None:
            (label,) = predictor.classify([line])
            yield Record({"label": label}, label)
