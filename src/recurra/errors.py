"""Errors meant for the person at the keyboard: one sentence that says what was wrong, where, and what to do."""

from .shown import visible

__all__ = ["ConfigError", "DataError", "RecurraError", "RunError"]


class RecurraError(Exception):
    """Base of every error that recurra raises for wrong input; the message is one sentence fit to be shown alone.

    Messages quote names and lines of other people's files, so control characters are shown as escapes.
    """

    def __str__(self) -> str:
        return visible(super().__str__(), keep="\n")


class ConfigError(RecurraError):
    """A configuration key or value is wrong."""


class DataError(RecurraError):
    """Input data are missing, unreadable, wrongly encoded, empty or too short."""


class RunError(RecurraError):
    """A run directory or checkpoint is missing, foreign, damaged or cannot be written."""
