"""Checkpoints: what is written comes back, and whatever breaks one leaves a whole one to go on from."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recurra.errors import RunError
from recurra.run import checkpoint
from recurra.run.checkpoint import load_checkpoint, pack, save_checkpoint, unpack


def save(directory: Path, step: int, name: str = "last") -> None:
    generator = torch.Generator().manual_seed(step)
    tensors = {"weight": torch.randn(64, 3, generator=generator), "count": torch.tensor(step)}
    save_checkpoint(directory, name, tensors, {"step": step}, keep="previous" if name == "last" else None)


def step_of(directory: Path, *names: str) -> int:
    found = load_checkpoint(directory, names or ("last", "previous"))
    assert found is not None
    assert int(found.tensors["count"]) == found.state["step"]
    return int(found.state["step"])


def test_round_trip_keeps_every_dtype_value_and_layout(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "float64": torch.randn(3, dtype=torch.float64),
        "bfloat16": torch.randn(3).bfloat16(),
        "bytes": torch.get_rng_state(),
        "mask": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 5),
        "transposed": base.t(),
        "row": base[1],
        "alias": base,
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    state = {"a": [1, 2.5, None, True, "한글"], "loss": 0.1 + 0.2, "worst": float("inf")}
    save_checkpoint(tmp_path, "best", tensors, state)
    found = load_checkpoint(tmp_path, ("best",))
    assert found is not None and found.state == state and found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and found.tensors[name].shape == tensor.shape
        assert torch.equal(found.tensors[name].nan_to_num(9.0), tensor.nan_to_num(9.0)), name


def test_pack_inverts_for_an_optimizer_state() -> None:
    model = torch.nn.LSTM(3, 4)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.8, 0.9))
    model(torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    tree = {"optimizer": optimizer.state_dict(), "hx": (torch.ones(1), [torch.zeros(2)]), "none": None}
    tensors, state = pack(tree)
    back = unpack(tensors, json.loads(json.dumps(state)))
    assert back["optimizer"]["param_groups"] == tree["optimizer"]["param_groups"]
    assert list(back["optimizer"]["state"]) == [0, 1, 2, 3]
    for index, slots in tree["optimizer"]["state"].items():
        assert all(torch.equal(back["optimizer"]["state"][index][slot], value) for slot, value in slots.items())
    assert isinstance(back["hx"], tuple) and isinstance(back["hx"][1], list) and back["none"] is None


def test_pack_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"a\.1 is a set"):
        pack({"a": [1, {2}]})


def test_the_replaced_checkpoint_stays_as_previous(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert step_of(tmp_path, "last") == 3 and step_of(tmp_path, "previous") == 2
    save(tmp_path, 1, "best")
    save(tmp_path, 3, "best")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "previous"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.MANIFEST])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_a_damaged_checkpoint_gives_the_previous_one(tmp_path: Path, file: str, harm, capsys) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path, 1)
    save(tmp_path, 2)
    harm(tmp_path / "last" / file)
    assert step_of(tmp_path) == 1
    message = capsys.readouterr().err
    assert "last" in message and "using previous instead" in message and message.count("\n") == 1


def test_all_damaged_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save(tmp_path, 1)
    flip(tmp_path / "last" / checkpoint.TENSORS)
    with pytest.raises(RunError, match="no checkpoint is whole"):
        load_checkpoint(tmp_path)


def test_a_newer_format_is_told_from_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    manifest = tmp_path / "last" / checkpoint.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(RunError, match="upgrade"):
        load_checkpoint(tmp_path)


class CrashError(BaseException):
    """Not an Exception: the process is gone, no handler runs its course."""


def crashing(operation: Callable[..., Any], counter: Iterator[int], nth: int) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(counter) == nth:
            raise CrashError
        return operation(*args, **kwargs)

    return counted


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_crash_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch, name: str) -> None:  # type: ignore[no-untyped-def]
    """Die before each rename, sync and removal of a save in turn; what then is loaded is whole and not older."""

    operations = [(Path, "rename"), (os, "fsync"), (shutil, "rmtree"), (Path, "mkdir"), (checkpoint, "save_file")]
    crashes = 0
    for nth in range(1, 40):
        directory = tmp_path / str(nth)
        save(directory, 1, name)
        save(directory, 2, name)
        with monkeypatch.context() as patch:
            counter = itertools.count(1)
            for owner, attribute in operations:
                patch.setattr(owner, attribute, crashing(getattr(owner, attribute), counter, nth))
            try:
                save(directory, 3, name)
            except CrashError:
                crashes += 1
            done = next(counter)
        names = ("last", "previous") if name == "last" else ("best",)
        assert step_of(directory, *names) in (2, 3)
        save(directory, 4, name)
        assert step_of(directory, name) == 4
        assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]
        if done <= nth:
            break
    assert crashes >= 8 and done <= nth


def test_no_room_on_the_disk_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path, 1)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(RunError, match=r"No space left on device.*intact"):
            save(tmp_path, 2)
    assert step_of(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False)
    if mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        directory = tmp_path / "checkpoints"
        save_checkpoint(directory, "last", {"x": torch.zeros(20_000)}, {"step": 1}, keep="previous")
        for _ in range(2):
            with pytest.raises(RunError, match="No space left on device"):
                save_checkpoint(directory, "last", {"x": torch.ones(60_000)}, {"step": 2}, keep="previous")
        found = load_checkpoint(directory)
        assert found is not None and found.state == {"step": 1} and not found.tensors["x"].any()
        assert [path.name for path in directory.iterdir()] == ["last"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
