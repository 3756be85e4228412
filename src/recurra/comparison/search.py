"""Random search with one budget for all contestants: where settings are drawn from, and what each trial draws.

Random search finds good settings with fewer trials than a grid, because a grid wastes its trials on settings that do
not matter (Bergstra & Bengio 2012, "Random search for hyper-parameter optimization"). A drawn value depends on the
study's seed, the trial's number and the key alone. So trials can run side by side or on several machines without
drawing the same values, every contestant gets the same draws, and a further key leaves the draws of the others alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import yaml

from ..bounds import LARGEST
from ..errors import ConfigError
from ..names import nearest
from ..strict_yaml import read_yaml

__all__ = ["Dimension", "Scale", "default_space", "draw", "read_space"]

Scale = Literal["log", "linear", "choice"]

_SHAPE = "write it as [low, high, log], [low, high, linear] or [value, value, ..., choice]"
_MOST_CHOICES = 1000


@dataclass(frozen=True)
class Dimension:
    """A key of the configuration and the values that it may get.

    Attributes:
        key: such as `training.learning_rate`.
        values: low and high, or what is chosen from.
        scale: log draws the logarithm evenly between low and high, linear the number itself, choice one of the values.
        whole: whether whole numbers are drawn, low and high included.
    """

    key: str
    values: tuple[Any, ...]
    scale: Scale
    whole: bool = False

    @classmethod
    def of(cls, key: str, given: Any) -> Self:
        """The dimension that a list of values with the scale at its end describes.

        Whole numbers are drawn where low and high are written as such and are at least 1: [16, 256, log].

        Raises:
            ConfigError: if it is no such list.
        """
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2:
            raise ConfigError(f"{key}: is no range of values; {_SHAPE}.")
        *values, scale = given
        if scale not in get_args(Scale):
            guess = nearest(str(scale), get_args(Scale))
            hint = f"did you mean {guess}?" if guess else _SHAPE + "."
            raise ConfigError(f"{key}: there is no scale {scale}; {hint}")
        if scale == "choice":
            if len(values) > _MOST_CHOICES:
                raise ConfigError(f"{key}: has {len(values):,} choices; give at most {_MOST_CHOICES:,}.")
            return cls(key, tuple(values), scale)
        numbers = [value for value in values if type(value) in (int, float) and abs(value) <= LARGEST]
        if len(numbers) != 2 or len(values) != 2 or not all(map(math.isfinite, numbers)):
            raise ConfigError(f"{key}: a {scale} range needs two numbers, low and high; {_SHAPE}.")
        low, high = numbers
        if low >= high or (scale == "log" and low <= 0):
            least = "above 0 and " if scale == "log" else ""
            raise ConfigError(f"{key}: low must be {least}below high, but they are {low:g} and {high:g}; swap them.")
        return cls(key, (low, high), scale, all(type(number) is int for number in numbers) and low >= 1)

    @property
    def described(self) -> list[Any]:
        """The list that `of` takes."""
        return [*self.values, self.scale]

    def at(self, share: float) -> Any:
        """The value at a share of the way, from 0 up to but not including 1."""
        if self.scale == "choice":
            return self.values[int(share * len(self.values))]
        low, high = self.values
        # Each whole number gets a piece of the range, from half below it to half above.
        if self.whole:
            low, high = low - 0.5, high + 0.5
        if self.scale == "log":
            found = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            found = low + share * (high - low)
        if self.whole:
            return min(max(round(found), self.values[0]), self.values[1])
        # Four digits are enough for settings, and people can read them.
        return float(f"{found:.4g}")


def draw(space: Sequence[Dimension], seed: int, trial: int) -> dict[str, Any]:
    """The settings of a trial: for each key a value.

    Args:
        space: what is drawn.
        seed: of the study.
        trial: its number, from 0.
    """
    found = {}
    for dimension in space:
        # A counter-based generator (Salmon et al. 2011): other counters give independent numbers.
        sequence = np.random.SeedSequence(seed, spawn_key=(trial, zlib.crc32(dimension.key.encode())))
        found[dimension.key] = dimension.at(float(np.random.Generator(np.random.Philox(sequence)).random()))
    return found


def default_space(config: Any) -> list[Dimension]:
    """The learning rate within a factor of 8 of the configuration's, and those dropout rates that its network has.

    A learning rate matters more than any other setting of an LSTM (Greff et al. 2017, "LSTM: A search space odyssey",
    section V.D). Rates of dropout are drawn evenly from 0 to 0.5; the rate between layers only if there are several.

    Args:
        config: in the schema of its system.
    """
    rate = config.training.learning_rate
    space = [Dimension("training.learning_rate", (rate / 8, rate * 8), "log")]
    layers = getattr(config.model, "num_layers", 2)
    known = type(config.model).model_fields
    for name in ("dropout", "input_dropout", "output_dropout"):
        if name in known and (layers > 1 or name != "dropout"):
            space.append(Dimension(f"model.{name}", (0.0, 0.5), "linear"))
    return space


def read_space(path: str | Path) -> list[Dimension]:
    """The dimensions in a file of YAML, one a line: `training.learning_rate: [0.0005, 0.05, log]`.

    Raises:
        ConfigError: if the file is missing, is not YAML, or holds something else.
    """
    try:
        given = read_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML ({getattr(error, 'problem', error)}).") from error
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{path}: names no keys; {_SHAPE}, after a key such as training.learning_rate.")
    try:
        return [Dimension.of(str(key), value) for key, value in given.items()]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
