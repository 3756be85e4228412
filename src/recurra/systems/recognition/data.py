"""What a recogniser of speech keeps of its data: the tokenizer, the features' statistics, the utterances."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.audio import AudioReader
from ...data.fbank import Fbank
from ...data.feature_statistics import FeatureStatistics
from ...data.frame_store import FrameExample, FrameStore, write_frames
from ...data.pair_store import held_sources
from ...data.sentences import SentenceTokenizer
from ...data.source_files import SourceFile, tell_changes
from ...data.utterance_frames import featurised, sampled
from ...data.utterances import Utterance, UtteranceReader
from ...errors import DataError, RunError
from ...files import unwritten
from ...models.subsampling import subsampled
from ...run.checkpoint import has_checkpoint
from ...run.directory import Run
from ...shown import tell
from ...training.progress import preparation
from .config import FeaturesConfig, SpeechConfig, SpeechDataConfig
from .features import FEATURES, Features
from .outputs import frames_needed
from .transcripts import TOKENIZER, Transcripts, load_transcripts

__all__ = ["UtteranceStore", "fitting", "prepare_utterances", "reader"]

STORE = "utterances"
_SHOWN = 10
"""Utterances that a sentence names."""
_TOGETHER = 1024
# Before the name of an utterance while it is read: whether it teaches or validates.
_TEACHES, _VALIDATES = "t", "v"


class UtteranceStore:
    """Prepared utterances of a run.

    Attributes:
        examples: all of them.
        valid: which of them validation takes, (examples,).
        files: that the utterances were named in.

    Raises:
        RunError: if the store is damaged, holds something else, or was prepared for other features.
    """

    def __init__(self, run: Run) -> None:
        path = run.data / STORE
        config: SpeechConfig = run.config
        self.examples = FrameStore(path)
        about, count = self.examples.about, len(self.examples)
        places = about.get("valid")
        if about.get("made") != _made(config.features):
            raise RunError(f"{path}.json: the utterances were prepared with other features; prepare them again.")
        if (
            not isinstance(places, list)
            or not 0 < len(places) < count
            or not all(type(place) is int and 0 <= place < count for place in places)
        ):
            raise RunError(f"{path}.json: this is not the header of prepared utterances; prepare them again.")
        self.valid = np.zeros(count, np.bool_)
        self.valid[places] = True
        self.files = self.examples.files
        self._settings = config.features.settings
        self._samples = config.features.kept == "samples"

    def __len__(self) -> int:
        return len(self.examples)

    def all(self) -> Iterator[FrameExample]:
        """One utterance after another, some at a time in memory."""
        for first in range(0, len(self), _TOGETHER):
            yield from self.examples.take(range(first, min(first + _TOGETHER, len(self))))

    @property
    def frames(self) -> npt.NDArray[np.int64]:
        """Frames of features that each utterance has, at its own speed."""
        lengths = self.examples.lengths
        return (lengths + self._settings.shift // 2) // self._settings.shift if self._samples else lengths


def reader(paths: Sequence[str], data: SpeechDataConfig, *, need_text: bool = True) -> UtteranceReader:
    """A reader of utterances in the form that a configuration says."""
    return UtteranceReader(
        paths,
        form=data.form,
        keys=data.keys,
        pattern=data.pattern,
        audio_folder=data.audio_folder,
        need_text=need_text,
    )


def prepare_utterances(run: Run) -> None:
    """Learn the tokens, and keep the utterances as features or samples, as far as an earlier start has not done so.

    Where an earlier start has done all, no recording is read, and it is said which files are no longer those that were
    read. Bad recordings of training and validation are named together.

    Raises:
        DataError: if a recording cannot be used; see `utterance_frames.featurised`.
        RunError: if something cannot be written.
    """
    config: SpeechConfig = run.config
    with suppress(RunError):
        load_transcripts(run.path)
        Features.load(run.path, config.features.settings, config.features.normalization)
        tell_changes(UtteranceStore(run).files)
        return
    try:
        _prepare(run)
    except OSError as error:
        raise RunError(f"{run.data}: cannot be written {unwritten(error)}.") from error


def _prepare(run: Run) -> None:
    config: SpeechConfig = run.config
    data, settings, shown = config.data, config.features.settings, config.logging.progress
    train = reader(data.train, data)
    valid = reader(data.valid, data) if data.valid else None
    with preparation("Reading the names of the recordings", shown):
        hashes = np.frombuffer(array("Q", map(_hash, train)), np.uint64)
        held = np.zeros(len(hashes), np.bool_)
        if valid is None:
            held = held_sources(hashes, data.validation_fraction, config.training.seed)
            if not held.any():
                raise DataError(
                    f"{data.train[0]}: one recording cannot be parted into training and validation; give more."
                )
    _learn_tokens(run, config, train, held)
    statistics, places = FeatureStatistics(), list[int]()
    fbank, audio = Fbank(settings), AudioReader(settings.rate)
    utterances = chain(_marked(train, held), _marked(valid, None))
    keeps_samples = config.features.kept == "samples"
    examples = (
        sampled(utterances, audio, skip=data.skip_bad)
        if keeps_samples
        else featurised(utterances, audio, fbank, skip=data.skip_bad)
    )

    def kept() -> Iterator[FrameExample]:
        for place, example in enumerate(examples):
            if example.id[0] == _VALIDATES:
                places.append(place)
            else:
                statistics.add(fbank(example.frames[:, 0]) if keeps_samples else example.frames)
            yield example._replace(id=example.id[1:])
        if not statistics.frames or not places:
            part = "learn from" if not statistics.frames else "validate on"
            raise DataError(f"{data.train[0]}: no recording is left to {part}; give more.")

        files.extend(train.files)
        files.extend(valid.files if valid is not None else [])

    files: list[SourceFile] = []
    about: dict[str, Any] = {"made": _made(config.features), "valid": places}
    width = 1 if keeps_samples else settings.bins
    with preparation("Reading the recordings", shown):
        count = write_frames(
            run.data / STORE, kept(), width, about, train.files + ([] if valid is None else valid.files)
        )
    features = Features(settings, statistics, config.features.normalization)
    _keep_features(features, run, count)


def _learn_tokens(run: Run, config: SpeechConfig, train: UtteranceReader, held: npt.NDArray[np.bool_]) -> None:
    path = run.path / TOKENIZER
    if path.is_file():
        load_transcripts(run.path)
        return
    texts = (each.text or "" for each, out in zip(train, held, strict=True) if not out)
    with preparation("Learning the tokens", config.logging.progress):
        tokenizer = SentenceTokenizer.train(texts, config.tokenizer)
    tokenizer.tokenizer.save(path)


def _keep_features(features: Features, run: Run, count: int) -> None:
    """Write the statistics; those that a training has begun with must be the same.

    Raises:
        RunError: if they are others.
    """
    if not has_checkpoint(run.checkpoints):
        features.save(run.path / FEATURES)
    elif Features.load(run.path, features.settings, features.normalization) != features:
        raise RunError(
            f"{run.path / FEATURES}: the {count:,} recordings are others now, and the model has learnt from features "
            "that were normalised otherwise; restore them to resume, or train in a new folder."
        )


def _hash(utterance: Utterance) -> int:
    return int.from_bytes(blake2b(utterance.id.encode(), digest_size=8).digest(), "little")


def _marked(utterances: UtteranceReader | None, held: npt.NDArray[np.bool_] | None) -> Iterator[Utterance]:
    """Utterances whose names begin with whether they teach; all that are given no `held` validate."""
    for place, each in enumerate(utterances or ()):
        validates = held is None or held[place]
        yield each._replace(id=f"{_VALIDATES if validates else _TEACHES}{each.id}")


def _made(features: FeaturesConfig) -> dict[str, Any]:
    return {"kept": features.kept, **asdict(features.settings)}


def fitting(store: UtteranceStore, transcripts: Transcripts, config: SpeechConfig) -> npt.NDArray[np.bool_]:
    """Which utterances have frames enough for their labels, (examples,); the loss of any other would be infinite.

    Raises:
        DataError: if an utterance has too few frames, and `data.skip_bad` is false; the first ones are named.
    """
    factor, fastest = config.model.subsampling_factor, max(config.augmentation.speeds)
    frames = store.frames
    fits = np.ones(len(store), np.bool_)
    problems = []
    for place, example in enumerate(store.all()):
        needed = frames_needed(transcripts.encode(example.text).tolist(), config.model, config.decoding)
        speed = 1.0 if store.valid[place] else fastest
        # A frame may be lost by rounding where the speed is changed.
        given = subsampled(int(frames[place] / speed) - (speed != 1.0), factor)
        if needed > given:
            fits[place] = False
            problems.append(
                f"{example.file}:{example.line}: {example.id!r} has {given} frames after subsampling, and the text "
                f"{example.text!r} needs {needed}"
            )
    if problems:
        first = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        what = f"{len(problems):,} of {len(store):,} texts do not fit into their recordings"
        if not config.data.skip_bad:
            raise DataError(
                f"{what}; mend them, lower model.subsampling_factor, or set data.skip_bad=true:\n{first}{more}"
            )
        tell(f"recurra: {what} and are left out:\n{first}{more}")
    return fits
