"""One utterance's beam search through a transducer, frame after frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .beam_stream import RecogniserBeam
from .label_scoring import Floats, Fusion, Scored, highest
from .label_tree import FRAMES_BETWEEN, LabelNode, LabelTree, agree, path_to
from .recognized import LabelSpan, Recognized
from .span_chain import SpanChain, drop_first, unroll
from .state import State, gather_rows

if TYPE_CHECKING:
    from .transducer import Transducer

__all__ = ["TransducerBeam", "read_joint"]


class _Known(NamedTuple):
    """What is known of labels: their gains, and their row (J,) of the predictor with its place in a state."""

    scored: Scored
    row: Tensor
    state: State
    place: int


Node = LabelNode[_Known]


class _Hypothesis(NamedTuple):
    """Labels, log P of all alignments that write them, and log P and labels' frames of the best one."""

    node: Node
    total: float
    best: float
    chain: SpanChain | None

    @property
    def score(self) -> float:
        return self.total + self.node.known.scored.total


class TransducerBeam:
    """The live hypotheses after the frames so far, K at most.

    Args:
        model: the transducer.
        options: of the beam.
        labels_per_frame: the most labels in one frame.
        fusion: what is added to the log-probabilities.
    """

    def __init__(self, model: Transducer, options: RecogniserBeam, labels_per_frame: int, fusion: Fusion) -> None:
        self._model, self._options, self._labels_per_frame, self._fusion = model, options, labels_per_frame, fusion
        self._settled: list[LabelSpan] = []
        with torch.inference_mode():
            row, state = model.begin()
        self._tree: LabelTree[_Known] = LabelTree(_Known(fusion.begin(), row[0], state, 0))
        self._beam = [_Hypothesis(self._tree.root, 0.0, 0.0, None)]
        self._frame = 0

    @torch.inference_mode()
    def read(self, frame: Tensor) -> None:
        """Read a frame (D,) of the encoder."""
        # Hypotheses that have ended the frame, by the numbers of their labels' nodes.
        ended: dict[int, _Hypothesis] = {}
        going = self._beam
        for written in range(self._labels_per_frame + 1):
            if not going:
                break
            log_probabilities = read_joint(self._model, frame, torch.stack([one.node.known.row for one in going]))
            for hypothesis, value in zip(going, log_probabilities[:, self._model.blank].tolist(), strict=True):
                _end(ended, hypothesis, value)
            if written < self._labels_per_frame:
                going = self._longer(going, log_probabilities, self._bar(ended))
        self._beam = self._best(list(ended.values()))
        self._frame += 1
        if self._frame % FRAMES_BETWEEN == 0:
            self._settle()
            self._tree.keep_only([hypothesis.node for hypothesis in self._beam])

    def settled(self) -> list[LabelSpan]:
        """The labels that were settled since the last time."""
        settled, self._settled = self._settled, []
        return settled

    def partial(self) -> list[LabelSpan]:
        """The unsettled labels of the hypothesis that is the best if more is to come."""
        return unroll(max(self._beam, key=lambda each: each.score).chain) if self._beam else []

    def finish(self, count: int) -> list[Recognized]:
        """The best hypotheses if nothing more comes, the best first; of each only what is not settled yet."""
        found = [
            Recognized(unroll(one.chain), one.total, one.score + one.node.known.scored.ending) for one in self._beam
        ]
        found = [one for one in found if one.score > -math.inf]
        return sorted(found, key=lambda each: -each.score)[:count]

    def _settle(self) -> None:
        """Hand out the labels with which all hypotheses begin, and forget them."""
        if not self._beam:
            return
        best = max(range(len(self._beam)), key=lambda row: self._beam[row].score)
        paths = [path_to(hypothesis.node) for hypothesis in self._beam]
        spans = unroll(self._beam[best].chain)
        forced = sum(span.end <= self._frame - self._options.settle_after for span in spans)
        kept, count = agree(paths, [len(path) for path in paths], best, forced)
        if count:
            self._settled += spans[:count]
            paths[best][count - 1].parent = None
        self._beam = [
            self._beam[row]._replace(chain=drop_first(self._beam[row].chain, len(paths[row]) - count)) for row in kept
        ]

    def _bar(self, ended: dict[int, _Hypothesis]) -> float:
        """The score that a hypothesis must have to come into the beam still, if it only falls from now on.

        As in Graves (2012, algorithm 1), a frame is over when the beam is full of hypotheses that are better than all
        those that have not ended it.
        """
        scores = sorted((hypothesis.score for hypothesis in ended.values()), reverse=True)
        bar = scores[0] - self._options.most_behind
        return max(bar, scores[self._options.beam - 1]) if len(scores) >= self._options.beam else bar

    def _longer(self, going: Sequence[_Hypothesis], log_probabilities: Floats, bar: float) -> list[_Hypothesis]:
        """The best hypotheses that are a label longer than those that go on, with a score at the bar or above."""
        values = np.where(log_probabilities > self._options.threshold, log_probabilities, -np.inf)
        values[:, self._model.blank] = -np.inf
        if values.max() == -np.inf:
            return []
        gains = np.stack([one.node.known.scored.gains for one in going])
        scores = values + gains + np.array([[one.score] for one in going])
        scores[scores < bar] = -np.inf
        places = highest(scores.ravel(), self._options.beam, self._options.most_behind)
        rows, labels = np.unravel_index(places, scores.shape)
        pairs = list(zip(rows.tolist(), labels.tolist(), strict=True))
        nodes = self._longer_nodes([(going[row].node, label) for row, label in pairs])
        longer = []
        for node, (row, label) in zip(nodes, pairs, strict=True):
            value, one = float(values[row, label]), going[row]
            span = LabelSpan(label, self._frame, self._frame + 1, min(math.exp(value), 1.0))
            longer.append(_Hypothesis(node, one.total + value, one.best + value, SpanChain(one.chain, span)))
        return longer

    def _longer_nodes(self, pairs: Sequence[tuple[Node, int]]) -> list[Node]:
        """The nodes of sequences that are longer by a label; those that are new are read and scored together."""
        found = [self._tree.find(node, label) for node, label in pairs]
        missing = [place for place, node in enumerate(found) if node is None]
        if missing:
            new = [pairs[place] for place in missing]
            labels = [label for _, label in new]
            before = gather_rows([(node.known.state, node.known.place) for node, _ in new])
            rows, state = self._model.advance(torch.tensor(labels, device="cpu"), before)
            scored = self._fusion.advance([node.known.scored for node, _ in new], labels)
            for place, (node, label) in enumerate(new):
                known = _Known(scored[place], rows[place], state, place)
                found[missing[place]] = self._tree.add(node, label, known)
        return [node for node in found if node is not None]

    def _best(self, ended: list[_Hypothesis]) -> list[_Hypothesis]:
        """The K of highest score; beside them the best that may be an output, if none of them may."""
        scores = np.array([hypothesis.score for hypothesis in ended])
        best = [ended[place] for place in highest(scores, self._options.beam, self._options.most_behind).tolist()]
        if not any(one.node.known.scored.ending > -math.inf for one in best):
            others = [one for one in ended if one.node.known.scored.ending > -math.inf and one.score > -math.inf]
            if others:
                best.append(max(others, key=lambda each: each.score))
        return best


def read_joint(model: Transducer, frame: Tensor, rows: Tensor) -> Floats:
    """The joint's log-probabilities (N, V) in float64.

    Raises:
        ValueError: if they have another shape, or NaN.
    """
    values = model.joint(frame, rows).double().cpu().numpy()
    if values.shape != (len(rows), model.labels) or np.isnan(values).any():
        raise ValueError(f"the joint must give log-probabilities ({len(rows)}, {model.labels}) without NaN")
    return values


def _end(ended: dict[int, _Hypothesis], hypothesis: _Hypothesis, value: float) -> None:
    """End the frame of a hypothesis with a blank; alignments that write the same labels are added up."""
    total, best, chain = hypothesis.total + value, hypothesis.best + value, hypothesis.chain
    other = ended.get(hypothesis.node.number)
    if other is not None:
        total = float(np.logaddexp(total, other.total))
        if other.best >= best:
            best, chain = other.best, other.chain
    ended[hypothesis.node.number] = _Hypothesis(hypothesis.node, total, best, chain)
