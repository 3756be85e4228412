"""Reading, merging, checking and writing configurations: one strict tree of sections, in YAML and at the command line.

Each system has a schema of its own, chosen by the key `task`. An unknown key is an error that names the nearest known
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .. import registry
from ..errors import ConfigError
from ..names import nearest
from ..strict_yaml import DEEPEST, read_yaml, write_yaml
from .sections import CONFIG_VERSION, RunConfig

__all__ = ["load_config", "parse_assignment", "save_config"]


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn `section.key=value` into a nested mapping; the value is read as YAML.

    Raises:
        ConfigError: if there is no `=` or the value is not YAML.
    """
    path, equals, raw = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {text}: write it as section.key=value, for example training.max_steps=1000.")
    try:
        value: Any = read_yaml(raw)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"--set {_short(text)}: the value is not valid YAML ({problem}).") from error
    if path.count(".") > DEEPEST:
        raise ConfigError(f"--set {_short(text)}: there is no key in so many sections.")
    tree: dict[str, Any] = {}
    leaf = tree
    *sections, key = path.strip().split(".")
    for section in sections:
        leaf = leaf.setdefault(section, {})
    leaf[key] = value
    return tree


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[Mapping[str, Any]] = (),
    below: Mapping[str, Any] = {},
) -> Any:
    """Read a YAML configuration (or start from the defaults) and lay nested overrides over it, the last one winning.

    Args:
        path: of the file; None: there is none.
        overrides: what wins over it.
        below: what it wins over.

    Returns:
        The configuration in the schema of its `task`; where none is named, that of the first system.

    Raises:
        ConfigError: if the file is missing, is not YAML, was written by a newer version, or has a wrong key or value.
    """
    tree: dict[str, Any] = {}
    source = "configuration"
    if path is not None:
        source = str(path)
        try:
            loaded = read_yaml(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: there is no such file.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({error}).") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigError(f"{where}: is not valid YAML ({getattr(error, 'problem', error)}).") from error
        if not isinstance(loaded, Mapping) and loaded is not None:
            raise ConfigError(f"{path}: must hold sections such as `model:` and `training:`.")
        tree = dict(loaded or {})
    tree = _merge(below, tree)
    for override in overrides:
        tree = _merge(tree, override)
    version = tree.get("version", CONFIG_VERSION)
    if isinstance(version, int) and version > CONFIG_VERSION:
        raise ConfigError(
            f"{source}: has format version {version}, but this recurra reads up to {CONFIG_VERSION}; upgrade recurra."
        )
    schema = _schema(tree.get("task", registry.names()[0]), source)
    # A section of which one key is set keeps the defaults that this system has for its other keys.
    tree = _merge(_defaults(schema), tree)
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error, schema)}") from error


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write the complete, resolved configuration as YAML."""
    Path(path).write_text(write_yaml(config.model_dump(mode="json")), encoding="utf-8")


def _schema(task: Any, source: str) -> type[RunConfig]:
    try:
        schema: type[RunConfig] = registry.resolve(registry.find(str(task)).schema)
    except ConfigError as error:
        raise ConfigError(f"{source}: task: {error}") from error
    return schema


def _defaults(schema: type[RunConfig]) -> dict[str, Any]:
    """The defaults of those sections that a schema gives other ones than their class, or the same."""
    return {
        name: field.default.model_dump()
        for name, field in schema.model_fields.items()
        if isinstance(field.default, BaseModel)
    }


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _known_part(location: tuple[int | str, ...], schema: type[RunConfig]) -> list[str]:
    """The keys of a place in the configuration, without what pydantic adds for each kind of value that it tried."""
    keys: list[str] = []
    model: Any = schema
    for part in location:
        fields = getattr(model, "model_fields", {})
        keys.append(str(part))
        if part not in fields:
            return keys if fields else keys[:-1]
        model = fields[part].annotation
    return keys


def _explain(error: ValidationError, schema: type[RunConfig]) -> str:
    first = error.errors()[0]
    where = ".".join(_known_part(first["loc"], schema))
    if first["type"] == "extra_forbidden":
        *sections, key = [str(part) for part in first["loc"]]
        guess = _known_key(sections, key, schema)
        return f"there is no key {where}; " + (f"did you mean {guess}?" if guess else _known_in(sections, schema))
    message = first["msg"].removeprefix("Value error, ")
    place = f"{where}: " if where else ""
    shown = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    return f"{place}{message[0].lower() + message[1:]}{shown}."


# What other toolkits call the same thing.
_SYNONYMS = {
    "batch": "batch_size",
    "batch_size": "batch_tokens",
    "beam_size": "beam",
    "beam_width": "beam",
    "bptt": "sequence_length",
    "cell_type": "cell",
    "clip": "clip_norm",
    "d_model": "hidden_size",
    "early_stopping": "patience",
    "emb_dim": "embedding_size",
    "embedding_dim": "embedding_size",
    "emsize": "embedding_size",
    "epochs": "max_epochs",
    "eval_every": "evaluate_every",
    "eval_steps": "evaluate_every",
    "gradient_clip": "clip_norm",
    "hidden_dim": "hidden_size",
    "layers": "num_layers",
    "lr": "learning_rate",
    "lr_scheduler": "schedule",
    "max_grad_norm": "clip_norm",
    "max_len": "max_length",
    "minutes": "max_minutes",
    "n_layers": "num_layers",
    "nhid": "hidden_size",
    "num_epochs": "max_epochs",
    "optim": "optimizer",
    "rnn_type": "cell",
    "save_steps": "save_every",
    "scheduler": "schedule",
    "seq_len": "sequence_length",
    "smoothing": "label_smoothing",
    "steps": "max_steps",
    "threads": "num_threads",
    "tie_weights": "tied",
    "tied_embeddings": "tied",
    "units": "hidden_size",
    "vocab": "vocab_size",
    "warmup": "warmup_steps",
    "wd": "weight_decay",
}


def _known_key(sections: list[str], key: str, schema: type[RunConfig]) -> str | None:
    """The whole key that was most likely meant by a key that there is not."""
    keys = list(_keys(schema))
    above = "".join(f"{section}." for section in sections)
    meant = [_SYNONYMS[key], key] if key in _SYNONYMS else [key]
    here = [above + name for name in meant if above + name in keys]
    elsewhere = [each for name in meant for each in keys if each.rpartition(".")[2] == name]
    if here or elsewhere:
        return (here or elsewhere)[0]
    inside = list(_section(sections, schema).model_fields)
    guess = nearest(key, inside if sections else [*inside, *(each.rpartition(".")[2] for each in keys)])
    if guess is None or guess in inside:
        return None if guess is None else above + guess
    return next(each for each in keys if each.rpartition(".")[2] == guess)


def _known_in(sections: list[str], schema: type[RunConfig]) -> str:
    return f"known are {', '.join(_section(sections, schema).model_fields)}."


def _section(names: list[str], schema: type[BaseModel]) -> type[BaseModel]:
    for name in names:
        schema = schema.model_fields[name].annotation  # type: ignore[assignment]
    return schema


def _keys(schema: type[BaseModel], above: str = "") -> Iterator[str]:
    """The whole names of all keys."""
    for name, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{above}{name}.")
        else:
            yield above + name
