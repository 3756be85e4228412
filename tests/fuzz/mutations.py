"""Damage: what is done to a valid file, from a flipped bit to a tree whose numbers are beyond all bounds."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

__all__ = ["damage_bytes", "damage_lines", "damage_tree"]

# What readers trip over: ends of ranges, words that look like others, marks, controls, half characters, nesting.
WORDS = [
    *(b"", b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"null", b"true", b"false", b"yes", b"no", b"~", b"{}", b"[]"),
    *(
        b"2147483648",
        b"9223372036854775808",
        b"18446744073709551616",
        b"100000000000000000000",
        b"1:30",
        b"010",
        b"0x7f",
    ),
    *(b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"*b", b"<<: *c", b"---", b"...", b"%YAML 1.1", b"? "),
    *(b"0x7f", b": ", b"- ", b"# ", b'""', b"\t", b"\r", b"\n", b"\r\n", b"\x00", b"\x1b[2J", b"\x7f", b"\xc2\x9b"),
    *(b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\\ud800", b"\\u0000", b"../../"),
    *(b"/etc/passwd", b"evil.py:Evil", b"<unk>", b"<eos>", b"\x1f\x8b", b"PK\x03\x04", b"a" * 3000, b" " * 3000),
    *(b"[" * 2000, b"{" * 2000, b'{"a":' * 2000, "사과 e\u0301 👩\u200d🍳".encode()),
]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 255, 65536, 2**31, 2**53, 2**63, 2**64, 10**20, -(10**20)),
    *(0.5, -0.0, 1e-300, 1e308, math.inf, -math.inf, math.nan, "", "a", "0", "null", "lstm", "evil.py:Evil"),
    *("../x.py:C", "\x1b[2J", "\ud800", "\0", "é" * 300),
    *([], {}, [None], [1], [[1]], {"a": 1}, ["a", "b"], {"": None}, [0] * 50),
]


def damage_bytes(random: Random, data: bytes) -> bytes:
    """One to four small changes of a file, wherever they fall."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(changed))
        stop = min(len(changed), start + random.choice([1, 1, 2, 4, 16, 256]))
        match random.randrange(8):
            case 0 if changed:
                place = min(start, len(changed) - 1)
                changed[place] ^= 1 << random.randrange(8)
            case 1:
                changed[start:stop] = b""
            case 2:
                changed[start:start] = changed[start:stop]
            case 3:
                changed[start:stop] = random.choice(WORDS)
            case 4:
                changed[start:start] = random.choice(WORDS)
            case 5:
                changed[start:stop] = random.randbytes(stop - start)
            case 6 if random.random() < 0.3:
                del changed[start:]
            case _:
                other = random.randint(0, len(changed))
                changed[start:stop] = changed[other : other + stop - start]
    return bytes(changed)


def damage_lines(random: Random, data: bytes) -> bytes:
    """Whole lines doubled, dropped, changed about or joined."""
    lines = data.split(b"\n")
    for _ in range(random.randint(1, 3)):
        place, other = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines.insert(other, lines[place])
            case 1 if len(lines) > 1:
                del lines[place]
            case 2:
                lines[place], lines[other] = lines[other], lines[place]
            case 3:
                lines[place] = lines[place] + lines[other]
            case _:
                lines[place] = damage_bytes(random, lines[place])
    return b"\n".join(lines)


def damage_tree(random: Random, tree: Any) -> Any:
    """One to three nodes of a tree of dicts and lists replaced, removed, doubled, renamed or put elsewhere."""
    root = [copy.deepcopy(tree)]
    for _ in range(random.randint(1, 3)):
        places = list(_places(root))
        holder, key = random.choice(places)
        match random.randrange(7):
            case 0 | 1:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 2 if holder is not root:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[random.choice(["", "x", "version", "type", "\x1b", "é"])] = holder.pop(key)
            case 4 if isinstance(holder, list) and holder is not root:
                holder.insert(key, copy.deepcopy(holder[key]))
            case 5:
                other, at = random.choice(places)
                holder[key] = copy.deepcopy(other[at])
            case _:
                holder[key] = _nudged(random, holder[key])
    return root[0]


def _places(holder: Any) -> Any:
    keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _nudged(random: Random, value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return random.choice([value + 1, value - 1, -value, value * 1000, value / 3, str(value), [value]])
    if isinstance(value, str):
        cut = random.randint(0, len(value))
        parted = value[:cut] + "\n" + value[cut:]
        return random.choice([value[:cut], value * 2, value[::-1], value.upper(), parted, [value]])
    return random.choice([[value], {"x": value}, str(value), len(value)])
