"""The packages that speech needs, which are installed on request only."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import ConfigError

__all__ = ["speech_package"]

_NAMES = {"soundfile": "soundfile", "soxr": "soxr", "kaldi_native_fbank": "kaldi-native-fbank"}


def speech_package(module: str, task: str) -> ModuleType:
    """Import one of the packages for speech.

    Args:
        module: as Python imports it.
        task: what needs it, to begin a sentence with.

    Raises:
        ConfigError: if it is not installed, or lacks a library of the system.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{task} needs {_NAMES[module]}, which is not installed; run: pip install 'recurra[speech]'."
        ) from error
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"{task} needs {_NAMES[module]}, which cannot be loaded ({error}); run: pip install --force-reinstall "
            "'recurra[speech]'."
        ) from error
