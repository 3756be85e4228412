"""The labels that a path has behind it, as a chain whose beginning many hypotheses share."""

from __future__ import annotations

from .recognized import LabelSpan

__all__ = ["SpanChain", "drop_first", "unroll"]


class SpanChain:
    """The last label of a path, and the chain of the labels before it; None stands for no labels."""

    __slots__ = ("before", "span")

    def __init__(self, before: SpanChain | None, span: LabelSpan) -> None:
        self.before = before
        self.span = span


def unroll(chain: SpanChain | None) -> list[LabelSpan]:
    """The labels of a chain, the first one first."""
    spans = []
    while chain is not None:
        spans.append(chain.span)
        chain = chain.before
    spans.reverse()
    return spans


def drop_first(chain: SpanChain | None, left: int) -> SpanChain | None:
    """Cut a chain behind its last `left` labels, for all chains that share the place."""
    if not left:
        return None
    link = chain
    for _ in range(left - 1):
        assert link is not None
        link = link.before
    assert link is not None
    link.before = None
    return chain
