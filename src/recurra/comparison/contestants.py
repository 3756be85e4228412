"""The contestants of a comparison: cells, perhaps with options, each at the width that makes the comparison fair."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from .. import cells, registry
from ..config.load import load_config, parse_assignment
from ..config.sections import TRANSFORMER
from ..errors import ConfigError
from ..names import nearest
from ..run.directory import Run, begun_run
from ..run.own_cell import accept, is_own
from .search import Dimension
from .sizes import count_weights, equal_weights, equal_widths

__all__ = ["Contestant", "Equal", "parse_contestants", "set_at", "sized"]

Equal = Literal["weights", "widths"]

# A plus sign before a key, and not one within a number such as 1e+3.
_OPTION = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")


@dataclass(frozen=True)
class Contestant:
    """A cell, what is set for it alone, and its size.

    Attributes:
        name: as the user wrote it, such as `lstm` or `lstm+model.forget_bias=0`.
        cell: listed by `recurra cells`, FILE.py:CLASS, or transformer.
        settings: keys of the configuration and their values.
        width: units of each layer; 0 while it is not known.
        weights: of the whole network; 0 while it is not known.
    """

    name: str
    cell: str
    settings: Mapping[str, Any]
    width: int = 0
    weights: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """What CELL or CELL+section.key=value+... names.

        Raises:
            ConfigError: if there is no such cell, or an option is no assignment.
        """
        cell, *options = _OPTION.split(text)
        known = [*cells.names(), TRANSFORMER]
        if cell not in known and not cell.rpartition(":")[0].endswith(".py"):
            guess = nearest(cell, known)
            hint = f"did you mean {guess}?" if guess else "`recurra cells` lists them."
            raise ConfigError(f"--cells: there is no cell {cell}; {hint}")
        settings: dict[str, Any] = {}
        for option in options:
            key = option.partition("=")[0]
            value: Any = parse_assignment(option)
            for part in key.split("."):
                value = value[part]
            if key in settings:
                raise ConfigError(f"--cells {text}: sets {key} twice; leave out one.")
            settings[key] = value
        return cls(text, cell, settings)

    def overrides(self, width: int | None = None) -> list[dict[str, Any]]:
        """What is laid over the configuration: the cell, the width, and the options."""
        model = {"model": {"cell": self.cell, "hidden_size": self.width if width is None else width}}
        return [model, *(set_at(key, value) for key, value in self.settings.items())]


def set_at(key: str, value: Any) -> dict[str, Any]:
    """A value at its place in a configuration: `a.b` and 1 give {"a": {"b": 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    tree: dict[str, Any] = value
    return tree


def parse_contestants(names: Sequence[str]) -> list[Contestant]:
    """The contestants of a list, whose parts may be parted by commas too.

    Raises:
        ConfigError: if there are fewer than two, or one stands twice.
    """
    words = [word.strip() for name in names for word in name.split(",") if word.strip()]
    if len(words) < 2:
        raise ConfigError("--cells: a comparison needs at least two cells, for example --cells lstm,gru.")
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise ConfigError(f"--cells: {twice} stands twice; name each cell once.")
    return [Contestant.parse(word) for word in words]


def sized(
    contestants: Sequence[Contestant], config: Any, equal: Equal, folder: Path, space: Sequence[Dimension] = ()
) -> list[Contestant]:
    """The contestants with widths, and the numbers of weights that their networks have.

    The data decide the sizes of vocabularies, so they are prepared once, as a training prepares them.

    Args:
        contestants: without sizes.
        config: complete, in the schema of its system; its network is the one whose size the others get.
        equal: weights gives each contestant the width at which its network has about as many weights as the
            configuration's; widths gives all of them the configuration's width.
        folder: a new one that the data are prepared in; it is removed.
        space: what is searched; with equal weights it must leave the number of weights as it is.

    Raises:
        ConfigError: if the networks cannot be built, no width comes near the number of weights, or a searched key
            changes it.
        DataError: if the data cannot be used.
    """
    from ..training.processes import Processes

    system = registry.find(config.task)
    network = registry.resolve(system.network)
    named = {contestant.name: contestant for contestant in contestants}
    with ExitStack() as held:
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        run = held.enter_context(begun_run(folder, _own_cell_in(folder, config), resume=False))
        _own_cell_in(folder, config)
        registry.resolve(system.prepare)(run, Processes(config.training))
        tree = config.model_dump(mode="json")

        def weights(name: str, width: int) -> int:
            try:
                changed = load_config(overrides=[tree, *named[name].overrides(width)])
                return _weights(network, replace(run, config=_own_cell_in(folder, changed)))
            except ConfigError as error:
                raise ConfigError(f"{name} with {width} units: {error}") from error

        reference = _weights(network, run)
        if equal == "widths":
            width = config.model.hidden_size
            if not isinstance(width, int):
                raise ConfigError("model.hidden_size: lists several sizes; --equal widths needs one.")
            found = equal_widths(named, width, weights)
        else:
            for dimension in space:
                values = dimension.values if dimension.key.startswith("model.") else ()
                for value in values:
                    changed = load_config(overrides=[tree, set_at(dimension.key, value)])
                    count = _weights(network, replace(run, config=_own_cell_in(folder, changed)))
                    if count != reference:
                        raise ConfigError(
                            f"{dimension.key}: changes the number of weights, which is {reference:,} in the "
                            f"configuration and {count:,} with {value}; leave it out of the space, or give --equal "
                            "widths."
                        )
            found = equal_weights(named, reference, weights)
    return [replace(named[each.cell], width=each.width, weights=each.weights) for each in found]


def _weights(network: Any, run: Run) -> int:
    return count_weights(lambda: network(run))


def _own_cell_in(folder: Path, config: Any) -> Any:
    """The configuration with the user's own cell, if it has one, named as a file of the folder, where it then lies."""
    if not is_own(config):
        return config
    path, _, class_name = config.model.cell.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file to take the cell {class_name} from.")
    # The user has named it.
    accept(file)
    if folder.is_dir() and not (folder / file.name).exists():
        shutil.copyfile(file, folder / file.name)
    return config.model_copy(update={"model": config.model.model_copy(update={"cell": f"{file.name}:{class_name}"})})
