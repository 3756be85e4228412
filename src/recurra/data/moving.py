"""Moving batches to the device of a training."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["moved"]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device."""
    # From pinned memory the copy runs beside the computation; elsewhere `to` is all there is to do.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
