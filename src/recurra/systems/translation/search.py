"""From ids of sources to ids of translations: the model's steps, one or several models, and the search over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.token_batches import PairBatch, group_by_length, pad
from ...decoding.beam_search import BeamOptions, beam_search
from ...decoding.characters import WholeCharacters
from ...decoding.constraints import Constraints
from ...decoding.greedy import write_outputs
from ...decoding.hypothesis import Hypothesis, StepOutput
from ...decoding.sampling import SamplingOptions, mix_seed, sample_generators
from ...decoding.state import State, select_rows
from ...errors import ConfigError
from ...models.decoder import DecoderState
from .config import DecodingConfig
from .network import EncoderDecoder

__all__ = ["SearchOptions", "greatest_length", "pair_log_probabilities", "translate_ids"]

Ids = npt.NDArray[np.uint32]

# Source positions of all rows of a batch, which bounds the memory that their annotations take.
_MOST_POSITIONS = 1 << 16

# Attention weights of all steps of a batch, which a search keeps to the end: 128 MiB in float32.
_MOST_WEIGHTS = 1 << 25


@dataclass(frozen=True)
class SearchOptions:
    """How translations are found.

    Attributes:
        beam: of the search.
        sampling: draw instead of searching; each source gives `beam.n_best` translations.
        seed: of the draws.
        batch_size: most sources translated side by side.
        characters: keeps outputs to whole characters; None: nothing need be kept.

    Raises:
        ConfigError: if the batch size is out of its range.
    """

    beam: BeamOptions
    sampling: SamplingOptions | None = None
    seed: int = 0
    batch_size: int = 32
    characters: WholeCharacters | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {self.batch_size}.")


def greatest_length(decoding: DecodingConfig, source_tokens: int) -> int:
    """Most tokens of a translation, unless a call asks for another number."""
    return int(decoding.max_length_ratio * source_tokens) + 10


def translate_ids(
    models: Sequence[EncoderDecoder],
    sources: Sequence[Ids],
    constraints: Sequence[Constraints],
    source_eos: int,
    target_eos: int,
    options: SearchOptions,
    numbers: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Hypothesis]]:
    """Translate sources, longest last, those of like length side by side.

    Args:
        models: in evaluation mode; of several, the mean of their probabilities decides.
        sources: ids of each, without the end; none empty.
        constraints: of each translation.
        source_eos, target_eos: the ends.
        options: how to search.
        numbers: of the sources, which with the seed alone decide what is drawn.
        progress: called with the sources done and the sources in all.

    Returns:
        For each source, in the order given, its hypotheses, the best first; none where the constraints allow none.
        Weights cover the source and its end.
    """
    width = options.beam.n_best if options.sampling is not None else options.beam.beam
    lengths = np.array([len(ids) + 1 for ids in sources], np.int64)
    order = np.argsort(lengths, kind="stable")
    results: list[list[Hypothesis]] = [[] for _ in sources]
    done = 0
    # Every row counts as the longest, so a bound on positions and one on rows are both kept.
    for group in group_by_length(order, lengths, max(_MOST_POSITIONS // width, 1)):
        longest = max(constraints[index].max_length for index in group) + 1
        rows = min(options.batch_size, max(_MOST_WEIGHTS // (width * int(lengths[group[-1]]) * longest), 1))
        for start in range(0, len(group), rows):
            chosen = [int(index) for index in group[start : start + rows]]
            found = _translate_batch(models, sources, constraints, numbers, chosen, source_eos, target_eos, options)
            for index, hypotheses in zip(chosen, found, strict=True):
                results[index] = hypotheses
            done += len(chosen)
            if progress is not None:
                progress(done, len(sources))
    return results


def _translate_batch(
    models: Sequence[EncoderDecoder],
    sources: Sequence[Ids],
    constraints: Sequence[Constraints],
    numbers: Sequence[int],
    chosen: Sequence[int],
    source_eos: int,
    target_eos: int,
    options: SearchOptions,
) -> list[list[Hypothesis]]:
    lengths = [len(sources[index]) + 1 for index in chosen]
    own = [constraints[index] for index in chosen]
    state = (*_encode(models, [sources[index] for index in chosen], source_eos), _spelling(own))
    step = _step_of(models, options.characters)
    beam = options.beam
    # What is required has to be steered to, which only a search does.
    if options.sampling is not None or (beam.beam == 1 and not any(each.required for each in own)):
        count = beam.n_best
        repeated = torch.arange(len(chosen), device="cpu").repeat_interleave(count)
        generators = None
        if options.sampling is not None:
            seeds = [mix_seed(options.seed, numbers[index]) for index in chosen]
            generators = [generator for seed in seeds for generator in sample_generators(seed, count)]
        flat = write_outputs(
            step,
            select_rows(state, repeated) if count > 1 else state,
            target_eos,
            [own[row] for row in repeated.tolist()],
            sampling=options.sampling,
            generators=generators,
            source_lengths=[lengths[row] for row in repeated.tolist()],
            length_penalty=beam.length_penalty,
            coverage_penalty=beam.coverage_penalty,
        )
        each = [[one for one in flat[at : at + count] if one is not None] for at in range(0, len(flat), count)]
        return [sorted(written, key=lambda one: -one.score) for written in each]
    selection = _Selection(len(chosen))
    return beam_search(step, state, target_eos, beam, own, lengths, selection)


class _Selection:
    """Picks rows of states, and of what was read only where a row's source is another one than before.

    The hypotheses of a source share what was read of it, which is by far the largest part of a state.

    Args:
        sources: how many rows there are, each of its own source.
    """

    def __init__(self, sources: int) -> None:
        self._sources = torch.arange(sources, device="cpu")

    def __call__(self, states: State, rows: Tensor) -> State:
        chosen = self._sources[rows]
        same = torch.equal(chosen, self._sources)
        self._sources = chosen
        *models, spelling = states
        return *(self._select(state, rows, same) for state in models), select_rows(spelling, rows)

    def _select(self, state: DecoderState, rows: Tensor, same: bool) -> DecoderState:
        if not same:
            return cast(DecoderState, select_rows(state, rows))
        # Dropping what would be picked again as it is, and putting it back.
        light = select_rows(state._replace(memory=None, context=None, copied=None), rows)
        return cast(DecoderState, light._replace(memory=state.memory, context=state.context, copied=state.copied))


@torch.inference_mode()
def _encode(models: Sequence[EncoderDecoder], sources: Sequence[Ids], source_eos: int) -> State:
    """The states of all models before the first step, side by side in a tuple."""
    tokens = pad(sources, source_eos, source_eos)
    lengths = torch.tensor([len(ids) + 1 for ids in sources], device="cpu")
    return tuple(model.encode(tokens.to(model.output_bias.device), lengths) for model in models)


def _spelling(constraints: Sequence[Constraints]) -> Tensor:
    """(1, B, 2): where each output stands in a character, and the tokens that may be written before it must end."""
    return torch.tensor([[[0, each.max_length + 1] for each in constraints]], device="cpu")


def _step_of(
    models: Sequence[EncoderDecoder], characters: WholeCharacters | None
) -> Callable[[Tensor, State], StepOutput]:
    def step(tokens: Tensor, states: State) -> StepOutput:
        *own, spelling = states
        outputs = [
            model.step(tokens.unsqueeze(0).to(model.output_bias.device), state)
            for model, state in zip(models, own, strict=True)
        ]
        each = [output.logits[0].float().log_softmax(-1) for output in outputs]
        together = each[0] if len(models) == 1 else torch.stack(each).logsumexp(0) - math.log(len(models))
        weights = [output.weights[0] for output in outputs if output.weights is not None]
        attended = None if not weights else weights[0] if len(weights) == 1 else torch.stack(weights).mean(0)
        if characters is not None:
            places, left = spelling[0].unbind(-1)
            places, left = characters.following[places, tokens].long(), left - 1
            together = together.cpu()
            characters.apply(together, places, left == 0)
            spelling = torch.stack([places, left], dim=-1).unsqueeze(0)
        return StepOutput(together, (*(output.state for output in outputs), spelling), attended)

    return step


@torch.inference_mode()
def pair_log_probabilities(models: Sequence[EncoderDecoder], batch: PairBatch) -> tuple[Tensor, Tensor | None]:
    """log P of every target token of a batch, (T, B), zero beyond a target's end, and the attention (T, B, S).

    Args:
        models: as in `translate_ids`.
        batch: pairs.
    """
    logs, weights = [], []
    for model in models:
        device = model.output_bias.device
        wanted = batch.target.to(device).clamp(min=0).unsqueeze(-1)
        found: list[Tensor] = []
        attended: list[Tensor] = []
        first = 0
        for output in model.chunks(batch.source.to(device), batch.lengths, batch.before.to(device)):
            each = output.logits.float().log_softmax(-1)
            found.append(each.gather(-1, wanted[first : first + len(each)]).squeeze(-1).cpu().double())
            first += len(each)
            if output.weights is not None:
                attended.append(output.weights.cpu())
        logs.append(torch.cat(found))
        if attended:
            weights.append(torch.cat(attended))
    together = torch.stack(logs)
    mean = together[0] if len(models) == 1 else together.logsumexp(0) - math.log(len(models))
    return mean.masked_fill(batch.target < 0, 0.0), torch.stack(weights).mean(0) if weights else None
