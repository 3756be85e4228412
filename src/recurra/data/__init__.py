"""Data: readers, tokenisers and batching, one file a kind of data."""

from __future__ import annotations

__all__: list[str] = []
