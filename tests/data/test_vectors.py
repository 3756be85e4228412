"""Word vectors from files, written here byte by byte as the formats are published."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config.sections import TokenizerConfig
from recurra.data.tokenizer import Tokenizer
from recurra.data.vectors import embedding_rows, read_vectors
from recurra.errors import DataError

ENTRIES = {
    ",": [0.25, -1.5, 3.0],
    "the": [1.0, 2.0, -0.125],
    "고양이": [1e-3, -2e-3, 3e-3],
    "caf\u00e9": [5.0, 6.0, 7.0],
    "3": [-4.0, 0.0, 8.5],
    "New_York": [0.5, 0.5, 0.5],
}


def text_of(entries: dict[str, list[float]], end: str = "\n") -> str:
    return "".join(f"{word} {' '.join(map(repr, vector))}{end}" for word, vector in entries.items())


def glove(entries: dict[str, list[float]]) -> bytes:
    return text_of(entries).encode()


def word2vec_text(entries: dict[str, list[float]]) -> bytes:
    return f"{len(entries)} 3\n".encode() + text_of(entries).encode()


def fasttext(entries: dict[str, list[float]]) -> bytes:
    # fastText's saveVectors leaves a space at the end of a line.
    return f"{len(entries)} 3\n".encode() + text_of(entries, end=" \n").encode()


def word2vec_binary(entries: dict[str, list[float]], between: bytes = b"\n") -> bytes:
    # word2vec.c: fprintf "%lld %lld\n", then for each word fprintf "%s ", fwrite of the floats, fprintf "\n".
    parts = [f"{len(entries)} 3\n".encode()]
    for word, vector in entries.items():
        parts += [word.encode(), b" ", struct.pack("<3f", *vector), between]
    return b"".join(parts)


FORMS = {
    "glove.txt": glove,
    "word2vec.txt": word2vec_text,
    "wiki.vec": fasttext,
    "words.bin": word2vec_binary,
    "tight.bin": lambda entries: word2vec_binary(entries, b""),
    "windows.txt": lambda entries: glove(entries).replace(b"\n", b"\r\n"),
    "marked.txt": lambda entries: b"\xef\xbb\xbf" + word2vec_text(entries),
    "tabs.tsv": lambda entries: glove(entries).replace(b" ", b"\t"),
    "cut.txt": lambda entries: glove(entries).rstrip(b"\n"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_vectors_that_were_written(tmp_path: Path, name: str, packed: bool) -> None:
    content = FORMS[name](ENTRIES)
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    words = ["unseen", *reversed(ENTRIES), "", "the"]
    found = read_vectors(path, words)
    assert found.rows.dtype == np.float32 and found.rows.shape == (len(ENTRIES) + 1, 3)
    assert found.index.tolist() == [1, 2, 3, 4, 5, 6, 8]
    for place, row in zip(found.index, found.rows, strict=True):
        np.testing.assert_array_equal(row, np.array(ENTRIES[words[place]], np.float32))
    assert (found.wanted, found.duplicates, found.share) == (len(words), 0, 7 / 9)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6),
        st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    )
)
def test_text_and_binary_are_told_apart_and_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("forms")
    for name in ("word2vec.txt", "words.bin", "tight.bin"):
        path = folder / "same-name-for-all"
        path.write_bytes(FORMS[name](entries))
        found = read_vectors(path, list(entries), lowercase_fallback=False)
        assert found.share == 1
        np.testing.assert_array_equal(found.rows, np.array(list(entries.values()), np.float32))


def test_a_word_may_have_spaces(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("a 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\n. 10 11 12\n2 3 13 14 15\n")
    found = read_vectors(path, [". . .", "at name@domain.com", ".", "2 3", "2"])
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.rows.tolist() == [[4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]]
    path.write_text(". . . 4 5 6\na 1 2 3\n")
    assert read_vectors(path, ["a", ". . ."]).rows.tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_text("3 2\na 1 2\n  3 4\nb 5 6\n")
    assert read_vectors(path, ["b", " ", "a"]).rows.tolist() == [[5, 6], [3, 4], [1, 2]]
    # No-break spaces and line separators are part of words to the programs that write these files.
    path.write_text("a\u00a0b 1 2\n\u2028 3 4\n\x85 5 6\n", encoding="utf-8")
    assert read_vectors(path, ["a\u00a0b", "\u2028", "\x85"]).rows.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_the_first_of_two_counts(tmp_path: Path) -> None:
    for name in ("word2vec.txt", "words.bin"):
        path = tmp_path / name
        content = FORMS[name]({"a": [1, 2, 3], "b": [4, 5, 6]})
        again = FORMS[name]({"a": [7, 8, 9], "x": [1, 1, 1]})
        path.write_bytes(content.replace(b"2 3\n", b"4 3\n", 1) + again.removeprefix(b"2 3\n"))
        found = read_vectors(path, ["a", "b"])
        assert found.rows.tolist() == [[1, 2, 3], [4, 5, 6]] and found.duplicates == 1


def test_lower_case_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\nParis 3 4\nÉTÉ 5 6\nété 7 8\n", encoding="utf-8")
    words = ["The", "paris", "ÉTÉ", "THE", "Été"]
    found = read_vectors(path, words)
    assert found.index.tolist() == [0, 2, 3, 4]
    assert found.rows.tolist() == [[1, 2], [5, 6], [1, 2], [7, 8]]
    assert read_vectors(path, words, lowercase_fallback=False).index.tolist() == [2]


def test_a_shortened_text_is_read_and_nothing_wanted_is_nothing_found(tmp_path: Path) -> None:
    path = tmp_path / "wiki.vec"
    path.write_text("2000000 2\na 1 2 \nb 3 4 \n")
    assert read_vectors(path, ["b"]).rows.tolist() == [[3, 4]]
    nothing = read_vectors(path, [])
    assert nothing.rows.shape[0] == 0 and nothing.share == 0.0


def test_long_files_are_read_in_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((9000, 40)).astype(np.float32)
    names = [f"w{i}" for i in range(len(rows))]
    text, binary = tmp_path / "a.txt", tmp_path / "a.bin"
    text.write_text("".join(f"{n} {' '.join(map(str, r))}\n" for n, r in zip(names, rows.tolist(), strict=True)))
    parts = (n.encode() + b" " + r.astype("<f4").tobytes() + b"\n" for n, r in zip(names, rows, strict=True))
    binary.write_bytes(b"9000 40\n" + b"".join(parts))
    assert text.stat().st_size > 3 << 20 and binary.stat().st_size > 1 << 20
    for path in (text, binary):
        found = read_vectors(path, names[::-7])
        np.testing.assert_array_equal(found.rows, rows[::-7])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "there are no vectors in it"),
        (b"5 3\n", "there are no vectors in it"),
        (b"the\n", "line 1 has 0 numbers after its word, not at least one"),
        (b"\x0b\n", "line 1 has 0 numbers after its word"),
        (b"5 0\nthe\n", "line 1 says that vectors have 0 dimensions"),
        (b"a 1 2 3\nthe 1 2\n", "line 2 has 2 numbers after its word, not 3"),
        (b"2 3\na 1 2 3\n\nthe 1\n", "line 4 has 1 numbers after its word, not 3"),
        (b"a 1 2 3\nthe 1 x 3\n", "line 2 has something after its word that is no number"),
        (b"a 1 2 3\nb 1 2 3\nthe 1 nan 3\n", "line 3 holds a number that is not finite"),
        (b"a 1 2 3\nthe 1 -inf 3\n", "line 2 holds a number that is not finite"),
        (b"a 1 2 3\nthe 1 1e39 3\n", "line 2 holds a number that is not finite"),
        (word2vec_binary({"the": [1, float("nan"), 2]}), "vector 1 of 1 holds a number that is not finite"),
        (word2vec_binary(ENTRIES)[:-5], "the file ends in vector 6 of 6"),
        (word2vec_binary(ENTRIES).replace(b"6 3", b"9 3"), "the file ends in vector 7 of 9"),
        (b"2 3\n" + b"\x00" * 200_000, "vector 1 of 2 has no word before it"),
        (b"PK\x03\x04" + b"x" * 99, "a zip archive, not text; unpack it first"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00" + b"x" * 99, "a model of fastText, not its vectors"),
        (b"a 1 2 " + b"3" * 6_000_000, "a line has more than"),
        (gzip.compress(glove(ENTRIES), mtime=0)[:-20], "the gzip file is cut off"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_vectors(path, ["the", "New_York"])
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.vec: the file cannot be read"):
        read_vectors(tmp_path / "none.vec", ["a"])


@pytest.mark.parametrize("kind", ["word", "whitespace", "bpe", "unigram", "character"])
def test_tokens_have_the_vectors_of_their_texts(tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer.train(["the cat sees The café, 고양이\n"] * 30, TokenizerConfig(kind=kind, vocab_size=300))
    entries = {
        **ENTRIES,
        "cat": [9.0, 8.0, 7.0],
        "c": [1.0, 0.0, 0.0],
        "<unk>": [3.0, 3.0, 3.0],
        "\\n": [2.0, 2.0, 2.0],
    }
    path = tmp_path / "glove.txt"
    path.write_bytes(glove(entries))
    found = embedding_rows(tokenizer, path)
    expected, texts = {}, 0
    for token in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token).decode("utf-8", "ignore").strip()
        whole = tokenizer.token_bytes(token) == tokenizer.token_bytes(token).decode("utf-8", "ignore").encode()
        if not whole or not text or token in (tokenizer.unk_id, tokenizer.eos_id):
            continue
        texts += 1
        vector = entries.get(text, entries.get(text.lower()))
        if vector is not None:
            expected[token] = vector
    assert found.index.tolist() == list(expected)
    np.testing.assert_array_equal(found.rows, np.array(list(expected.values()), np.float32))
    assert (found.wanted, found.share) == (texts, len(expected) / texts)
    if kind in ("word", "bpe"):
        of = {
            tokenizer.token_bytes(int(t)).decode().strip(): r.tolist()
            for t, r in zip(found.index, found.rows, strict=True)
        }
        assert of["the"] == [1, 2, -0.125] and of["cat"] == [9, 8, 7]
