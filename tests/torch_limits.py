"""What torch itself cannot do on some processors, so that there is nothing to compare with."""

from __future__ import annotations

import pytest
import torch

__all__ = ["needs_autocast", "runs_under_autocast"]


def runs_under_autocast(kind: str) -> bool:
    """Whether torch.nn's layer of a kind runs in bfloat16 under autocast on this processor; some lack it."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            getattr(torch.nn, kind)(3, 4)(torch.zeros(2, 1, 3))
    except RuntimeError:
        return False
    return True


def needs_autocast(kind: str) -> None:
    """Skip a test that compares with torch.nn under autocast where torch.nn does not run."""
    if not runs_under_autocast(kind):
        pytest.skip(f"torch's own {kind} does not run under autocast on this processor")
