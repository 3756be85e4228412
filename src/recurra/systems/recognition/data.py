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
from ...data.frame_store import FrameExample, write_frames
from ...data.pair_store import held_sources
from ...data.sentences import SentenceTokenizer
from ...data.source_files import SourceFile, tell_changes
from ...data.utterance_frames import featurised, sampled
from ...data.utterances import Utterance, UtteranceReader
from ...errors import DataError, RunError
from ...files import unwritten
from ...run.directory import Run
from ...training.progress import preparation
from .config import FeaturesConfig, SpeechConfig, SpeechDataConfig
from .examples import RecognitionStore
from .features import Features
from .transcripts import TOKENIZER, load_transcripts

__all__ = ["UtteranceStore", "prepare_utterances", "reader", "speech_features"]

STORE = "utterances"
# Before the name of an utterance while it is read: whether it teaches or validates.
_TEACHES, _VALIDATES = "t", "v"


class UtteranceStore(RecognitionStore):
    """Prepared utterances of a run.

    Args:
        run: of a recogniser of speech.

    Raises:
        RunError: as from `RecognitionStore`.
    """

    def __init__(self, run: Run) -> None:
        config: SpeechConfig = run.config
        super().__init__(run.data / STORE, _made(config.features))
        self._settings = config.features.settings
        self._samples = config.features.kept == "samples"

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


def speech_features(run: Run) -> Features:
    """The features of a run of speech.

    Raises:
        RunError: if the file is missing or damaged, or was made with other settings.
    """
    section: FeaturesConfig = run.config.features
    return Features.load(run.path, asdict(section.settings), section.bins, section.normalization)


def prepare_utterances(run: Run) -> None:
    """Learn the tokens, and keep the utterances as features or samples, as far as an earlier start has not done so.

    Where an earlier start has done all, no recording is read, and it is said which files are no longer those that were
    read. Bad recordings of training and validation are named together.

    Raises:
        DataError: if a recording cannot be used; see `utterance_frames.featurised`.
        RunError: if something cannot be written.
    """
    with suppress(RunError):
        load_transcripts(run.path)
        speech_features(run)
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
    features = Features(asdict(settings), statistics, config.features.normalization)
    features.keep(run, count)


def _learn_tokens(run: Run, config: SpeechConfig, train: UtteranceReader, held: npt.NDArray[np.bool_]) -> None:
    path = run.path / TOKENIZER
    if path.is_file():
        load_transcripts(run.path)
        return
    texts = (each.text or "" for each, out in zip(train, held, strict=True) if not out)
    with preparation("Learning the tokens", config.logging.progress):
        tokenizer = SentenceTokenizer.train(texts, config.tokenizer)
    tokenizer.tokenizer.save(path)


def _hash(utterance: Utterance) -> int:
    return int.from_bytes(blake2b(utterance.id.encode(), digest_size=8).digest(), "little")


def _marked(utterances: UtteranceReader | None, held: npt.NDArray[np.bool_] | None) -> Iterator[Utterance]:
    """Utterances whose names begin with whether they teach; all that are given no `held` validate."""
    for place, each in enumerate(utterances or ()):
        validates = held is None or held[place]
        yield each._replace(id=f"{_VALIDATES if validates else _TEACHES}{each.id}")


def _made(features: FeaturesConfig) -> dict[str, Any]:
    return {"kept": features.kept, **asdict(features.settings)}
