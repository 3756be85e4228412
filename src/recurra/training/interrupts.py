"""Ctrl-C, SIGTERM and a terminal that goes away as a request to stop after the step, so that nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupts", "dying_of_interrupts", "ending_signals"]


def _catchable() -> list[int]:
    """SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    numbers: list[int] = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


@contextmanager
def dying_of_interrupts() -> Iterator[None]:
    """Within this context Ctrl-C ends the process at once and without a message; for imports, before any work.

    While torch is imported, a KeyboardInterrupt can be lost or abort the process. A handler that somebody else has set
    stays in place.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that what was begun can be cleaned up.

    Outside the main thread, where Python allows no handlers, they do what they did before.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in _catchable()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupts:
    """A context in which the first SIGINT, SIGTERM or SIGHUP sets `requested`.

    A second SIGINT raises KeyboardInterrupt; a SIGHUP that is ignored, as under nohup, stays so.

    Outside the main thread, where Python allows no handlers, signals do what they did before.

    Args:
        notify: called once, when the first signal comes.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.requested = False
        self._notify = notify
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, *_catchable())}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        self._notify()
