"""The store of examples: what is written comes back, and damage is said in a sentence."""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.store import ExampleStore
from recurra.data.store_format import Rows
from recurra.data.store_writer import StoreWriter
from recurra.errors import RunError

COLUMNS = {"ids": "uint16[]", "text": "text", "features": "float32[]", "label": "int64", "weight": "float64"}
FILES = ("x.arrow", "x.lengths.npy", "x.json")


def examples(count: int, seed: int = 0) -> list[dict[str, Any]]:
    choose = Random(seed)
    return [
        {
            "ids": [choose.randrange(1 << 16) for _ in range(choose.randrange(6))],
            "text": "".join(choose.choices("ab 사과\n\0", k=choose.randrange(5))),
            "features": [choose.random() for _ in range(choose.randrange(4))],
            "label": choose.randrange(-(1 << 63), 1 << 63),
            "weight": choose.random(),
        }
        for _ in range(count)
    ]


def write(path: Path, made: list[dict[str, Any]]) -> Path:
    with StoreWriter(path, COLUMNS) as writer:
        for example in made:
            writer.add(example)
        writer.finish({"seen": len(made)})
    return path


def plain(example: dict[str, Any]) -> dict[str, Any]:
    """Without numpy, and what float32 makes of a number."""
    return {
        "ids": [int(number) for number in example["ids"]],
        "text": str(example["text"]),
        "features": np.asarray(example["features"], np.float32).tolist(),
        "label": int(example["label"]),
        "weight": float(example["weight"]),
    }


def read(path: Path) -> list[dict[str, Any]]:
    store = ExampleStore.open(path)
    return [plain(store[index]) for index in range(len(store))]


@pytest.mark.parametrize("count", [0, 1, 7, 4096, 4097])
def test_examples_come_back_as_they_were_written(count: int, tmp_path: Path) -> None:
    made = [plain(example) for example in examples(count)]
    path = write(tmp_path / "deep" / "x", made)
    store = ExampleStore.open(path)
    assert read(path) == made and len(store) == count and store.about == {"seen": count} and store.columns == COLUMNS
    assert store.lengths("ids").tolist() == [len(each["ids"]) for each in made]
    assert store.lengths("features").tolist() == [len(each["features"]) for each in made]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(FILES)
    # Other readers find the same.
    with pa.memory_map(str(path) + ".arrow") as file:
        assert [plain(each) for each in pa.ipc.open_stream(file).read_all().to_pylist()] == made
    assert np.load(f"{path}.lengths.npy", mmap_mode="r").shape == (count, 2)
    order = np.random.default_rng(0).integers(0, max(count, 1), min(count, 50))
    taken = store.take(order)
    for name in COLUMNS:
        assert [plain({**made[0], name: value})[name] for value in taken[name]] == [made[i][name] for i in order]
    for index in (-1, count):
        with pytest.raises(IndexError):
            store[index]


