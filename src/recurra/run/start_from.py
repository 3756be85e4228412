"""Starting a training from what another run has learnt: its tokens, and the parts of its network that fit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import registry
from ..config.sections import TokenizerConfig
from ..errors import ConfigError, RunError
from ..files import regular, unwritten
from ..registry import Part, System
from .directory import Run, read_run
from .hub import fetch
from .own_cell import model_settings
from .weights import read_weights

__all__ = ["Taken", "find_start", "parts_of", "settings_of", "take_files", "take_parts"]


class Taken(NamedTuple):
    """What a training has taken from another run, by the names of the parts, and why it left the others."""

    taken: list[str]
    left: dict[str, str]

    def __str__(self) -> str:
        left = ", ".join(f"{name} ({why})" for name, why in self.left.items())
        return f"taken are {', '.join(self.taken)}" + (f"; left are {left}" if left else "")


def find_start(config: Any) -> Run:
    """The run that `training.start_from` names, of whatever system.

    Raises:
        RunError: if there is no such run.
        ConfigError: if it was written by a newer version.
    """
    return read_run(fetch(config.training.start_from))


def settings_of(name: str, task: str | None) -> dict[str, Any]:
    """Those sections of a run's configuration that a training from it takes over.

    Args:
        name: a run directory, or USER/NAME on the Hub.
        task: that is to be trained; None: the run's own. From a run of another system the tokenizer is taken, and what
            the shapes of the parts that both have follow from.

    Raises:
        RunError, ConfigError: as `find_start` does.
    """
    start = read_run(fetch(name))
    if task is not None and task != start.system.name:
        tokenizer = getattr(start.config, "tokenizer", None)
        system = registry.find(task)
        has_tokens = "tokenizer" in registry.resolve(system.schema).model_fields
        found = {"tokenizer": _shared(tokenizer)} if tokenizer is not None and has_tokens else {}
        shape = _shape(start, system)
        return found | ({"model": shape} if shape else {})
    config = start.config.model_copy(update={"model": model_settings(start)})
    sections = {"task", "tokenizer", "model", "decoding"}
    taken: dict[str, Any] = config.model_dump(mode="json", include=sections)
    return taken


def take_files(start: Run, run: Run) -> None:
    """Copy what another network needs beside its weights, such as its tokenizer, if this one may have the same.

    It may where its system needs files of these names, and the two `tokenizer` sections agree.

    Raises:
        RunError: if a file cannot be read or written.
    """
    tokenizers = [getattr(each.config, "tokenizer", None) for each in (start, run)]
    sections = [None if each is None else _shared(each) for each in tokenizers]
    same_system = start.system.name == run.system.name
    agree = tokenizers[0] == tokenizers[1] if same_system else sections[0] == sections[1]
    names = _token_files(start.files)
    if not agree or names not in map(_token_files, run.system.files):
        return
    for name in names:
        try:
            shutil.copyfile(regular(start.path / name), run.path / name)
        except OSError as error:
            raise RunError(f"{run.path / name}: cannot be copied from {start.path} {unwritten(error)}.") from error


def take_parts(model: nn.Module, run: Run, start: Run) -> Taken:
    """Give a network those parts of another run's best weights that fit.

    A part fits if the other network has a part of its name with weights of the same names and shapes, and if both runs
    have the same tokenizer files, where it has a row for each token, and the same files that it needs besides.

    Raises:
        RunError: if the other run has no weights.
        ConfigError: if no part fits.
    """
    others = parts_of(start.system.parts, read_weights(start))
    own = parts_of(run.system.parts, model.state_dict())
    names = _token_files(run.files)
    same_tokens = names == _token_files(start.files) and _same_files(start, run, names)
    result = Taken([], {})
    if same_tokens and names:
        result.taken.append("tokenizer")
    elif names:
        result.left["tokenizer"] = "another one is configured"
    for part in run.system.parts:
        if part.name not in own:
            continue
        foreign = next((name for name in part.of_files if not _same_files(start, run, (name,))), "")
        why = _unfit(part, own[part.name], others.get(part.name), same_tokens, foreign)
        if why:
            result.left[part.name] = why
            continue
        with torch.no_grad():
            for name, weight in own[part.name].items():
                weight.copy_(others[part.name][name])
        result.taken.append(part.name)
    if all(name == "tokenizer" for name in result.taken):
        left = ", ".join(f"{name}: {why}" for name, why in result.left.items())
        raise ConfigError(f"training.start_from: no part of {start.path} fits this network ({left}).")
    return result


def parts_of(parts: tuple[Part, ...], weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights of each part that has any, by what stands after its prefix."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        for part in parts:
            prefix = next((prefix for prefix in part.prefixes if name.startswith(prefix)), None)
            if prefix is not None:
                found.setdefault(part.name, {})[name.removeprefix(prefix)] = weight
    return found


def _unfit(
    part: Part, own: Mapping[str, Tensor], other: Mapping[str, Tensor] | None, same_tokens: bool, foreign: str
) -> str:
    """Why a part of another network does not fit; empty if it does."""
    if other is None:
        return "it has none"
    if part.of_tokens and not same_tokens:
        return "of other tokens"
    if foreign:
        return f"of another {foreign}"
    if {name: weight.shape for name, weight in own.items()} != {name: weight.shape for name, weight in other.items()}:
        return "of another shape"
    return ""


def _token_files(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name.startswith("tokenizer."))


def _same_files(start: Run, run: Run, names: tuple[str, ...]) -> bool:
    try:
        return all(regular(start.path / name).read_bytes() == regular(run.path / name).read_bytes() for name in names)
    except OSError:
        return False


def _shape(start: Run, system: System) -> dict[str, Any]:
    """Settings of a run's model that the shapes of those of its parts follow from which another system has too."""
    own = {part.name: part for part in system.parts}
    model = model_settings(start)
    found: dict[str, Any] = {}
    for part in start.system.parts:
        wanted = own[part.name].settings if part.name in own else ()
        found |= {key: getattr(model, key) for key in part.settings if key in wanted}
        found |= {key: value for key, value in part.implied if key in wanted}
    return found


def _shared(section: TokenizerConfig) -> dict[str, Any]:
    """What the tokenizer sections of all systems have."""
    return section.model_dump(mode="json", include=set(TokenizerConfig.model_fields))
