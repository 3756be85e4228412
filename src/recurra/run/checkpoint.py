"""Checkpoints that survive a crash at any moment: safetensors and JSON, checksummed, written aside and renamed.

A checkpoint is a folder with `tensors.safetensors`, `state.json` and `manifest.json`; the manifest holds the size and
the SHA-256 of the other two, so that a half-written or damaged one is recognised and its predecessor is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import RunError
from ..files import regular, unwritten
from ..shown import tell
from ..strict_json import read_json

__all__ = [
    "Checkpoint",
    "has_checkpoint",
    "load_checkpoint",
    "pack",
    "read_state",
    "save_checkpoint",
    "save_tensors",
    "set_aside",
    "sync_folder",
    "unpack",
]

FORMAT = 1
RESUMED = ("last", "previous")
"""The checkpoints that a training is resumed from, the first that is whole."""

TENSORS = "tensors.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"


class Checkpoint(NamedTuple):
    """What was read: tensors on the CPU, the JSON state, and the folder that it came from."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path


def save_checkpoint(
    directory: Path, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: str | None = None
) -> Path:
    """Write the checkpoint `directory/name` so that at every moment either the new or the old one is complete.

    Args:
        directory: the folder of all checkpoints; made if missing.
        name: the checkpoint's own folder, such as `last`.
        tensors: any device and layout; tensors that share memory are stored apart.
        state: what JSON can hold; `pack` turns nested state with tensors into these two arguments.
        keep: the name under which the checkpoint that is replaced stays, or None to remove it.

    Raises:
        RunError: if the disk is full or cannot be written; the old checkpoint is then untouched.
    """
    target = directory / name
    aside = directory / f".{name}.{os.getpid()}.writing"
    try:
        # Not what is above it: a run that somebody removed shall not come back as half of one.
        directory.mkdir(exist_ok=True)
        for stale in directory.glob(f".{name}.*.writing"):
            shutil.rmtree(stale)
        aside.mkdir()
        save_tensors(aside / TENSORS, tensors)
        _write(aside / STATE, json.dumps(state, ensure_ascii=False))
        files = {file: _fingerprint(aside / file) for file in (TENSORS, STATE)}
        _write(aside / MANIFEST, json.dumps({"format": FORMAT, "files": files}, indent=1))
        sync_folder(aside)
        _replace(aside, target, None if keep is None else directory / keep)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        kept = "; the checkpoint before it is intact" if target.exists() else ""
        raise RunError(f"{target}: the checkpoint could not be written {unwritten(error)} and resume{kept}.") from error
    return target


def has_checkpoint(directory: Path) -> bool:
    """Whether there is a checkpoint to resume from, be it whole or damaged."""
    return bool(_present(directory, RESUMED))


def load_checkpoint(directory: Path, names: Sequence[str] = RESUMED, needed: Collection[str] = ()) -> Checkpoint | None:
    """Read the first complete checkpoint among `names`; says on stderr when a damaged one was passed over.

    Args:
        directory: of the checkpoints.
        names: which, the first choice first.
        needed: keys of the state, without which a checkpoint is damaged.

    Returns:
        The checkpoint, or None when there is none under any of the names.

    Raises:
        RunError: if there are checkpoints but all are damaged, or one was written by a newer version.
    """
    damaged: list[str] = []
    for path in _present(directory, names):
        try:
            tensors, state = _read(path)
            _check_state(tensors, state, needed)
        except _DamageError as error:
            damaged.append(f"{path.name} {error}")
            continue
        if damaged:
            tell(f"{directory}: the checkpoint {', and '.join(damaged)}; using {path.name} instead.")
        return Checkpoint(tensors, state, path)
    if damaged:
        raise RunError(
            f"{directory}: no checkpoint is whole ({', and '.join(damaged)}); train again in a new run directory."
        )
    return None


