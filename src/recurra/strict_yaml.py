"""YAML as people expect it: keys that stand twice are errors, numbers are those of YAML 1.2, and nothing nests deeply.

The library reads YAML 1.1, in which 1:30 is ninety, 010 is eight and 1e-3 is text, and takes the last of equal keys.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["DEEPEST", "read_yaml", "write_yaml"]

DEEPEST = 100


def read_yaml(text: str) -> Any:
    """The value of a YAML document, of plain types alone.

    Raises:
        yaml.YAMLError: if it is no YAML, a key stands twice, or it nests more than `DEEPEST` levels; `problem` says
            what and `problem_mark.line` where, from 0.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    # Of this class alone, lest other users of the library read otherwise.
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012
    _depth = 0

    def compose_node(self, parent: Any, index: int) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"nests more than {DEEPEST} levels", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            line = key.start_mark.line + 1
            if key.value in first and key.tag != "tag:yaml.org,2002:merge":
                problem = f"the key {key.value} stands in line {first[key.value]} and again in line {line}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            first[key.value] = line
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


# The core schema of YAML 1.2.2, chapter 10.3.2, and the merge key.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _resolver = (f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"))
    for _character in _first:
        _Loader.yaml_implicit_resolvers.setdefault("" if _character == "\0" else _character, []).append(_resolver)


def _whole_number(loader: _Loader, node: Any) -> int:
    text = loader.construct_scalar(node)
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError as error:  # of thousands of digits
        raise yaml.constructor.ConstructorError(None, None, "this number is too long", node.start_mark) from error


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class _Dumper(yaml.SafeDumper):
    # Quotes whatever either version of YAML would take for another type.
    yaml_implicit_resolvers = {  # noqa: RUF012
        character: [*yaml.SafeDumper.yaml_implicit_resolvers.get(character, []), *resolvers]
        for character, resolvers in {
            **dict.fromkeys(yaml.SafeDumper.yaml_implicit_resolvers, ()), **_Loader.yaml_implicit_resolvers
        }.items()
    }  # fmt: skip


def _text(dumper: _Dumper, text: str) -> Any:
    # The library takes these for line ends, which other quotes do not keep.
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_yaml(value: Any) -> str:
    """A YAML document that `read_yaml`, and readers of YAML 1.1, read as this value; keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
