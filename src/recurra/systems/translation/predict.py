"""Asking a trained translation system: translations, scores of pairs, quality on files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ...bounds import LARGEST
from ...data.given_texts import listed
from ...data.overwriting import refuse_overwriting
from ...data.pair_corpus import ParallelCorpus
from ...data.parallel import Pair, read_pairs
from ...data.sentences import SentenceTokenizer
from ...data.token_batches import collate, group_by_length
from ...decoding.beam_search import BeamOptions
from ...decoding.characters import WholeCharacters
from ...decoding.constraints import Constraints, WordJoints
from ...decoding.hypothesis import Hypothesis
from ...decoding.sampling import SamplingOptions
from ...decoding.word_boundaries import whole_characters
from ...errors import ConfigError, DataError, RunError
from ...files import unwritten
from ...measures.likelihood import perplexity
from ...measures.translation import measure, require_sacrebleu
from ...run.device import find_device
from ...run.directory import Run
from ...run.saving import Savable
from ..predictor import Predictor
from .answers import PairScore, Translation
from .config import TranslationConfig
from .data import named_tokenizers
from .loading import load_model
from .network import EncoderDecoder
from .search import SearchOptions, greatest_length, pair_log_probabilities, translate_ids
from .writer import TranslationWriter

__all__ = ["Translator"]

Progress = Callable[[int, int], None]

_SCORED_TOKENS = 4096


class Translator(Predictor):
    """A trained translation system, or several of one vocabulary that decide together; made by `recurra.load`.

    Args:
        models: put in evaluation mode.
        tokenizers: of source and target, as all of them were trained with.
        config: of the first one's run; its `decoding` section gives what a call leaves open.
        directory: the run directory of the first, if any.
    """

    def __init__(
        self,
        models: Sequence[EncoderDecoder],
        tokenizers: tuple[SentenceTokenizer, SentenceTokenizer],
        config: TranslationConfig,
        directory: Path | None = None,
    ) -> None:
        self.models = [model.eval() for model in models]
        self.source_tokenizer, self.target_tokenizer = tokenizers
        self.config = config
        self.directory = directory
        copies = any(model.copy_gate is not None for model in models)
        self._writer = TranslationWriter(*tokenizers, config.decoding.replace_unknown, copies)

    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        loaded = [load_model(run, average=average) for run in runs]
        config, tokenizers, _ = loaded[0]
        for run, (_, others, _) in zip(runs, loaded, strict=True):
            if any(one.tokenizer != other.tokenizer for one, other in zip(tokenizers, others, strict=True)):
                raise RunError(
                    f"{run.path}: has other tokenizers than {runs[0].path}; only models of one vocabulary can decide "
                    "together."
                )
        where = find_device(device, "--device")
        return cls([model.to(where) for _, _, model in loaded], tokenizers, config, runs[0].path)

    def _files(self) -> Mapping[str, Savable]:
        return named_tokenizers(self.source_tokenizer, self.target_tokenizer)

    def network(self) -> EncoderDecoder:
        """The one model.

        Raises:
            ConfigError: if there are several.
        """
        if len(self.models) > 1:
            raise ConfigError(f"{len(self.models)} models decide together here; take each by itself.")
        return self.models[0]

    def _network(self) -> nn.Module:
        return self.network()

    def answer_loss(self, network: nn.Module, text: str, most: int) -> Tensor:
        """-log P(translation | source) of its own translation, or of one behind a tab; see `Predictor`."""
        assert isinstance(network, EncoderDecoder)
        source, tab, target = text.partition("\t")
        ids = self.source_tokenizer.encode(source)[:most]
        if not len(ids):
            raise ConfigError("an empty source has no translation; give another text.")
        answer = target if tab else self.translate([source], beam=1)[0].best
        batch = collate(
            [(ids, self.target_tokenizer.encode(answer)[:most])],
            self.source_tokenizer.eos_id,
            self.target_tokenizer.eos_id,
        )
        device = network.output_bias.device
        logits = network(batch.source.to(device), batch.lengths, batch.before.to(device)).logits
        return F.cross_entropy(logits.flatten(0, 1), batch.target.to(device).flatten(), reduction="sum")

    @property
    def attends(self) -> bool:
        """Whether there are attention weights to be seen."""
        return any(model.config.attention != "none" for model in self.models)

    def translate(
        self,
        sentences: Iterable[str],
        *,
        beam: int | None = None,
        n_best: int = 1,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        min_length: int = 0,
        max_length: int | None = None,
        no_repeat: int = 0,
        prefix: str | Sequence[str] = "",
        banned: Iterable[str] = (),
        required: Iterable[str] = (),
        sampling: SamplingOptions | None = None,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> list[Translation]:
        """Translate sentences; every one gets an answer, and an empty one an empty one.

        What else is translated in the same call does not change a translation, but for the rounding of the model's
        arithmetic, by which a draw or a tie may fall otherwise. A source of more tokens than
        `decoding.max_source_length` is read up to there.

        Args:
            sentences: without line ends.
            beam: hypotheses that the search keeps; 1 takes the likeliest token of each step. None: as configured.
            n_best: how many translations of each; at most `beam`, if that is given.
            length_penalty, coverage_penalty: see `recurra.decoding.beam_search.BeamOptions`; None: as configured.
            min_length, max_length: of translations, in tokens; None: `decoding.max_length_ratio` times the source's,
                and 10 more, or what the other constraints need.
            no_repeat: no run of so many tokens occurs twice; 0: any may.
            prefix: what every translation begins with, or what each one does. One of several that goes against the
                vocabulary or the other constraints leaves its sentence without a translation.
            banned: words that no translation holds: whole ones, in whatever tokens they are spelt. A beam of 1 may grow
                such a word into a longer one.
            required: words that every translation holds, in any order, as the tokens that the tokenizer makes of them;
                not for sampling.
            sampling: draw translations instead of searching.
            seed: of the draws; a sentence's depend on the seed and the sentence's number alone.
            first: number of the first sentence, for text that is translated in several calls.
            batch_size: sentences side by side; None: as configured.
            progress: called with the sentences done and the sentences in all.

        Raises:
            ConfigError: if a value is out of its range or the constraints cannot all be had.
            TypeError: for one string in place of several, or what is no string.
        """
        sentences, banned, required = listed(sentences), listed(banned), listed(required)
        decoding = self.config.decoding
        asked_beam = decoding.beam if beam is None else beam
        if asked_beam < 1 or n_best < 1:
            raise ConfigError(f"beam and n_best must be at least 1, not {asked_beam} and {n_best}.")
        if beam is None or sampling is not None:
            asked_beam = max(asked_beam, n_best)
        options = SearchOptions(
            BeamOptions(
                asked_beam,
                n_best,
                decoding.length_penalty if length_penalty is None else length_penalty,
                decoding.coverage_penalty if coverage_penalty is None else coverage_penalty,
            ),
            sampling,
            seed,
            decoding.batch_size if batch_size is None else batch_size,
            self._characters,
        )
        encoded = [self.source_tokenizer.encode(sentence) for sentence in sentences]
        limit = decoding.max_source_length
        cut = [limit if len(ids) > limit else None for ids in encoded]
        sources = [ids[:limit] for ids in encoded]
        prefixes = [prefix] * len(sentences) if isinstance(prefix, str) else listed(prefix)
        if len(prefixes) != len(sentences):
            raise ConfigError(
                f"there are {len(sentences)} sentences but {len(prefixes)} prefixes; give as many of both."
            )
        banned_tokens = tuple(self._tokens(word) for word in banned)
        required_tokens = tuple(self._tokens(word) for word in required)
        if required_tokens and sampling is not None:
            raise ConfigError("required words are searched for, and cannot be drawn; leave out one or the other.")
        target = self.target_tokenizer
        joints = None
        if banned_tokens or required_tokens:
            joints = WordJoints(*target.joints, target.tokenizer.vocabulary_bytes)
        constraints: dict[int, Constraints] = {}
        for index, source in enumerate(sources):
            if not len(source):
                continue
            try:
                begun = self._tokens(prefixes[index]) if prefixes[index] else ()
                # A limit that was only derived from a short source gives way to what was asked for.
                needed = max(min_length, Constraints(LARGEST, 0, begun, (), required_tokens, 0, joints).needed)
                constraints[index] = Constraints(
                    max(greatest_length(decoding, len(source)), needed) if max_length is None else max_length,
                    min_length=min_length,
                    no_repeat=no_repeat,
                    prefix=begun,
                    banned=banned_tokens,
                    required=required_tokens,
                    joints=joints,
                )
            except ConfigError:
                # One of several prefixes that cannot be met leaves the other sentences their translations.
                if isinstance(prefix, str) or not prefixes[index]:
                    raise
        found = translate_ids(
            self.models,
            [sources[index] for index in constraints],
            list(constraints.values()),
            self.source_tokenizer.eos_id,
            self.target_tokenizer.eos_id,
            options,
            [first + index for index in constraints],
            progress,
        )
        answers = dict(zip(constraints, found, strict=True))
        return [
            Translation(
                sentence,
                [self._writer.write(sentence, each) for each in answers.get(index, [])],
                cut[index],
                unmet=len(sources[index]) > 0 and not answers.get(index),
            )
            for index, sentence in enumerate(sentences)
        ]

    def score(
        self, sources: Iterable[str], targets: Iterable[str], progress: Progress | None = None
    ) -> list[PairScore]:
        """log P(target | source) of pairs.

        Of a translation by this model it is what its search found, if the text gives the tokens that were found: not
        where a source word stands in place of <unk>, or the search parted a word otherwise than the tokenizer does.

        A source of more tokens than `decoding.max_source_length` is read up to there, as `translate` does; its
        `cut_at` says so. An empty source can be scored, though `translate` leaves it empty.

        Raises:
            ConfigError: if there are not as many sources as targets.
        """
        sources, targets = listed(sources), listed(targets)
        if len(sources) != len(targets):
            raise ConfigError(f"there are {len(sources)} sources but {len(targets)} targets; give as many of both.")
        pairs = [Pair(*each) for each in zip(sources, targets, strict=True)]
        corpus = ParallelCorpus.of(pairs, self.source_tokenizer, self.target_tokenizer)
        scores: dict[int, PairScore] = {}
        limit = self.config.decoding.max_source_length
        long = corpus.source_lengths > limit
        lengths = np.maximum(np.minimum(corpus.source_lengths, limit), corpus.target_lengths) + 1
        for group in group_by_length(np.argsort(lengths, kind="stable"), lengths, _SCORED_TOKENS):
            chosen = [(source[:limit], target) for source, target in (corpus.pair(int(index)) for index in group)]
            batch = collate(chosen, self.source_tokenizer.eos_id, self.target_tokenizer.eos_id)
            logs, weights = pair_log_probabilities(self.models, batch)
            totals = logs.sum(0).tolist()
            for row, index in enumerate(map(int, group)):
                source, target = chosen[row]
                attended = None if weights is None else weights[: len(target) + 1, row, : len(source) + 1]
                unknown = self.target_tokenizer.unk_id
                answer = self._writer.write(
                    pairs[index].source,
                    Hypothesis(
                        target.tolist(), totals[row], totals[row], attended, logs[: len(target) + 1, row].tolist()
                    ),
                    pairs[index].target,
                )
                scores[index] = PairScore(
                    sources[index],
                    targets[index],
                    totals[row],
                    len(target) + 1,
                    perplexity(-totals[row] / (len(target) + 1)),
                    0 if unknown is None else int((target == unknown).sum()),
                    answer.pharaoh,
                    limit if long[index] else None,
                    answer.words,
                )
            if progress is not None:
                progress(len(scores), len(pairs))
        return [scores[index] for index in range(len(pairs))]

    def evaluate(
        self,
        source: str | None = None,
        target: str | None = None,
        pairs: str | None = None,
        *,
        output: str | Path | None = None,
        bleu_tokenizer: str | None = None,
        references: str | None = None,
        empty_lines: str | None = None,
        progress: Progress | None = None,
        **search: Any,
    ) -> dict[str, Any]:
        """Perplexity of the references, and BLEU, chrF and length ratio of translations, on files of pairs.

        Args:
            source, target: files of one sentence a line.
            pairs: a .tsv, .csv or .jsonl file, in their place.
            output: file that the translations are written to, a line for each line of the sources; None: nowhere.
            bleu_tokenizer: sacreBLEU's; None: as configured for training.
            references: "written" compares translations with the references as they are, "normalized" both in the form
                that the target tokenizer writes (Unicode form, case, spaces), which the signatures then name; None: as
                configured for training.
            empty_lines: "error", or "drop" to leave pairs with an empty side out of all measures; None: as configured.
            progress: called with what is done and what there is in all.
            **search: as `translate` takes them.

        Returns:
            `loss` (nats a token), `perplexity`, `bleu`, `bleu_tokenized`, `chrf`, `exact`, `length_ratio`, `pairs`,
            `dropped` (for an empty side), `unknown_rate` (share of the references' tokens that the vocabulary does not
            hold, whose probability is that of all such words together), `cut` (sources longer than
            `decoding.max_source_length`, read up to there), `tokens`, and the `signatures` of the measures.

        Raises:
            DataError: if the files cannot be used; see `recurra.data.parallel.read_pairs`.
            RunError: if the translations cannot be written.
            ConfigError: if sacreBLEU or what its tokenizer needs is not installed, the output is one of the inputs, or
                an option has another value.
        """
        training, data = self.config.training, self.config.data
        tokenizer, references = bleu_tokenizer or training.bleu_tokenizer, references or training.references
        empty_lines = empty_lines or data.empty_lines
        _check_choice("references", references, ("written", "normalized"))
        _check_choice("empty_lines", empty_lines, ("error", "drop"))
        require_sacrebleu(tokenizer)
        if output is not None:
            refuse_overwriting(output, (source, target, pairs))
            # That it cannot be written is said before the work.
            _write(output, "a", "")
        empty = "keep" if empty_lines == "drop" else "error"
        read, _ = read_pairs(source, target, pairs, columns=data.columns, keys=data.keys, empty=empty)
        whole = [index for index, pair in enumerate(read) if pair.source and pair.target]
        if not whole:
            raise DataError(f"{pairs or source}: no pair has two sides with text; give a file with sentences.")
        sources, targets = [read[index].source for index in whole], [read[index].target for index in whole]
        scores = self.score(sources, targets)
        texts = [each.best for each in self.translate([pair.source for pair in read], progress=progress, **search)]
        if output is not None:
            _write(output, "w", "".join(f"{text}\n" for text in texts))
        tokens = sum(score.tokens for score in scores)
        loss = -math.fsum(score.log_probability for score in scores) / tokens
        form = self.target_tokenizer if references == "normalized" else None
        found = measure([texts[index] for index in whole], targets, tokenizer, form)._asdict()
        cut = sum(score.cut_at is not None for score in scores)
        unknown = sum(score.unknown for score in scores) / tokens
        counts = {
            "unknown_rate": unknown,
            "pairs": len(whole),
            "dropped": len(read) - len(whole),
            "cut": cut,
            "tokens": tokens,
        }
        return {"loss": loss, "perplexity": perplexity(loss), **counts, **found}

    @cached_property
    def _characters(self) -> WholeCharacters | None:
        return whole_characters(self.target_tokenizer.tokenizer)

    def _tokens(self, text: str) -> tuple[int, ...]:
        tokens = tuple(map(int, self.target_tokenizer.encode(text)))
        if self.target_tokenizer.unk_id in tokens:
            raise ConfigError(f"{text}: the vocabulary of translations does not hold this; leave it out.")
        return tokens


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name}: must be {' or '.join(known)}, not {value}.")


def _write(path: str | Path, mode: str, text: str) -> None:
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RunError(f"{path}: the translations cannot be written {unwritten(error)}.") from error