@settings(max_examples=10)
@given(
    st.lists(
        st.lists(st.tuples(st.lists(st.integers(0, 255), max_size=5), st.text(max_size=4)), max_size=6), max_size=4
    )
)
def test_parts_that_are_written_at_once_come_back_one_by_one(parts: list[list[tuple[list[int], str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter(Path(folder, "x"), {"ids": "uint8[]", "text": "text"}) as writer:
            for part in parts:
                starts = np.cumsum([0, *(len(ids) for ids, _ in part)])
                values = np.array([number for ids, _ in part for number in ids], np.int64)
                texts = [text.encode("utf-8", "replace").decode() for _, text in part]
                writer.extend({"ids": Rows(values, starts), "text": texts})
            writer.finish({})
        store = ExampleStore.open(Path(folder, "x"))
        expected = [(ids, text.encode("utf-8", "replace").decode()) for part in parts for ids, text in part]
        assert [(each["ids"].tolist(), each["text"]) for each in map(store.__getitem__, range(len(store)))] == expected


def test_lists_lie_in_the_mapped_file(tmp_path: Path) -> None:
    store = ExampleStore.open(write(tmp_path / "x", examples(100)))
    ids = next(each["ids"] for each in map(store.__getitem__, range(100)) if len(each["ids"]))
    assert not ids.flags.owndata and not ids.flags.writeable
    assert not store.lengths("ids").flags.owndata and not store.lengths("ids").flags.writeable


@pytest.mark.parametrize(
    "example",
    [{"ids": [1]}, {"ids": [1 << 16], "n": 1}, {"ids": [-1], "n": 1}, {"ids": [1.5], "n": 1}, {"ids": [1], "n": 1.5}],
)
def test_what_a_column_cannot_hold_is_refused(example: dict[str, Any], tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "x", {"ids": "uint16[]", "n": "int8"})
    with pytest.raises(ValueError, match=r"columns|do not fit"), writer:
        writer.add(example)
        writer.finish({})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no kind of column"):
        StoreWriter(tmp_path / "x", {"a": "complex64"})


def test_a_store_that_is_not_finished_is_none_and_leaves_the_last_one_whole(tmp_path: Path) -> None:
    made = [plain(example) for example in examples(30)]
    write(tmp_path / "x", made)
    with pytest.raises(KeyError), StoreWriter(tmp_path / "x", COLUMNS) as writer:
        writer.add(examples(1)[0])
        raise KeyError
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES) and read(tmp_path / "x") == made
    # As after a kill between the renames: the JSON was taken off first.
    (tmp_path / "x.json").unlink()
    with pytest.raises(RunError, match=r"x\.json: prepared examples cannot be read \(there is no such file\)"):
        ExampleStore.open(tmp_path / "x")


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written \(.*\)"):
        StoreWriter(tmp_path / "file" / "x", COLUMNS)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no full device")
    open_as_ever = StoreWriter._open

    def open_full(writer: StoreWriter, path: Path) -> Any:
        writer._opened.append(full.open("wb", buffering=0))
        return writer._opened[-1] if path.suffix == ".arrow" else open_as_ever(writer, path)

    monkeypatch.setattr(StoreWriter, "_open", open_full)
    with pytest.raises(RunError, match=r"x\.arrow: the prepared examples cannot be written .* make room"):
        write(tmp_path / "x", examples(3))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def outcome(path: Path, made: list[dict[str, Any]]) -> None:
    """Reading either gives the examples or one sentence of an error."""
    try:
        found = read(path)
    except RunError as error:
        assert "\n" not in str(error) and str(error).count("prepare") >= 1
        assert str(path) in str(error)
    else:
        assert found == made


def damaged(random: Random, data: bytes) -> bytes:
    place = random.randrange(len(data))
    match random.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        case 2:
            return data + data[:place]
        case _:
            return data[:place] + random.randbytes(min(8, len(data) - place)) + data[place + 8 :]


@pytest.mark.parametrize("name", FILES)
def test_damaged_cut_and_foreign_files_are_told_from_whole_ones(name: str, tmp_path: Path) -> None:
    made = [plain(example) for example in examples(40)]
    path = write(tmp_path / "x", made)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole)
    for number in range(100):
        (tmp_path / name).write_bytes(damaged(Random(number), whole))
        # What is told of the column's kinds or of the examples is for whoever wrote it.
        if name != "x.json":
            outcome(path, made)
    for foreign in (b"", b"text\n", b"[]", b"{}", b"\x80\x04N.", whole[:10]):
        (tmp_path / name).write_bytes(foreign)
        with pytest.raises(RunError, match="prepare them again"):
            ExampleStore.open(path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: prepared examples cannot be read"):
        ExampleStore.open(path)


def test_a_header_of_any_shape_ends_in_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "x", examples(40))
    whole = json.loads((tmp_path / "x.json").read_text())
    strange: list[Any] = [None, -1, 0, 1, 1.5, 1 << 62, 1 << 100, "text", "uint16[]", [], {}, [1], {"a": "b"}]
    for key in whole:
        for value in strange:
            (tmp_path / "x.json").write_text(json.dumps({**whole, key: value}))
            try:
                store = ExampleStore.open(path)
                for index in range(len(store)):
                    store[index]
            except RunError as error:
                assert str(path) in str(error) and "\n" not in str(error)
    (tmp_path / "x.json").write_text(json.dumps({**whole, "format": 2}))
    with pytest.raises(RunError, match="newer recurra"):
        ExampleStore.open(path)


@pytest.mark.parametrize("first, count", [(0, 150), pytest.param(150, 5000, marks=pytest.mark.check)])
def test_hostile_bytes_with_fitting_checksums_lead_nowhere_outside(first: int, count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x", examples(40))
    whole, header = (tmp_path / "x.arrow").read_bytes(), json.loads((tmp_path / "x.json").read_text())
    part = header["parts"][0]
    for number in range(first, first + count):
        random = Random(number)
        inner = bytearray(whole[part["start"] : part["stop"]])
        # Most of what steers the reader stands at the beginning, and offsets are eight bytes.
        place = random.randrange(random.choice([64, 800, len(inner)])) & (-8 if random.random() < 0.5 else -1)
        changed = random.choice([random.randbytes(1), random.randbytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7])
        inner[place : place + len(changed)] = changed[: len(inner) - place]
        (tmp_path / "x.arrow").write_bytes(whole[: part["start"]] + inner + whole[part["stop"] :])
        (tmp_path / "x.json").write_text(json.dumps({**header, "parts": [{**part, "crc32": zlib.crc32(inner)}]}))
        try:
            for example in read(path):
                assert len(example["ids"]) < 6 and len(example["text"]) < 25
        except RunError as error:
            assert "are damaged from byte" in str(error)


def test_numbers_beyond_their_bound_are_damage(tmp_path: Path) -> None:
    made = [{**example, "ids": [3, 7]} for example in examples(5)]
    store = ExampleStore.open(write(tmp_path / "x", made))
    store.require_below("ids", 8)
    assert len(store[4]["ids"]) == 2
    store.require_below("ids", 7)
    with pytest.raises(RunError, match="ids has numbers outside of 0 to 6"):
        store[4]
