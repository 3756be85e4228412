"""Reading text: against Python's own text mode, and one sentence for each kind of bad input."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random
import re
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data import text as text_module
from recurra.data.text import cut_point, expand_paths, read_text, spool_standard_input
from recurra.errors import DataError


def written(folder: Path, content: bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def one_sentence(message: str) -> bool:
    return "\n" not in message and message.endswith(".") and ". " not in message


@settings(max_examples=60)
@given(
    content=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\r\n a")),
    read_size=st.integers(1, 7),
    piece_size=st.integers(4, 40),
)
def test_pieces_join_to_what_python_reads(tmp_path_factory, content, read_size, piece_size):
    path = written(tmp_path_factory.mktemp("text"), b"x" + content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_READ_SIZE", read_size)
        pieces = list(read_text([path], piece_size))
    expected = path.read_text(encoding="utf-8")
    assert "".join(pieces) == expected + ("" if expected.endswith("\n") else "\n")
    assert all(0 < len(piece) <= piece_size for piece in pieces)
    assert pieces == list(read_text([path], piece_size))


def test_pieces_end_at_line_ends_and_files_do_not_run_together(tmp_path):
    first = written(tmp_path, "\ufeffone\r\ntwo\rthree".encode(), "1.txt")
    second = written(tmp_path, b"", "2.txt")
    third = written(tmp_path, b"four five\n", "3.txt")
    assert list(read_text([first, second, third], 9)) == ["one\ntwo\n", "three\n", "four", " five\n"]


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
@settings(max_examples=100)
@given(content=st.text(st.sampled_from("e\u0301\u0323각\u1100\u1161\u11a8\u3099かｶﾞ漢\U0001f469\u200d"), min_size=20))
def test_a_cut_in_a_long_line_keeps_the_normal_form(form, content):
    # Nothing but marks, vowels, finals and joiners in a row has no place to be cut at.
    if not set(content[2:13]) & set("e각\u1100かｶ漢\U0001f469"):
        return
    cut = cut_point(content, 12)
    parts = [unicodedata.normalize(form, part) for part in (content[:cut], content[cut:])]
    assert "".join(parts) == unicodedata.normalize(form, content)


def test_a_long_line_is_cut_before_white_space_and_in_bounded_pieces(tmp_path):
    line = "".join(random.Random(0).choices("abc  \t", k=30_000))
    path = written(tmp_path, (line + "\n" + "x" * 30_000).encode())
    pieces = list(read_text([path], 1000))
    assert "".join(pieces) == line + "\n" + "x" * 30_000 + "\n"
    for left, right in itertools.pairwise(pieces):
        if "x" not in right:
            assert left.endswith("\n") or (not left[-1].isspace() and right[0].isspace())


def test_gzip_is_known_by_content_and_progress_counts_bytes_on_disk(tmp_path):
    content = "".join(f"line {i} 한국어\n" for i in range(100_000))
    packed = written(tmp_path, gzip.compress(content[:700_000].encode()), "packed.txt")
    plain = written(tmp_path, content[700_000:].encode(), "plain.gz")
    seen: list[tuple[int, int]] = []
    got = "".join(read_text([packed, plain], progress=lambda done, total: seen.append((done, total))))
    assert got.replace("\n", "") == content.replace("\n", "")
    total = packed.stat().st_size + plain.stat().st_size
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_folders_globs_and_order(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "sub/c.txt", "sub/.d/e.txt", "[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [p.relative_to(tmp_path).as_posix() for p in expand_paths([tmp_path])] == [
        "[1].txt",
        "a.txt",
        "b.txt",
        "sub/c.txt",
    ]
    assert [p.name for p in expand_paths([tmp_path / "b.txt", str(tmp_path / "**" / "*.txt")])] == [
        "b.txt",
        "[1].txt",
        "a.txt",
        "c.txt",
    ]
    assert expand_paths([str(tmp_path / "[1].txt")]) == [tmp_path / "[1].txt"]


def test_standard_input_is_read_once_and_can_be_gone_over_twice(monkeypatch):
    spool_standard_input.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\nthere\xff")))
    try:
        paths = expand_paths(["-", "-"])
        assert len(paths) == 1 and paths == expand_paths(["-"])
        for _ in range(2):
            with pytest.raises(DataError, match=r"^standard input: byte 0xff at byte 11 \(line 2\) is not valid UTF-8"):
                list(read_text(paths))
    finally:
        spool_standard_input.cache_clear()


def test_a_pipe_is_spooled(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"through a pipe\n",))
    writer.start()
    paths = expand_paths([pipe])
    writer.join()
    assert ["".join(read_text(paths)) for _ in range(2)] == ["through a pipe\n"] * 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"one\r\ntwo\r\xff\n", r"byte 0xff at byte 9 \(line 3\) is not valid UTF-8"),
        (b"\xef\xbb\xbfok\n\xe2\x82", r"byte 0xe2 at byte 6 \(line 2\) is not valid UTF-8"),
        ("텍스트\n".encode() * 200_000 + b"a\xc0b", r"byte 0xc0 at byte 2000001 \(line 200001\)"),
        ("é\n\0".encode(), r"NUL byte at byte 3 \(line 2\)"),
        ("hello".encode("utf-16"), "UTF-16"),
        ("hello".encode("utf-32"), "UTF-32"),
        (gzip.compress(b"some text to pack\n" * 999, mtime=0)[:-20], "cut off after"),
        (
            gzip.compress(random.Random(1).randbytes(999).hex().encode(), mtime=0)[:300] + b"\xff" * 300,
            "gzip file is damaged",
        ),
        (b"PK\x03\x04rest", "zip archive"),
        (b"", "empty"),
        (b" \n\t\n", "empty"),
    ],
)
def test_bad_files_are_named_in_one_sentence(tmp_path, content, complaint):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + complaint) as caught:
        list(read_text([path]))
    assert one_sentence(str(caught.value).replace(str(path), "FILE"))


def test_missing_paths_name_the_nearest(tmp_path):
    (tmp_path / "novels").mkdir()
    (tmp_path / "novels" / "persuasion.txt").write_text("x")
    with pytest.raises(DataError, match=r"novels/persuasoin.txt: there is no such file.*novels/persuasion.txt\.$"):
        expand_paths([tmp_path / "novels" / "persuasoin.txt"])
    with pytest.raises(DataError, match=r"no such file.*the nearest name is .*/novels\.$"):
        expand_paths([tmp_path / "novel" / "persuasion.txt"])
    (tmp_path / "empty").mkdir()
    for wrong, complaint in ((tmp_path / "empty", "holds no files"), (tmp_path / "*.md", "no file matches")):
        with pytest.raises(DataError, match=complaint):
            expand_paths([wrong])
    with pytest.raises(DataError, match="No text was named"):
        expand_paths([])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_leaves_the_copy_of_standard_input() -> None:
    script = (
        "import os, sys\n"
        "from recurra.data.text import spool_standard_input\n"
        "path = spool_standard_input()\n"
        "child = os.fork()\n"
        "if child == 0:\n    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "print(path.read_text(), path)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], input="some words", capture_output=True, text=True, check=True
    )
    text, _, path = ended.stdout.strip().rpartition(" ")
    assert text == "some words"
    assert not Path(path).exists()


@pytest.mark.parametrize("universal", [True, False])
@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 1000])
def test_marks_at_the_start_of_lines_are_left_out(
    universal: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `cat` leaves them where it joins files of some editors."""
    monkeypatch.setattr(text_module, "_READ_SIZE", block)
    path = tmp_path / f"{block} {universal}.txt"
    path.write_bytes("\ufeffthe apple\n\ufeffthe apple\r\n\ufeff\ufeffthe pe\ufeffar\n\n\ufeff\n".encode())
    read = list(text_module.read_lines(path)) if not universal else "".join(read_text([path])).split("\n")[:-1]
    assert read == ["the apple", "the apple", "the pe\ufeffar", "", ""]
    list(text_module.read_lines(path))
    # The one at the start of a file is no part of the text.
    assert capsys.readouterr().err == f"recurra: {path}: 4 byte order marks at the start of lines are left out.\n"