def read_state(path: Path) -> dict[str, Any] | None:
    """The JSON state of a checkpoint, its tensors not looked at; None if there is none, or none that can be read."""
    try:
        state = read_json(regular(path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint to NAME.damaged, so that it is never kept in place of a whole one."""
    if path.exists():
        goal = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(goal, ignore_errors=True)
        path.rename(goal)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file and force it to the disk: equal tensors and metadata are equal bytes.

    Its mode is what the umask leaves, as of every other file.

    Raises:
        OSError, SafetensorError: as the file system says.
    """
    taken: set[int] = set()
    plain: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        flat = tensor.detach().to("cpu").contiguous()
        storage = flat.untyped_storage()
        # safetensors refuses tensors that share memory, and would otherwise write views of a larger buffer wrongly.
        if flat.numel() and storage.data_ptr() in taken:
            flat = flat.clone()
        taken.add(flat.untyped_storage().data_ptr())
        plain[key] = flat
    with open(path, "wb") as file:
        mode = os.fstat(file.fileno()).st_mode
    # The library makes a file of its own, which nobody else may read.
    save_file(plain, str(path), metadata=dict(metadata or {}))
    path.chmod(stat.S_IMODE(mode))
    with open(path, "r+b") as file:
        _sort_header(file)
        file.flush()
        os.fsync(file.fileno())


def _sort_header(file: BinaryIO) -> None:
    """Write the header of a safetensors file in the order of its keys, which the library leaves to chance."""
    (size,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(size))
    described = header.pop("__metadata__", None)
    ordered = {} if described is None else {"__metadata__": dict(sorted(described.items()))}
    text = json.dumps({**ordered, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= size:
        file.seek(8)
        file.write(text.ljust(size))


def sync_folder(path: Path) -> None:
    """Force a folder's entries (names, renames) to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pack(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts, lists and tuples of plain values and tensors into named tensors and JSON.

    Tuples and dicts with keys that are not strings (an optimiser's) come back from `unpack` as they were.

    Raises:
        TypeError: for a value that JSON cannot hold.
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Tensor):
            tensors[path] = node
            return {"$tensor": path}
        if isinstance(node, Mapping):
            if all(isinstance(key, str) and not key.startswith("$") for key in node):
                return {key: walk(value, f"{path}.{key}" if path else key) for key, value in node.items()}
            return {"$items": [[walk(key, ""), walk(value, f"{path}.{key}")] for key, value in node.items()]}
        if isinstance(node, tuple):
            return {"$tuple": [walk(value, f"{path}.{index}") for index, value in enumerate(node)]}
        if isinstance(node, list):
            return [walk(value, f"{path}.{index}") for index, value in enumerate(node)]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(f"{path or 'the state'} is a {type(node).__name__}, which a checkpoint cannot hold")

    return tensors, walk(tree, "")


def unpack(tensors: Mapping[str, Tensor], state: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(state, Mapping):
        if "$tensor" in state:
            return tensors[state["$tensor"]]
        if "$items" in state:
            return {unpack(tensors, key): unpack(tensors, value) for key, value in state["$items"]}
        if "$tuple" in state:
            return tuple(unpack(tensors, value) for value in state["$tuple"])
        return {key: unpack(tensors, value) for key, value in state.items()}
    if isinstance(state, list):
        return [unpack(tensors, value) for value in state]
    return state


def _present(directory: Path, names: Sequence[str]) -> list[Path]:
    # A crash between two renames leaves the old checkpoint under its passing name only.
    paths = [path for name in names for path in (directory / name, directory / f".{name}.old")]
    return [path for path in paths if path.is_dir()]


class _DamageError(Exception):
    """What is wrong with a checkpoint, as the end of a sentence that starts with its name."""


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        manifest = read_json(regular(path / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
        known = {file: (files[file]["size"], files[file]["sha256"]) for file in (TENSORS, STATE)}
    except FileNotFoundError as error:
        raise _DamageError(f"has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(f"has an unreadable {MANIFEST}") from error
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"{path}: has checkpoint format {version}, but this recurra reads up to {FORMAT}; upgrade recurra."
        )
    for file, (size, digest) in known.items():
        try:
            found = _fingerprint(path / file)
        except OSError as error:
            raise _DamageError(f"lacks {file}") from error
        if found["size"] != size:
            raise _DamageError(f"is cut short ({file} has {found['size']} of {size} bytes)")
        if found["sha256"] != digest:
            raise _DamageError(f"is damaged ({file} does not match its checksum)")
    try:
        # Copied, for views of the mapped file are not aligned as torch's own memory is, and keep the file open.
        tensors = {key: tensor.clone() for key, tensor in load_file(path / TENSORS).items()}
        return tensors, read_json((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise _DamageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _check_state(tensors: dict[str, Tensor], state: Any, needed: Collection[str]) -> None:
    lacking = sorted(set(needed) - state.keys()) if isinstance(state, dict) else sorted(needed)
    if lacking or not isinstance(state, dict):
        raise _DamageError(f"lacks {', '.join(lacking) or 'its state'}")
    try:
        unpack(tensors, state)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _DamageError("has a state that does not fit its tensors") from error


def _replace(new: Path, target: Path, keep: Path | None) -> None:
    """Rename `new` to `target`; what stood there goes to `keep`, or away, but only after `new` is in place."""
    goes = target if keep is None else keep
    old = goes.with_name(f".{goes.name}.old")
    if old.exists() and not goes.exists():
        old.rename(goes)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        if goes.exists():
            goes.rename(old)
        if keep is not None:
            target.rename(keep)
    new.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(regular(path), "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"size": file.tell(), "sha256": digest.hexdigest()}
