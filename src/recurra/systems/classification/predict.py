"""Asking a trained classifier: labels of texts, what they follow from, and how many are right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.given_texts import listed
from ...data.labelled import Labelled, LabelledReader
from ...data.length_batches import group_by_length
from ...data.sentences import SentenceTokenizer
from ...errors import ConfigError
from ...measures.classification import probabilities
from ...run.device import find_device
from ...run.directory import Run
from ...run.saving import Savable
from ...run.weights import load_weights
from ..lines import Progress
from ..predictor import Predictor
from .answers import Classification, Explanation
from .batches import padded
from .config import ClassificationConfig
from .data import TOKENIZER, load_tokenizer, reader
from .explaining import explain
from .judging import Verdict, judge, nothing_known
from .labels import LABELS, Labels
from .loading import network
from .network import TextClassifier

__all__ = ["Classifier", "Judged"]

# Of texts side by side, padding included.
_TOKENS = 8192


class Judged(NamedTuple):
    """Texts whose labels are known, with what was answered.

    Attributes:
        examples: the texts.
        unknown: how many have a label that the classifier does not know, which no answer can get right.
        verdict: how good the answers are.
    """

    examples: Sequence[Labelled]
    unknown: int
    verdict: Verdict


class Classifier(Predictor):
    """A trained classifier of texts; made by `recurra.load`.

    Args:
        model: put in evaluation mode.
        tokenizer, labels: that it was trained with.
        config: of its run.
        directory: its run directory, if any.
    """

    def __init__(
        self,
        model: TextClassifier,
        tokenizer: SentenceTokenizer,
        labels: Labels,
        config: ClassificationConfig,
        directory: Path | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer, self.label_set = tokenizer, labels
        self.config, self.directory = config, directory
        self._device = next(model.parameters()).device

    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        if len(runs) > 1:
            raise ConfigError("classifiers do not answer together; name one run.")
        run = runs[0].of("classification")
        model = load_weights(lambda: network(run), run, average).to(find_device(device, "--device"))
        return cls(model, load_tokenizer(run.path), Labels.load(run.path), run.config, run.path)

    def _files(self) -> Mapping[str, Savable]:
        return {TOKENIZER: self.tokenizer.tokenizer, LABELS: self.label_set}

    def _network(self) -> nn.Module:
        return self.model

    def answer_loss(self, network: nn.Module, text: str, most: int) -> Tensor:
        """-log P(the labels that it gives | text), or the number that it gives; see `Predictor`."""
        assert isinstance(network, TextClassifier)
        (ids,), _ = self._encoded([text])
        tokens, lengths = padded([ids[:most]], self.tokenizer.eos_id)
        logits: Tensor = network(tokens.to(self._device), lengths)[0]
        kind = self.label_set.kind
        if kind == "regression":
            return logits[0]
        if kind == "multi-label":
            given = (logits.sigmoid() >= network.thresholds.to(logits)).to(logits.dtype)
            return F.binary_cross_entropy_with_logits(logits, given, reduction="sum")
        return F.cross_entropy(logits, logits.argmax())

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all labels; none where numbers are predicted."""
        return self.label_set.names

    def classify(
        self, texts: Iterable[str], *, explain: bool = False, progress: Progress | None = None
    ) -> list[Classification]:
        """The labels of texts, or their numbers.

        What else is asked in the same call does not change an answer, but for rounding. A text without tokens gets the
        shares of the labels among the training texts, or the mean of their numbers. A text of more than
        `data.max_length` tokens is read up to there.

        Args:
            texts: line ends in them are white space.
            explain: whether each answer has an explanation, which takes some thirty times as long.
            progress: called with the texts done and the texts in all.

        Raises:
            TypeError: for one string in place of several, or what is no string.
        """
        texts = listed(texts)
        ids, cut = self._encoded(texts)
        answers = self._answers(texts, self._logits(ids, progress), cut)
        if explain:
            answers = [
                replace(answer, explanation=self._explained(answer, row))
                for answer, row in zip(answers, ids, strict=True)
            ]
        return answers

    def logits(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """The outputs of the network, (texts, K), before temperature and softmax; numbers in deviations."""
        return self._logits(self._encoded(listed(texts))[0])

    def evaluate(
        self,
        data: str | Sequence[str],
        *,
        label: str | None = None,
        text: str | None = None,
        progress: Progress | None = None,
    ) -> Judged:
        """Answer labelled texts, and judge the answers.

        Args:
            data: files, globs or folders, each in the form that its name tells, else in that of the training texts.
            label, text: columns or keys, as for `LabelledReader`; None: as in training.

        Raises:
            DataError: if a file cannot be read, as `LabelledReader` says.
        """
        paths = [data] if isinstance(data, str) else list(data)
        section = self.config.data
        examples = list(self._reader(paths, label or section.label, text or section.text))
        ids, _ = self._encoded([example.text for example in examples])
        targets = self.label_set.targets([(each.labels, each.number) for each in examples])
        verdict = judge(self.label_set, self._logits(ids, progress), targets, *self._calibration)
        return Judged(examples, int((~targets.known).sum()), verdict)

    def _reader(self, paths: Sequence[str], label: str | None, text: str | None) -> LabelledReader:
        section = self.config.data
        # These names tell their forms; the others have that of the training texts.
        told = all(Path(path.lower().removesuffix(".gz")).suffix in (".tsv", ".csv", ".jsonl") for path in paths)
        form = None if told else section.form
        return reader(paths, section.model_copy(update={"label": label, "text": text, "form": form}))

    @property
    def _calibration(self) -> tuple[float, npt.NDArray[Any]]:
        return float(self.model.temperature), self.model.thresholds.cpu().numpy()

    def _encoded(self, texts: Sequence[str]) -> tuple[list[npt.NDArray[Any]], list[int | None]]:
        """Token ids of texts, and where they were cut."""
        limit = self.config.data.max_length
        ids = [self.tokenizer.encode(text) for text in texts]
        return [each[:limit] for each in ids], [limit if len(each) > limit else None for each in ids]

    def _logits(self, ids: Sequence[npt.NDArray[Any]], progress: Progress | None = None) -> npt.NDArray[np.float32]:
        lengths = np.array([len(each) + 1 for each in ids], np.int64)
        logits = np.zeros((len(ids), self.label_set.outputs), np.float32)
        done = 0
        with torch.inference_mode():
            for chosen in group_by_length(np.argsort(lengths, kind="stable"), lengths, _TOKENS):
                tokens, counts = padded([ids[index] for index in chosen], self.tokenizer.eos_id)
                logits[chosen] = self.model(tokens.to(self._device), counts).float().cpu().numpy()
                done += len(chosen)
                if progress is not None:
                    progress(done, len(ids))
        shares = self.model.prior.cpu().numpy()
        logits[lengths == 1] = nothing_known(self.label_set, shares, self._calibration[0])
        return logits

    def _answers(
        self, texts: Sequence[str], logits: npt.NDArray[np.float32], cut: Sequence[int | None]
    ) -> list[Classification]:
        found = self.label_set
        if found.kind == "regression":
            numbers = (logits[:, 0].astype(np.float64) * found.deviation + found.mean).tolist()
            return [
                Classification(text, None, (), {}, number, at)
                for text, number, at in zip(texts, numbers, cut, strict=True)
            ]
        temperature, thresholds = self._calibration
        several = found.kind == "multi-label"
        answers = []
        for text, row, at in zip(texts, probabilities(logits, temperature, several=several), cut, strict=True):
            order = np.argsort(-row, kind="stable")
            given = [place for place in order if row[place] >= thresholds[place]] if several else order[:1]
            labels = tuple(found.names[place] for place in given)
            chances = dict(zip(found.names, row.tolist(), strict=True))
            answers.append(Classification(text, labels[0] if labels else None, labels, chances, None, at))
        return answers

    def _explained(self, answer: Classification, ids: npt.NDArray[Any]) -> Explanation:
        found = self.label_set
        if found.kind == "regression":
            place, target = 0, None
        else:
            target = answer.label or max(answer.probabilities, key=lambda name: answer.probabilities[name])
            place = found.names.index(target)
        tokenizer = self.tokenizer
        # Words that the vocabulary lacks are shown as they stand; subwords know none such, but loose bytes.
        known = tokenizer.unk_id is None
        pieces = tokenizer.text_bytes(answer.text) if known else [p.encode() for p in tokenizer.pieces(answer.text)]
        return explain(self.model, self.tokenizer.eos_id, ids, pieces[: len(ids)], place, answer.text, target)
