"""Faults that were reported, each as the smallest input that showed it; a fault in some of them ends the process."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from . import reports_of_arguments, reports_of_graphs, reports_of_memory, reports_of_tensors
from .matrix import is_refusal

__all__ = ["REPORTS", "judge_report"]

REPORTS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for module in (reports_of_tensors, reports_of_memory, reports_of_arguments, reports_of_graphs)
    for function in module.REPORTS
}


def judge_report(report: Callable[[], None]) -> str:
    """ "right", "refused: " and the sentence in which the layer says that it will not, or what is wrong."""
    try:
        report()
    except Exception as error:
        return f"refused: {error}" if is_refusal(error) else "".join(traceback.format_exception(error)[-3:])
    return "right"
