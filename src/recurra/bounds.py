"""Numbers beyond which a setting is a slip of the hand, kept together so that files, options and calls agree."""

__all__ = ["LARGEST", "MOST_UNITS", "WIDEST_BEAM"]

LARGEST = 2**53
"""Any whole number: up to here every format that a run is written in keeps it exactly."""

MOST_UNITS = 1_000_000
"""The width of a layer, which weights multiply by another width."""

WIDEST_BEAM = 100_000
"""Hypotheses that a search keeps side by side."""
