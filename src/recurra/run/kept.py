"""What a run keeps beside its weights as one JSON file, in the form of a dataclass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import RunError
from ..files import regular
from ..strict_json import read_json

__all__ = ["damaged", "read_kept", "write_kept"]

Kept = TypeVar("Kept")


def read_kept(kind: type[Kept], path: Path) -> Kept:
    """Read what `write_kept` wrote.

    Args:
        kind: a strict dataclass of pydantic.
        path: of the file.

    Raises:
        RunError: if it is missing or damaged.
    """
    try:
        tree = read_json(regular(path).read_text(encoding="utf-8"))
        # From text pydantic takes lists for tuples, which it refuses as objects of Python where it is strict.
        return TypeAdapter(kind).validate_json(json.dumps(tree))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); restore the file or train again.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, why: str) -> RunError:
    """What is raised for a file that is not what was written."""
    return RunError(f"{path}: is damaged ({why}); restore the file or train again.")


def write_kept(value: Any, path: Path) -> None:
    """Write a dataclass as one JSON file."""
    tree = TypeAdapter(type(value)).dump_python(value, mode="json")
    path.write_text(json.dumps(tree, ensure_ascii=False) + "\n", encoding="utf-8")
