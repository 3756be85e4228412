"""Asking a trained recogniser of speech: what is said in recordings, when, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...data.audio import AudioReader
from ...data.fbank import Fbank
from ...data.length_batches import group_by_length
from ...data.utterances import Utterance
from ...decoding.recognized import Recognized
from ...errors import ConfigError, DataError
from ...run.device import find_device
from ...run.directory import Run
from ...run.saving import Savable
from ...run.weights import load_weights
from ..lines import Progress
from ..predictor import Predictor
from .answers import Hypothesis, Transcript, Word
from .batches import padded_frames
from .config import SpeechConfig
from .data import reader, speech_features
from .features import FEATURES, Features
from .judging import calibrated, judge, word_confidences
from .loading import speech_network
from .network import Recogniser
from .outputs import frames_needed
from .searching import Search, score_labels
from .sources import asked_utterances
from .transcripts import TOKENIZER, Transcripts, load_transcripts

__all__ = ["Judged", "SpeechRecogniser"]

Floats = npt.NDArray[np.float32]

# Of utterances side by side, padding included, and how many are read before the first is answered.
_FRAMES = 20_000
_TOGETHER = 64


class Judged(NamedTuple):
    """Utterances whose texts are known, with what was recognised in them.

    Attributes:
        references: what is said in each, as it was given.
        transcripts: what was recognised.
        nats: minus the log-probability of each reference, infinite where it does not fit.
        loss: their sum over all labels; of the references that fit.
        unfit: how many references do not fit into their recordings.
        measures: by name.
    """

    references: list[str]
    transcripts: list[Transcript]
    nats: list[float]
    loss: float
    unfit: int
    measures: Mapping[str, float | None]


class SpeechRecogniser(Predictor):
    """A trained recogniser of speech; made by `recurra.load`.

    Args:
        model: put in evaluation mode.
        transcripts, features: that it was trained with.
        config: of its run.
        directory: its run directory, if any.
    """

    def __init__(
        self,
        model: Recogniser,
        transcripts: Transcripts,
        features: Features,
        config: SpeechConfig,
        directory: Path | None = None,
    ) -> None:
        self.model = model.eval()
        self.transcripts, self.features = transcripts, features
        self.config, self.directory = config, directory
        self._device = next(model.parameters()).device

    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        if len(runs) > 1:
            raise ConfigError("recognisers do not answer together; name one run.")
        run = runs[0].of("speech")
        features = speech_features(run)
        model = load_weights(lambda: speech_network(run), run, average).to(find_device(device, "--device"))
        return cls(model, load_transcripts(run.path), features, run.config, run.path)

    def _files(self) -> Mapping[str, Savable]:
        return {TOKENIZER: self.transcripts.tokenizer.tokenizer, FEATURES: self.features}

    def _network(self) -> nn.Module:
        return self.model

    @property
    def device(self) -> torch.device:
        """That the model runs on."""
        return self._device

    @property
    def seconds_per_frame(self) -> float:
        """From one frame of the network's outputs to the next."""
        return self.config.features.shift_ms / 1000 * self.config.model.subsampling_factor

    def transcribe(self, paths: str | Path | Iterable[str | Path], search: Search | None = None) -> list[Transcript]:
        """What is said in recordings.

        What else is asked in the same call does not change an answer, but for rounding.

        Args:
            paths: audio files, folders and globs of them, or files that name utterances, as for a training.
            search: how; None: as the configuration has it.

        Raises:
            DataError: if a recording cannot be read.
        """
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        return list(self.answers(asked_utterances(given, self.config.data), search))

    def answers(
        self,
        utterances: Iterable[Utterance],
        search: Search | None = None,
        *,
        failed: Callable[[Utterance, DataError], None] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Transcript]:
        """What is said in utterances, one after another; some are read before the first is answered.

        Args:
            utterances: with or without their texts.
            search: how; None: as the configuration has it.
            failed: is told of each recording that cannot be read, which is then left out; None: the error is raised.
            progress: called with the utterances done and 0, as it is not known how many there are.

        Raises:
            DataError: if a recording cannot be read, and nobody is told.
        """
        for done, (utterance, seconds, values) in enumerate(self.outputs(utterances, failed), start=1):
            if progress is not None:
                progress(done, 0)
            n_best = 1 if search is None else search.n_best
            yield self._transcript(utterance, seconds, self._search(values, search), n_best)

    def outputs(
        self, utterances: Iterable[Utterance], failed: Callable[[Utterance, DataError], None] | None = None
    ) -> Iterator[tuple[Utterance, float, Tensor]]:
        """Utterances with their seconds and the frames that searches read; none of digital silence.

        Args:
            utterances, failed: as `answers` takes them.
        """
        for group in self._read(utterances, failed):
            rows = self._outputs([row for *_, row in group])
            for (utterance, seconds, _), values in zip(group, rows, strict=True):
                yield utterance, seconds, values

    def evaluate(
        self,
        data: str | Sequence[str],
        search: Search | None = None,
        *,
        progress: Progress | None = None,
    ) -> Judged:
        """Recognise utterances whose texts are known, and judge the answers.

        Args:
            data: files, globs or folders in the form of the training data, unless their names tell another.
            search: how; None: as the configuration has it.
            progress: called with the utterances done and 0, as it is not known how many there are.

        Raises:
            DataError: if a recording cannot be read, or has no text.
        """
        paths = [data] if isinstance(data, str) else list(data)
        references: list[str] = []
        answers: list[Transcript] = []
        nats: list[float] = []
        labels = unfit = 0
        found: list[list[tuple[str, float]]] = []
        for utterance, seconds, values in self.outputs(told_reader(paths, self.config)):
            reference = utterance.text or ""
            hypotheses = self._search(values, search)
            answers.append(self._transcript(utterance, seconds, hypotheses, 1))
            spans = self.transcripts.words(hypotheses[0].spans)
            found.append([(text, span.confidence) for text, span in spans])
            wanted = self.transcripts.encode(reference).tolist()
            fits = frames_needed(wanted, self.config.model, self.config.decoding) <= len(values)
            nats.append(-self.model.output.log_likelihood(values, wanted) if fits else float("inf"))
            references.append(reference)
            labels += max(1, len(wanted)) * fits
            unfit += not fits
            if progress is not None:
                progress(len(answers), 0)
        slope, offset = self.model.confidence.tolist()
        confidences = word_confidences(self.transcripts, references, found)
        measures = judge(self.transcripts, references, [each.text for each in answers], confidences, (slope, offset))
        loss = sum(each for each in nats if each < float("inf")) / max(1, labels)
        return Judged(references, answers, nats, loss, unfit, measures)

    def score(self, path: str | Path, text: str, search: Search | None = None) -> float:
        """The score of a given text of a recording: what a search that kept all alignments would rank it by, in nats.

        Args:
            path: of the recording.
            text: what may be said in it.
            search: whose language model, lexicon and hotwords count; None: as the configuration has it.

        Returns:
            Minus infinity if the text does not fit, or the search forbids it.

        Raises:
            DataError: if the recording cannot be read, or the recogniser has no label for something in the text.
        """
        unknown = self.transcripts.unknown(text)
        if unknown:
            raise DataError(f"the recogniser has no label for {unknown[0]!r}; change the text.")
        (utterance,) = asked_utterances([path], self.config.data)
        ((_, _, values),) = self.outputs([utterance])
        labels = self.transcripts.encode(text).tolist()
        return score_labels(values, labels, search or Search(self.config.decoding), self.model.output)

    def _read(
        self, utterances: Iterable[Utterance], failed: Callable[[Utterance, DataError], None] | None = None
    ) -> Iterator[list[tuple[Utterance, float, Floats]]]:
        """Groups of utterances, each with its seconds and its normalised features; none of digital silence."""
        settings = self.config.features.settings
        audio, fbank = AudioReader(settings.rate), Fbank(settings)
        group: list[tuple[Utterance, float, Floats]] = []
        for utterance in utterances:
            # A recording that is named alone is not named in a file.
            where = "" if Path(utterance.file) == utterance.audio else utterance.where
            try:
                recording = audio.read(utterance.audio, utterance.start, utterance.end, where)
            except DataError as error:
                if failed is None:
                    raise
                failed(utterance, error)
                continue
            frames = np.empty((0, settings.bins), np.float32)
            if not recording.is_silent:
                frames = self.features.normalised(fbank(recording.samples))
            group.append((utterance, recording.seconds, frames))
            if len(group) == _TOGETHER or sum(len(row) for *_, row in group) > 2 * _FRAMES:
                yield group
                group = []
        if group:
            yield group

    @torch.inference_mode()
    def _outputs(self, rows: Sequence[Floats]) -> list[Tensor]:
        """What searches read of each row of normalised features; nothing of a row without frames."""
        found = [torch.empty(0, self.transcripts.labels)] * len(rows)
        lengths = np.array([len(row) for row in rows], np.int64)
        order = np.argsort(lengths, kind="stable")
        for chosen in group_by_length(order[lengths[order] > 0], lengths, _FRAMES):
            frames, counts = padded_frames([rows[place] for place in chosen])
            values, kept = self.model.frames(frames.to(self._device), counts)
            for row, place in enumerate(chosen):
                found[place] = values[: kept[row], row]
        return found

    def _search(self, values: Tensor, search: Search | None) -> list[Recognized]:
        return (search or Search(self.config.decoding))(values, self.model.output)

    def _transcript(
        self, utterance: Utterance, seconds: float, hypotheses: Sequence[Recognized], n_best: int
    ) -> Transcript:
        made: dict[str, Hypothesis] = {}
        for each in hypotheses:
            if len(made) < n_best:
                found = self.hypothesis(each, seconds)
                # The first of those that spell a text is the best of them.
                made.setdefault(found.text, found)
        return Transcript(utterance.id, str(utterance.audio), utterance.start, seconds, list(made.values()))

    def hypothesis(self, found: Recognized, seconds: float) -> Hypothesis:
        """What labels say, with times and confidences.

        Args:
            found: the labels.
            seconds: that the utterance has; the last frame may reach beyond its end.
        """
        unit = self.seconds_per_frame
        words = self.transcripts.words(found.spans)
        chances = calibrated(np.array([span.confidence for _, span in words]), *self.model.confidence.tolist())
        made = [
            Word(text, min(span.start * unit, seconds), min(span.end * unit, seconds), chance)
            for (text, span), chance in zip(words, chances.tolist(), strict=True)
        ]
        return Hypothesis(self.transcripts.decode(found.labels), made, found.log_probability, found.score)


def told_reader(paths: Sequence[str], config: SpeechConfig) -> Any:
    """A reader of utterances with texts, in the form that the names of files tell, else that of the training data."""
    told = all(
        Path(path.lower().removesuffix(".gz")).suffix in (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
        or (Path(path) / "wav.scp").is_file()
        for path in paths
    )
    return reader(paths, config.data.model_copy(update={"form": None, "pattern": None}) if told else config.data)
