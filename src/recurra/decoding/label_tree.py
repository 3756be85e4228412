"""The label sequences of a beam as a tree, so that one sequence is one node however a search comes to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

__all__ = ["FRAMES_BETWEEN", "LabelNode", "LabelTree", "agree", "path_to"]

Known = TypeVar("Known")

FRAMES_BETWEEN = 16
"""After so many frames a search hands out what is settled, and forgets what it does not need any more."""


class LabelNode(Generic[Known]):
    """A sequence of labels: that of its parent and one label more.

    Attributes:
        parent: None for the root, and where the beginning was cut off.
        label: -1 for the root.
        number: of this node alone.
        known: what the search knows of the sequence.
    """

    __slots__ = ("known", "label", "number", "parent")

    def __init__(self, parent: LabelNode[Known] | None, label: int, number: int, known: Known) -> None:
        self.parent = parent
        self.label = label
        self.number = number
        self.known = known


class LabelTree(Generic[Known]):
    """All sequences that a search has to do with.

    Args:
        known: what the search knows of the empty sequence.
    """

    def __init__(self, known: Known) -> None:
        self.root: LabelNode[Known] = LabelNode(None, -1, 0, known)
        self._count = 1
        self._children: dict[tuple[int, int], LabelNode[Known]] = {}

    def find(self, node: LabelNode[Known], label: int) -> LabelNode[Known] | None:
        """The sequence that is longer by a label, if the tree has it."""
        return self._children.get((node.number, label))

    def add(self, node: LabelNode[Known], label: int, known: Known) -> LabelNode[Known]:
        """Make the sequence that is longer by a label, which the tree does not have yet."""
        child = LabelNode(node, label, self._count, known)
        self._count += 1
        self._children[node.number, label] = child
        return child

    def keep_only(self, nodes: Iterable[LabelNode[Known]]) -> None:
        """Forget all sequences but these and their beginnings."""
        children: dict[tuple[int, int], LabelNode[Known]] = {}
        for node in nodes:
            here = node
            while here.parent is not None and (here.parent.number, here.label) not in children:
                children[here.parent.number, here.label] = here
                here = here.parent
        self._children = children


def path_to(node: LabelNode[Known]) -> list[LabelNode[Known]]:
    """The nodes after the root, or after the place where the beginning was cut off, up to this one."""
    path = []
    while node.parent is not None:
        path.append(node)
        node = node.parent
    path.reverse()
    return path


def agree(
    paths: Sequence[Sequence[LabelNode[Known]]], ended: Sequence[int], best: int, forced: int
) -> tuple[list[int], int]:
    """Which hypotheses go on together, and how many labels all of them begin with.

    Args:
        paths: of each hypothesis.
        ended: how many labels of each can get no more frames.
        best: which hypothesis the others must agree with.
        forced: in how many labels they must; at most what has ended of the best.
    """
    right = paths[best]
    kept = [
        row
        for row, path in enumerate(paths)
        if not forced or (ended[row] >= forced and path[forced - 1] is right[forced - 1])
    ]
    count = min(ended[row] for row in kept)
    while count and any(paths[row][count - 1] is not right[count - 1] for row in kept):
        count -= 1
    return kept, count
