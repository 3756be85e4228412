"""One utterance's prefix beam search over frames: all hypotheses of the beam in one array operation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .beam_stream import RecogniserBeam
from .label_scoring import Floats, Fusion, Scored, highest
from .label_tree import FRAMES_BETWEEN, LabelNode, LabelTree, agree, path_to
from .recognized import LabelSpan, Recognized
from .span_chain import SpanChain, drop_first, unroll

__all__ = ["CTCBeam"]

Node = LabelNode[Scored]


@dataclass(frozen=True)
class _Paths:
    """Of each hypothesis, what is known of the paths that end with a blank and of those that end with its last label.

    Attributes:
        blank_sum, label_sum: log of the sum of all of them.
        blank_best, label_best: log of the best of them.
        start, shares: the first frame of the last label on the best one that ends with it, and the sum of the label's
            probabilities from there on.
        before: the labels before the last one on the best path that ends with it.
        closed: all labels on the best path that ends with a blank.
    """

    blank_sum: Floats
    label_sum: Floats
    blank_best: Floats
    label_best: Floats
    start: npt.NDArray[np.int64]
    shares: Floats
    before: list[SpanChain | None]
    closed: list[SpanChain | None]

    def take(self, rows: npt.NDArray[np.int64]) -> _Paths:
        """Those of some hypotheses, in this order."""
        numbers = rows.tolist()
        return _Paths(
            self.blank_sum[rows],
            self.label_sum[rows],
            self.blank_best[rows],
            self.label_best[rows],
            self.start[rows],
            self.shares[rows],
            [self.before[row] for row in numbers],
            [self.closed[row] for row in numbers],
        )

    def sums(self) -> Floats:
        """log of the sum of all paths of each hypothesis."""
        return np.logaddexp(self.blank_sum, self.label_sum)


class CTCBeam:
    """The live hypotheses after the frames so far, K at most; V is the number of labels, the blank included.

    Of each hypothesis the search knows the log-probability of all paths that end with a blank and of all that end with
    its last label (Graves 2006; Hannun et al. 2014, algorithm 1), and the same of the best one of these paths, with
    the frames of its labels.

    Args:
        options: of the beam.
        blank: the label that stands for none.
        fusion: what is added to the log-probabilities.
    """

    def __init__(self, options: RecogniserBeam, blank: int, fusion: Fusion) -> None:
        self._options, self._blank, self._fusion = options, blank, fusion
        self._threshold = options.threshold
        self._tree: LabelTree[Scored] = LabelTree(fusion.begin())
        self._frame = 0
        self._settled: list[LabelSpan] = []
        never = np.full(1, -np.inf)
        self._paths = _Paths(np.zeros(1), never, np.zeros(1), never, np.zeros(1, np.int64), np.zeros(1), [None], [None])
        self._set_nodes([self._tree.root])

    def read(self, log_probabilities: Floats) -> None:
        """Read a frame (V,)."""
        if not self._nodes:
            return
        begun = log_probabilities > self._threshold
        begun[self._blank] = False
        columns = begun.nonzero()[0]
        column_of = np.full(len(log_probabilities) + 1, -1)
        column_of[columns] = np.arange(len(columns))
        # The root's last label is -1, and the last place is free for it.
        repeated = column_of[self._last]
        old, sums = self._paths, self._paths.sums()
        longer = sums[:, np.newaxis] + log_probabilities[columns]
        again = (repeated >= 0).nonzero()[0]
        # A label after itself is a new one only where a blank is between them.
        longer[again, repeated[again]] = old.blank_sum[again] + log_probabilities[self._last[again]]
        paths = self._go_on(log_probabilities, sums)
        for row in ((self._parent_place >= 0) & (repeated >= 0)).nonzero()[0].tolist():
            self._meet(paths, row, longer, int(repeated[row]), log_probabilities)
        scores = paths.sums() + self._totals
        if not len(columns) and len(scores) <= self._options.beam and scores.min() > -np.inf:
            # All go on, and none grows.
            self._paths = paths
        else:
            candidates = longer + (self._totals[:, np.newaxis] + self._gains[:, columns])
            candidates = np.concatenate([scores, candidates.ravel()])
            chosen = highest(candidates, self._options.beam, self._options.most_behind)
            self._choose(paths, scores, chosen, longer, columns, log_probabilities)
        self._frame += 1
        if self._frame % FRAMES_BETWEEN == 0:
            self._settle()
            self._tree.keep_only(self._nodes)

    def _go_on(self, log_probabilities: Floats, sums: Floats) -> _Paths:
        """The same hypotheses, by a blank or by their last label."""
        old, own, blank = self._paths, log_probabilities[self._last], log_probabilities[self._blank]
        closed = list(old.closed)
        for row in (old.label_best > old.blank_best).nonzero()[0].tolist():
            closed[row] = SpanChain(old.before[row], self._open_span(row))
        return _Paths(
            sums + blank,
            old.label_sum + own,
            np.maximum(old.blank_best, old.label_best) + blank,
            old.label_best + own,
            old.start.copy(),
            old.shares + np.exp(own),
            list(old.before),
            closed,
        )

    def _meet(self, paths: _Paths, row: int, longer: Floats, column: int, log_probabilities: Floats) -> None:
        """Add the paths by which a hypothesis becomes another one of the beam to those of the other one."""
        parent, label = int(self._parent_place[row]), int(self._last[row])
        paths.label_sum[row] = np.logaddexp(paths.label_sum[row], longer[parent, column])
        longer[parent, column] = -np.inf
        best = self._best_before(parent, label) + log_probabilities[label]
        if best > paths.label_best[row]:
            paths.label_best[row] = best
            paths.start[row], paths.shares[row] = self._frame, np.exp(log_probabilities[label])
            paths.before[row] = self._chain(paths, parent, label)

    def _choose(
        self,
        paths: _Paths,
        scores: Floats,
        chosen: npt.NDArray[np.int64],
        longer: Floats,
        columns: npt.NDArray[np.int64],
        log_probabilities: Floats,
    ) -> None:
        """Go on with the chosen ones of the hypotheses, and after them of those that are longer by a label."""
        stays = chosen < len(scores)
        flat = np.where(stays, 0, chosen - len(scores))
        origin = np.where(stays, chosen, flat // max(len(columns), 1)).astype(np.int64)
        new = (~stays).nonzero()[0]
        rows, column = origin[new], flat[new] % max(len(columns), 1)
        labels = columns[column]
        pairs = list(zip(rows.tolist(), labels.tolist(), strict=True))
        grown = self._longer_nodes([self._nodes[row] for row, _ in pairs], [label for _, label in pairs])
        kept = [self._nodes[row] for row in origin[stays].tolist()]
        if not any(node.known.ending > -math.inf for node in [*kept, *grown]):
            origin = np.append(origin, self._still_to_end(scores)).astype(np.int64)
        taken = paths.take(origin)
        nodes = [self._nodes[row] for row in origin.tolist()]
        taken.blank_sum[new] = taken.blank_best[new] = -np.inf
        taken.label_sum[new] = longer[rows, column]
        taken.start[new], taken.shares[new] = self._frame, np.exp(log_probabilities[labels])
        for place, node, (row, label) in zip(new.tolist(), grown, pairs, strict=True):
            nodes[place] = node
            taken.label_best[place] = self._best_before(row, label) + log_probabilities[label]
            taken.before[place], taken.closed[place] = self._chain(paths, row, label), None
        self._paths = taken
        self._set_nodes(nodes)

    def _best_before(self, row: int, label: int) -> float:
        """The best path of a hypothesis by which the label can follow it."""
        blank, last = float(self._paths.blank_best[row]), float(self._paths.label_best[row])
        return blank if label == self._last[row] else max(blank, last)

    def _chain(self, paths: _Paths, row: int, label: int) -> SpanChain | None:
        """The labels of that path."""
        return self._paths.closed[row] if label == self._last[row] else paths.closed[row]

    def settled(self) -> list[LabelSpan]:
        """The labels that were settled since the last time."""
        settled, self._settled = self._settled, []
        return settled

    def partial(self) -> list[LabelSpan]:
        """The unsettled labels of the hypothesis that is the best if more is to come."""
        if not self._nodes:
            return []
        return self._spans(int((self._paths.sums() + self._totals).argmax()))

    def finish(self, count: int) -> list[Recognized]:
        """The best hypotheses if nothing more comes, the best first; of each only what is not settled yet."""
        sums = self._paths.sums()
        scores = sums + self._totals + [node.known.ending for node in self._nodes]
        order = [row for row in np.argsort(-scores, kind="stable").tolist() if scores[row] > -np.inf]
        return [Recognized(self._spans(row), float(sums[row]), float(scores[row])) for row in order[:count]]

    def _still_to_end(self, scores: Floats) -> list[int]:
        """The best hypothesis that may end, if there is one.

        It goes on beside the beam when no other may end, so that a lexicon has something to give out at any time.
        """
        may_end = [row for row, node in enumerate(self._nodes) if node.known.ending > -math.inf]
        best = max(may_end, key=lambda row: float(scores[row]), default=-1)
        return [best] if best >= 0 and scores[best] > -np.inf else []

    def _longer_nodes(self, parents: list[Node], labels: list[int]) -> list[Node]:
        """The nodes of sequences that are longer by a label; those that are new are scored together."""
        found = [self._tree.find(parent, label) for parent, label in zip(parents, labels, strict=True)]
        missing = [place for place, node in enumerate(found) if node is None]
        if missing:
            before, own = [parents[place].known for place in missing], [labels[place] for place in missing]
            for place, scored in zip(missing, self._fusion.advance(before, own), strict=True):
                found[place] = self._tree.add(parents[place], labels[place], scored)
        return [node for node in found if node is not None]

    def _set_nodes(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        places = {node.number: place for place, node in enumerate(nodes)}
        self._parent_place = np.array(
            [-1 if node.parent is None else places.get(node.parent.number, -1) for node in nodes], np.int64
        )
        self._last = np.array([node.label for node in nodes], np.int64)
        self._totals = np.array([node.known.total for node in nodes])
        labels = self._tree.root.known.gains.size
        self._gains = np.array([node.known.gains for node in nodes]).reshape(len(nodes), labels)

    def _settle(self) -> None:
        """Hand out the labels with which all hypotheses begin, and forget them.

        The last label of a hypothesis is not among them as long as the next frame can be part of it.
        """
        if not self._nodes:
            return
        best = int((self._paths.sums() + self._totals).argmax())
        sequences = [path_to(node) for node in self._nodes]
        going_on = (self._paths.label_sum > -np.inf).tolist()
        ended = [max(len(path) - int(on), 0) for path, on in zip(sequences, going_on, strict=True)]
        spans = self._spans(best)[: ended[best]]
        forced = sum(span.end <= self._frame - self._options.settle_after for span in spans)
        kept, count = agree(sequences, ended, best, forced)
        if len(kept) < len(sequences):
            self._paths = self._paths.take(np.array(kept))
            self._set_nodes([self._nodes[row] for row in kept])
        if not count:
            return
        self._settled += spans[:count]
        sequences[best][count - 1].parent = None
        before, closed = self._paths.before, self._paths.closed
        for row, place in enumerate(kept):
            left = len(sequences[place]) - count
            # A chain of paths that cannot be is out of date.
            before[row] = drop_first(before[row], left - 1) if going_on[place] else None
            closed[row] = drop_first(closed[row], left) if self._paths.blank_best[row] > -np.inf else None

    def _open_span(self, row: int) -> LabelSpan:
        start = int(self._paths.start[row])
        share = min(float(self._paths.shares[row]) / (self._frame - start), 1.0)
        return LabelSpan(int(self._last[row]), start, self._frame, share)

    def _spans(self, row: int) -> list[LabelSpan]:
        """The labels of a hypothesis on its best path."""
        if self._paths.label_best[row] > self._paths.blank_best[row]:
            return [*unroll(self._paths.before[row]), self._open_span(row)]
        return unroll(self._paths.closed[row])
