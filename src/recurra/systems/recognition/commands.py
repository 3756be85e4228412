"""What a recogniser of speech is asked from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ...data.raw_samples import raw_samples
from ...data.utterances import Utterance
from ...decoding.label_scoring import LabelScorer
from ...errors import ConfigError, DataError
from ...measures.error_rates import error_counts
from ...names import nearest
from ..lines import Progress
from ..output import Note, Output, Pairs, Record, Table, Text
from . import SPEECH
from .answers import Transcript
from .formats import FORMATS, ctm_lines, srt_lines
from .fusing import LanguageModel, read_hotwords, read_lexicon
from .predict import Judged, SpeechRecogniser
from .searching import Search
from .sources import asked_utterances
from .streaming import SpeechStream, check_streaming
from .tuning import try_weights

__all__ = ["check_evaluate", "check_transcribe", "evaluate", "transcribe"]

_TRIED = 10
"""Weights of a language model that a table shows."""
_TEXT = 80
"""Characters of a text that a table shows."""


def check_transcribe(audio: Sequence[str], format: str, stream: bool, rate: int | None, **search: Any) -> None:
    """Refuse what cannot be asked, before anything is loaded."""
    if stream and audio:
        raise ConfigError("--stream reads standard input: leave out the recordings, or --stream.")
    if stream and (format != "text" or search.get("n_best", 1) > 1):
        raise ConfigError("--stream gives one text as it is spoken: leave out --format and --n-best.")
    if rate is not None and not stream:
        raise ConfigError("--rate is for --stream: files say themselves how many samples a second they have.")
    if not audio and not stream:
        raise ConfigError("Missing argument 'AUDIO...': name recordings, folders of them, or files that name them.")
    if format not in FORMATS:
        guess = nearest(format, FORMATS)
        raise ConfigError(
            f"--format: there is no format {format}; "
            + (f"did you mean {guess}?" if guess else "use text, ctm or srt.")
        )
    check_search(**search)


def check_evaluate(data: Sequence[str] | None, errors: int, tune: bool, **search: Any) -> None:
    """Refuse to judge nothing."""
    if not data:
        raise ConfigError("Missing option '--data': name recordings with their texts.")
    if tune and search.get("language_model") is None:
        raise ConfigError("--tune looks for the weight of a language model: name its run with --language-model.")
    if tune and (search.get("lm_weight") is not None or search.get("label_bonus") is not None):
        raise ConfigError("--tune looks for --lm-weight and --label-bonus; leave them out.")
    check_search(**search)


def check_search(
    language_model: str | None = None,
    lm_weight: float | None = None,
    n_best: int = 1,
    beam: int | None = None,
    **_: Any,
) -> None:
    """Refuse options that do not go together."""
    if lm_weight is not None and language_model is None:
        raise ConfigError("--lm-weight is for --language-model: name its run, or leave the weight out.")
    if beam is not None and n_best > beam:
        raise ConfigError(f"--n-best: a beam of {beam} has no {n_best} texts to give; raise --beam.")


def search_of(
    predictor: SpeechRecogniser,
    *,
    beam: int | None = None,
    n_best: int = 1,
    label_bonus: float | None = None,
    language_model: str | None = None,
    lm_weight: float | None = None,
    lexicon: str | None = None,
    hotwords: str | None = None,
    hotword_bonus: float = 2.0,
) -> Search:
    """The search that options ask for; where they ask for nothing, that of the configuration."""
    changes: dict[str, Any] = {}
    if beam is not None:
        changes |= {"search": "beam", "beam": beam}
    if label_bonus is not None:
        changes |= {"search": "beam", "label_bonus": label_bonus}
    scorers: list[LabelScorer] = []
    transcripts = predictor.transcripts
    if language_model is not None:
        model = LanguageModel(language_model, transcripts, str(predictor.device))
        weight = DEFAULT_WEIGHT if lm_weight is None else lm_weight
        scorers += [model.scorer(weight)] if weight else []
    if lexicon is not None:
        scorers.append(read_lexicon(lexicon, transcripts))
    if hotwords is not None:
        scorers.append(read_hotwords(hotwords, hotword_bonus, transcripts))
    return Search(predictor.config.decoding.model_copy(update=changes), n_best, scorers)


DEFAULT_WEIGHT = 0.5


def transcribe(
    predictor: SpeechRecogniser,
    progress: Progress,
    audio: Sequence[str],
    format: str,
    stream: bool,
    rate: int | None,
    **options: Any,
) -> Iterator[Output]:
    """Recordings in, texts out."""
    if stream:
        # Said before a language model is loaded.
        check_streaming(predictor)
        yield from _streamed(SpeechStream(predictor, search_of(predictor, **options), rate))
        return
    search = search_of(predictor, **options)
    problems: list[str] = []

    def failed(utterance: Utterance, error: DataError) -> None:
        problems.append(str(error))

    count = 0
    answers = predictor.answers(
        asked_utterances(audio, predictor.config.data), search, failed=failed, progress=progress
    )
    for path, group in groupby(answers, key=lambda each: each.audio):
        found = list(group)
        count += len(found)
        if format == "srt":
            if path != found[0].id:
                yield Note(f"subtitles of {path}:")
            lines = "\n".join(srt_lines(found))
            yield Record([each.json() for each in found], lines if lines else None)
            continue
        for answer in found:
            yield Record(answer.json(), _shown(answer, format))
    if problems:
        for problem in problems:
            yield Note(problem)
        raise DataError(f"{len(problems):,} of {count + len(problems):,} recordings could not be read; see above.")


def _streamed(stream: SpeechStream) -> Iterator[Output]:
    """The text of standard input, as it settles."""
    settled, before = "", ("", "")
    for samples in raw_samples():
        heard = stream.accept(samples)
        settled += heard.settled
        if heard.settled:
            yield Text(heard.settled, end="")
        # What has not changed says nothing new.
        if (settled, heard.unsettled) != before:
            before = (settled, heard.unsettled)
            yield Record({"settled": settled, "unsettled": heard.unsettled, "seconds": round(stream.seconds, 3)})
    heard, found = stream.finish()
    yield Text(heard.settled)
    yield Record({**found.json(), "seconds": round(stream.seconds, 3), "final": True})


def _shown(answer: Transcript, format: str) -> str | None:
    if format == "ctm":
        return "\n".join(ctm_lines(answer)) or None
    return "\n".join(f"{answer.id}\t{each.text}" for each in answer.hypotheses)


def evaluate(
    predictor: SpeechRecogniser, progress: Progress, data: Sequence[str], errors: int, tune: bool, **options: Any
) -> Iterator[Output]:
    """The measures, and the utterances with the most errors; or the weights of a language model that were tried."""
    if tune:
        yield from _tuned(predictor, progress, data, **options)
        return
    found = predictor.evaluate(data, search_of(predictor, **options), progress=progress)
    if found.unfit:
        yield Note(
            f"{found.unfit:,} of {len(found.references):,} texts do not fit into their recordings; they are left out "
            "of the loss."
        )
    wrong = _errors(predictor, found, errors)
    values = {"loss": found.loss, **found.measures, "utterances": len(found.references), "unfit": found.unfit}
    yield Record({**values, "errors": wrong})
    yield Pairs([*SPEECH.shown(values), ("utterances", f"{len(found.references):,}")])
    if wrong:
        rows = [[each["id"], each["right"][:_TEXT], each["answer"][:_TEXT]] for each in wrong]
        yield Table(["utterance", "right", "answer"], rows)


def _tuned(
    predictor: SpeechRecogniser, progress: Progress, data: Sequence[str], language_model: str, **options: Any
) -> Iterator[Output]:
    model = LanguageModel(language_model, predictor.transcripts, str(predictor.device))
    tried = try_weights(predictor, data, model, search_of(predictor, **options), progress)
    best = tried[0]
    yield Record(
        {"lm_weight": best.weight, "label_bonus": best.label_bonus, "tried": [each._asdict() for each in tried]}
    )
    rows = [
        [f"{each.weight:g}", f"{each.label_bonus:g}", f"{each.word_error_rate:.2%}", f"{each.character_error_rate:.2%}"]
        for each in tried[:_TRIED]
    ]
    yield Table(["weight", "label bonus", "word error rate", "character error rate"], rows)
    yield Note(f"the fewest errors: --lm-weight {best.weight:g} --label-bonus {best.label_bonus:g}")


def _errors(predictor: SpeechRecogniser, found: Judged, count: int) -> list[dict[str, Any]]:
    wanted = [predictor.transcripts.reference(text) for text in found.references]
    counts = error_counts(wanted, [each.text for each in found.transcripts])
    order = sorted(range(len(counts)), key=lambda place: (-counts[place, 0], -counts[place, 2], place))
    return [
        {
            "id": found.transcripts[place].id,
            "right": wanted[place],
            "answer": found.transcripts[place].text,
            "log_probability": -found.nats[place] if found.nats[place] < float("inf") else None,
        }
        for place in order[:count]
        if counts[place, 4]
    ]
