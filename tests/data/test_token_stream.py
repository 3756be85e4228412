"""Prepared text: equal to encoding it in one go, exact counts, nothing half-written."""

from __future__ import annotations

import gzip
import json
import resource
from pathlib import Path

import numpy as np
import pytest

from recurra.config.sections import TokenizerConfig
from recurra.data import text as text_module
from recurra.data import token_stream
from recurra.data.text import read_text
from recurra.data.token_stream import TokenStream, prepare
from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError, RunError

LINES = [
    "The apple and the pear, the apple and the pair.",
    "나는 학교에 갔다. 나는 밥을 먹었다.",
    "",
    "\tمرحبا بالعالم",
    "今天天气很好，我们去公园。👩‍👩‍👧",
]
TEXT = "".join(f"{i} {LINES[i % len(LINES)]}\n" for i in range(2000))


@pytest.fixture
def source(tmp_path: Path) -> list[Path]:
    cut = TEXT.index("\n", len(TEXT) // 2) + 1
    (tmp_path / "1.txt").write_text(TEXT[:cut], encoding="utf-8")
    (tmp_path / "2.txt").write_bytes(gzip.compress(TEXT[cut:-1].encode()))
    return [tmp_path / "1.txt", tmp_path / "2.txt"]


def tokenizer_of(kind: str, vocab_size: int = 400) -> Tokenizer:
    return Tokenizer.train([TEXT], TokenizerConfig(kind=kind, vocab_size=vocab_size))


@pytest.mark.parametrize("kind", ["character", "word", "bpe", "unigram"])
@pytest.mark.parametrize("piece_size", [1 << 20, 300])
def test_a_prepared_text_is_its_encoding(tmp_path, source, monkeypatch, kind, piece_size):
    monkeypatch.setattr(token_stream, "PIECE_SIZE", piece_size)
    monkeypatch.setattr(text_module, "_READ_SIZE", 1000)
    tokenizer = tokenizer_of(kind)
    out = tmp_path / "run" / "train.tokens"
    seen: list[tuple[int, int]] = []
    stream = prepare(source, tokenizer, out, progress=lambda *state: seen.append(state))
    assert stream.tokens.dtype == np.uint16 and not stream.tokens.flags.writeable
    np.testing.assert_array_equal(stream.tokens, tokenizer.encode(TEXT))
    assert (len(stream), stream.characters, stream.words, stream.bytes) == (
        len(tokenizer.encode(TEXT)),
        len(TEXT),
        len(TEXT.split()),
        len(TEXT.encode()),
    )
    assert stream.tokenizer_fingerprint == tokenizer.fingerprint
    assert len(seen) > 2 and seen[-1] == (sum(p.stat().st_size for p in source),) * 2
    assert sorted(p.name for p in out.parent.iterdir()) == ["train.tokens", "train.tokens.json"]
    again = TokenStream.open(out)
    np.testing.assert_array_equal(again.tokens, stream.tokens)


@pytest.mark.parametrize("kind", ["character", "bpe", "unigram"])
def test_the_characters_of_a_slice_are_exact(tmp_path, source, kind):
    tokenizer = tokenizer_of(kind)
    stream = prepare(source, tokenizer, tmp_path / "tokens")
    normal = tokenizer.normalize(TEXT)
    total = 0
    for start, stop in ((0, 777), (777, 5000), (5000, len(stream))):
        part = stream.slice(start, stop)
        np.testing.assert_array_equal(part.tokens, stream.tokens[start:stop])
        total += part.characters
    assert total == len(normal)
    ends = np.flatnonzero(stream.tokens == tokenizer.eos_id)[[10, 900]] + 1
    part = stream.slice(*ends)
    assert part.characters == len("\n".join(normal.split("\n")[11:901])) + 1
    assert part.slice(0, len(part)).characters == part.characters


def test_the_characters_of_a_slice_of_words_are_near(tmp_path, source):
    tokenizer = tokenizer_of("word", 2500)
    stream = prepare(source, tokenizer, tmp_path / "tokens")
    ends = np.flatnonzero(stream.tokens == tokenizer.eos_id)[[99, 1099]] + 1
    part = stream.slice(*ends)
    lines = TEXT.split("\n")[100:1100]
    assert part.characters == pytest.approx(len("\n".join(lines)) + 1, rel=0.03)
    assert part.words == pytest.approx(len("\n".join(lines).split()), rel=0.03)


def test_a_split_is_at_a_line_end_near_the_fraction(tmp_path, source):
    tokenizer = tokenizer_of("character")
    stream = prepare(source, tokenizer, tmp_path / "tokens")
    for fraction in (0.1, 0.5, 0.01):
        left, right = stream.split(fraction)
        assert left.tokens[-1] == tokenizer.eos_id
        assert len(right) == pytest.approx(fraction * len(stream), rel=0.1)
        np.testing.assert_array_equal(np.concatenate([left.tokens, right.tokens]), stream.tokens)
        assert left.characters + right.characters == stream.characters


def test_large_vocabularies_take_four_bytes(tmp_path):
    letters = "".join(map(chr, range(0x20000, 0x20000 + 40_000))) + "".join(map(chr, range(0x30000, 0x30000 + 40_000)))
    (tmp_path / "text").write_text(letters, encoding="utf-8")
    tokenizer = Tokenizer.train([letters], TokenizerConfig(kind="character", vocab_size=100_000))
    stream = prepare([tmp_path / "text"], tokenizer, tmp_path / "tokens")
    assert stream.tokens.dtype == np.uint32 and stream.tokens.max() == 80_001


@pytest.mark.parametrize("kind", ["character", "word", "bpe", "unigram"])
@pytest.mark.parametrize("spaces", [True, False])
def test_a_long_line_is_prepared(tmp_path, kind, spaces):
    line = ("abcdefghi " if spaces else "abcdefghij") * 250_000
    (tmp_path / "text").write_text(line)
    tokenizer = Tokenizer.train(read_text([tmp_path / "text"]), TokenizerConfig(kind=kind, vocab_size=300))
    stream = prepare([tmp_path / "text"], tokenizer, tmp_path / "tokens")
    assert stream.characters == 2_500_001
    if kind != "word":
        assert tokenizer.decode(stream.tokens) == line + "\n"
    elif spaces:
        assert tokenizer.decode(stream.tokens) == line[:-1] + "\n"


def test_bad_text_leaves_nothing_behind(tmp_path, source):
    tokenizer = tokenizer_of("character")
    (tmp_path / "bad").write_bytes(b"fine\n" * 400_000 + b"\xff")
    with pytest.raises(DataError, match="line 400001"):
        prepare([*source, tmp_path / "bad"], tokenizer, tmp_path / "run" / "tokens")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_failed_write_keeps_the_previous_file(tmp_path, source):
    tokenizer = tokenizer_of("character")
    out = tmp_path / "run" / "tokens"
    before = np.array(prepare(source[:1], tokenizer, out).tokens)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before.nbytes, limits[1]))
    try:
        with pytest.raises(RunError, match=r"tokens: the prepared text cannot be written \(File too large\)"):
            prepare(source, tokenizer, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(TokenStream.open(out).tokens, before)
    assert sorted(p.name for p in out.parent.iterdir()) == ["tokens", "tokens.json"]


def test_damaged_streams_are_refused(tmp_path, source):
    out = tmp_path / "tokens"
    prepare(source, tokenizer_of("character"), out)
    header = json.loads((tmp_path / "tokens.json").read_text())
    with open(out, "ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="bytes instead of"):
        TokenStream.open(out)
    (tmp_path / "tokens.json").write_text(json.dumps(header | {"format": 99}))
    with pytest.raises(RunError, match="newer recurra"):
        TokenStream.open(out)
    damaged = [{"tokens": "many"}, {"token_characters": [[1]]}, {"dtype": "<f4"}, {"characters": 0}, {"eos_id": -1}]
    for content in ("", "[]", "{}", json.dumps({"format": 1}), *(json.dumps(header | each) for each in damaged)):
        (tmp_path / "tokens.json").write_text(content)
        with pytest.raises(RunError, match="not a header"):
            TokenStream.open(out)
    (tmp_path / "tokens.json").unlink()
    with pytest.raises(RunError, match="cannot be read"):
        TokenStream.open(out)


def test_a_stream_knows_its_vocabulary(tmp_path, source):
    tokenizer = tokenizer_of("character")
    out = tmp_path / "tokens"
    assert prepare(source, tokenizer, out).is_of(tokenizer.vocab_size)
    assert not TokenStream.open(out).is_of(tokenizer.vocab_size + 1)
    out.write_bytes(b"\xff" * out.stat().st_size)
    assert not TokenStream.open(out).is_of(tokenizer.vocab_size)
