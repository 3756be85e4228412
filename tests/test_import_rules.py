"""Imports run one way: a room of the package imports itself and the rooms below it, and no system another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "recurra"

# From the bottom up. What stands in one line may import one another.
ROOMS = [
    "bounds errors files names shown strict_json strict_yaml registry",
    "config",
    "cells",
    "kernels torch_import",
    "layers",
    "models",
    "data",
    "decoding measures",
    "pictures pages",
    "run",
    "training",
    "systems",
    "loading",
    "comparison",
    "analysis classics",
    "cli",
    "__main__",
]
LEVEL = {room: level for level, line in enumerate(ROOMS) for room in line.split()}
# The package's own names, which it gives out when they are asked for.
DOOR = SOURCE / "__init__.py"
# The version alone.
VERSION = "__version__"


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != DOOR)


def name_of(path: Path) -> list[str]:
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(own: list[str], is_package: bool, text: str) -> set[str]:
    """The modules of recurra that a text imports anywhere in it, without the leading `recurra`."""
    package = own if is_package else own[:-1]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("recurra.") for alias in node.names if alias.name.startswith("recurra.")}
        if not isinstance(node, ast.ImportFrom):
            continue
        base = [*package[: len(package) - node.level + 1]] if node.level else []
        if node.level == 0:
            if (node.module or "").split(".")[0] != "recurra":
                continue
            base = (node.module or "").split(".")[1:]
        elif node.module:
            base += node.module.split(".")
        # What is imported from a package may be a module of it.
        found |= {".".join([*base, alias.name]) for alias in node.names if alias.name != VERSION}
    return found


def wrong_imports(own: list[str], is_package: bool, text: str) -> list[str]:
    """What a module must not import, and does."""
    wrong = []
    shared = {path.stem for path in (SOURCE / "systems").glob("*.py")}
    for module in imported(own, is_package, text):
        room, *rest = module.split(".")
        upwards = LEVEL.get(room, len(ROOMS)) > LEVEL[own[0]]
        other_system = room == own[0] == "systems" and rest[0] not in {*own[1:2], *shared}
        if upwards or other_system:
            wrong.append(module)
    return wrong


def test_every_room_has_its_place() -> None:
    assert {name_of(path)[0] for path in modules()} == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: ".".join(name_of(path)))
def test_imports_run_one_way(path: Path) -> None:
    assert wrong_imports(name_of(path), path.name == "__init__.py", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("own", "text", "wrong"),
    [
        ("data.text", "from ..training import loop", ["training.loop"]),
        ("data.text", "def late():\n    from ..run.hub import fetch", ["run.hub.fetch"]),
        ("systems.translation.train", "from ..language_model import network", ["systems.language_model.network"]),
        ("systems.translation.train", "from ..predictor import Predictor", []),
        ("run.hub", "import recurra.cli.main", ["cli.main"]),
        ("run.hub", "from recurra import load", ["load"]),
        ("cli.train", "from .. import __version__, registry", []),
    ],
)
def test_the_rules_find_what_breaks_them(own: str, text: str, wrong: list[str]) -> None:
    assert wrong_imports(own.split("."), False, text) == wrong


def test_no_other_place_asks_which_system_it_has_to_do_with() -> None:
    asked = re.compile(r"""(==|!=|\bin\b|\bcase\b|\bis\b)\s*[(\[{]?\s*["'](language-model|translation)["']""")
    assert asked.search('if run.config.task == "translation":')
    for path in modules():
        if name_of(path)[0] not in ("systems", "registry"):
            assert not asked.search(path.read_text(encoding="utf-8")), path
