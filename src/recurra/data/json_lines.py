"""Values inside the JSON objects of a file with one object a line: finding one, and putting a list in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["has_half_pair", "under", "with_list"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")
_value = json.JSONDecoder().raw_decode
_Span = tuple[int, int]


def under(tree: Any, key: str) -> Any:
    """The value of a key, or of a path of keys parted by dots such as translation.en; None if there is none."""
    if isinstance(tree, dict) and key in tree:
        return tree[key]
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def has_half_pair(text: str) -> bool:
    r"""Whether a text that came out of JSON has half of a surrogate pair (`\ud83d`), which is no character."""
    return _SURROGATE.search(text) is not None


def with_list(text: str, key: str, items: Sequence[str]) -> str:
    """The text of a JSON object with a list of strings under a key; whatever is not of that list stays as it is.

    In a list of as many items only the items that differ are written anew. A key that is not there yet is added at
    the end of the object that it belongs into.

    Args:
        text: an object that `read_json` can read.
        key: of the list, as `under` finds it.
        items: what the list shall hold.

    Raises:
        ValueError: if the path of keys leads through a value that is no object.
    """
    place = _skip(text, 0)
    members, end = _members(text, place)
    path = [key] if key in members else key.split(".")
    while True:
        part, *path = path
        if part not in members:
            added: Any = list(items)
            for name in reversed(path):
                added = {name: added}
            comma = ", " if members else ""
            return f"{text[:end]}{comma}{_dumped(part)}: {_dumped(added)}{text[end:]}"
        start, stop = members[part]
        if not path:
            return text[:start] + _replaced(text[start:stop], items) + text[stop:]
        if text[start] != "{":
            raise ValueError(f"the value of {part!r} is no object")
        members, end = _members(text, start)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _members(text: str, place: int) -> tuple[dict[str, _Span], int]:
    """Where each value of the object that starts at `place` stands, and where a further member would be written."""
    found: dict[str, _Span] = {}
    last = place + 1
    place = _skip(text, last)
    while text[place] != "}":
        key, place = _value(text, place)
        start = _skip(text, _skip(text, place) + len(":"))
        _, last = _value(text, start)
        found[key] = (start, last)
        place = _skip(text, last)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return found, last


def _replaced(old: str, items: Sequence[str]) -> str:
    """The text of a JSON value with a list in its place, spaced like the old list if that has as many items."""
    spans: list[tuple[Any, int, int]] = []
    if old.startswith("["):
        place = _skip(old, 1)
        while old[place] != "]":
            value, end = _value(old, place)
            spans.append((value, place, end))
            place = _skip(old, end)
            if old[place] == ",":
                place = _skip(old, place + 1)
    if len(spans) != len(items):
        return _dumped(list(items))
    parts = []
    done = 0
    for item, (value, start, end) in zip(items, spans, strict=True):
        parts += [old[done:start], old[start:end] if item == value else _dumped(item)]
        done = end
    return "".join([*parts, old[done:]])
