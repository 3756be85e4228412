"""Largest values of settings, in one place so that configurations, options and calls from Python agree."""

__all__ = ["LARGEST", "MOST_UNITS", "WIDEST_BEAM"]

LARGEST = 2**53
"""The largest whole number of any setting; JSON readers that use floating point keep integers exactly up to here."""

MOST_UNITS = 1_000_000
"""The widest layer; a weight matrix has the product of two widths."""

WIDEST_BEAM = 100_000
"""The most hypotheses that a beam search keeps."""
