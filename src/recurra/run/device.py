"""The device that a name means."""

from __future__ import annotations

import torch

from ..errors import ConfigError

__all__ = ["find_device"]


def find_device(name: str, key: str) -> torch.device:
    """The device of a name; auto is the fastest that there is.

    Args:
        name: auto, cpu, cuda, cuda:1, mps.
        key: what the user set to that name, for the message.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}: {name!r} is not a device; write auto, cpu, cuda or mps.") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise ConfigError(f"{key}: this machine has no {name}; write auto to take what there is.")
    return device
