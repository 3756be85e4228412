"""Pairs of sentences from files of every form, and what is wrong with some of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.config.sections import TokenizerConfig
from recurra.data.pair_corpus import ParallelCorpus, describe_dropped
from recurra.data.parallel import Pair, read_pairs
from recurra.data.sentences import SentenceTokenizer
from recurra.errors import DataError, RunError
from recurra.systems.translation.toy_pairs import toy_pairs

PAIRS = [Pair("a cat", "eine Katze"), Pair("two dogs .", "zwei Hunde ."), Pair("사과 하나", "ein Apfel")]


def write(folder: Path, name: str, lines: list[str] | bytes) -> str:
    path = folder / name
    data = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def test_every_form_gives_the_same_pairs(tmp_path: Path) -> None:
    source = write(tmp_path, "a.en", [f" {pair.source} " for pair in PAIRS])
    target = write(tmp_path, "a.de.gz", [pair.target for pair in PAIRS])
    assert read_pairs(source, target, None) == (PAIRS, 0)
    # A line separator of Unicode is a character of a line, not its end.
    assert read_pairs(write(tmp_path, "u", b"a\xe2\x80\xa8b\r\nc"), write(tmp_path, "v", ["x", "y"]), None)[0] == [
        Pair("a\u2028b", "x"),
        Pair("c", "y"),
    ]
    # Nor does a stray carriage return end one, as it does not for the tools that files of pairs are aligned with.
    stray = write(tmp_path, "w", b"a\rb\r\nc\r"), write(tmp_path, "v2", b"x\r\ny\r\n")
    assert read_pairs(*stray, None)[0] == [Pair("a\rb", "x"), Pair("c", "y")]
    tsv = write(tmp_path, "a.tsv", [f"{pair.target}\tx\t{pair.source}" for pair in PAIRS])
    assert read_pairs(None, None, tsv, columns=(3, 1)) == (PAIRS, 0)
    lines = [json.dumps({"en": pair.source, "de": pair.target}, ensure_ascii=False) for pair in PAIRS]
    assert read_pairs(None, None, write(tmp_path, "a.jsonl.gz", lines), keys=("en", "de")) == (PAIRS, 0)


def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path) -> None:
    three, two = write(tmp_path, "three", ["a", "b", "c"]), write(tmp_path, "two", ["x", "y"])
    empty = write(tmp_path, "empty-line", ["x", " ", "z"])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"source": three, "target": two}, r"three:3: this line has no partner: \S+two has 2 lines and \S+three has 3"),
        ({"source": two, "target": three}, r"three:3: this line has no partner"),
        ({"source": three, "target": empty}, r"empty-line:2: there is no sentence"),
        ({"source": empty, "target": three}, r"empty-line:2: there is no sentence"),
        ({"source": three, "target": write(tmp_path, "latin", b"a\nb\xfc\nc\n")}, r"latin: byte 0xfc .*\(line 2\)"),
        ({"source": three, "target": write(tmp_path, "cr", b"a\rb\nc\xfc\n")}, r"cr: byte 0xfc .*\(line 2\)"),
        ({"source": str(tmp_path / "thre"), "target": two}, r"no such file .*three"),
        ({"pairs": write(tmp_path, "p.tsv", ["a\tb", "c"])}, r"p\.tsv:2: has 1 column"),
        (
            {"pairs": write(tmp_path, "p.jsonl", ['{"source": "a", "target": "b"}', "{"])},
            r"p\.jsonl:2: is not one JSON",
        ),
        ({"pairs": write(tmp_path, "q.jsonl", ['{"source": "a", "target": 1}'])}, r"q\.jsonl:1: .*'target'"),
        ({"pairs": write(tmp_path, "r.jsonl", ['["a", "b"]'])}, r"r\.jsonl:1: there is no text under"),
        (
            {"pairs": write(tmp_path, "t.jsonl", ['{"source": "a", "target": "b\\ud83d"}'])},
            r"t\.jsonl:1: .*'target' has half of a surrogate pair",
        ),
        ({"pairs": write(tmp_path, "s.tsv", ["a\tb", "\tc"])}, r"s\.tsv:2: there is no sentence"),
        ({"pairs": write(tmp_path, "p.xml", ["a,b"])}, r"p\.xml: pairs are read from \.tsv"),
        ({"source": str(tmp_path), "target": two}, r"names \d+ files"),
        ({"source": write(tmp_path, "nothing", b""), "target": write(tmp_path, "none", b"")}, "no pair of sentences"),
        ({}, "No pairs of sentences were named"),
    ]
    for options, message in wrong:
        with pytest.raises(DataError, match=message):
            read_pairs(**{"source": None, "target": None, "pairs": None} | options)
    assert read_pairs(three, empty, None, empty="drop") == ([Pair("a", "x"), Pair("c", "z")], 1)
    assert read_pairs(three, empty, None, empty="keep") == ([Pair("a", "x"), Pair("b", ""), Pair("c", "z")], 0)


@pytest.fixture
def tokenizer() -> SentenceTokenizer:
    return SentenceTokenizer.train([part for pair in PAIRS for part in pair], TokenizerConfig(kind="word"))


def test_a_corpus_keeps_its_pairs_and_comes_back_from_its_file(tmp_path: Path, tokenizer: SentenceTokenizer) -> None:
    corpus = ParallelCorpus.of(PAIRS, tokenizer, tokenizer)
    corpus.save(tmp_path / "deep" / "train.npz")
    for each in (corpus, ParallelCorpus.open(tmp_path / "deep" / "train.npz")):
        assert [tuple(tokenizer.decode(side.tolist()) for side in each.pair(i)) for i in range(len(each))] == [
            ("a cat", "eine Katze"), ("two dogs .", "zwei Hunde ."), ("사과 하나", "ein Apfel"),
        ]  # fmt: skip
        assert each.source_lengths.tolist() == [2, 3, 2]
        assert each.characters == sum(len(pair.target) + 1 for pair in PAIRS)
        assert each.fingerprint == corpus.fingerprint
    data = (tmp_path / "deep" / "train.npz").read_bytes()
    for broken in (data[: len(data) // 2], b"", b"text"):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(RunError, match="prepare them again"):
            ParallelCorpus.open(tmp_path / "broken.npz")
    with pytest.raises(RunError, match="cannot be read"):
        ParallelCorpus.open(tmp_path / "missing.npz")


DAMAGED: dict[str, dict[str, Any]] = {
    "starts that fall": {"source_starts": np.array([0, 5, 2, 7], np.int64)},
    "starts that wrap": {"source_starts": np.array([0, -(2**63), 2**63 - 1, 7], np.int64)},
    "starts beyond the end": {"target_starts": np.array([0, 2, 4, 100], np.int64)},
    "fewer sentences on a side": {"source_starts": np.array([0, 7], np.int64)},
    "no sentences": {"source_starts": np.array([0], np.int64)},
    "tokens in rows": {"source": np.zeros((7, 1), np.uint32)},
    "fractions of tokens": {"source": np.zeros(7, np.float32)},
    "characters in a row": {"characters": np.arange(3)},
    "a number for a fingerprint": {"fingerprint": np.int64(3)},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_corpus_of_damaged_arrays_is_refused(name: str, tmp_path: Path, tokenizer: SentenceTokenizer) -> None:
    path = tmp_path / "train.npz"
    ParallelCorpus.of(PAIRS, tokenizer, tokenizer).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **DAMAGED[name]})
    with pytest.raises(RunError, match="prepare them again"):
        ParallelCorpus.open(path)


def test_filters_drop_by_length_and_count_why(tokenizer: SentenceTokenizer) -> None:
    pairs = [Pair("a " * n, "ein " * m) for n, m in [(1, 1), (5, 5), (6, 1), (1, 3), (2, 4)]]
    corpus = ParallelCorpus.of(pairs, tokenizer, tokenizer)
    kept, dropped = corpus.kept(5, 2.0)
    assert dropped == {"too_long": 1, "unlike_lengths": 1, "no_tokens": 0}
    lengths = list(zip(kept.source_lengths.tolist(), kept.target_lengths.tolist(), strict=True))
    assert lengths == [(1, 1), (5, 5), (2, 4)]
    assert [ids.tolist() for ids in kept.pair(2)] == [ids.tolist() for ids in corpus.pair(4)]
    assert corpus.kept(10, None)[0] is corpus
    assert describe_dropped(dropped, 5) == (
        "2 of 5 training pairs are left out: 1 longer than data.max_length, 1 beyond data.max_length_ratio."
    )
    assert describe_dropped({"too_long": 0}, 5) == ""
    with pytest.raises(DataError, match="All 5 training pairs were dropped"):
        corpus.kept(0, None)


@pytest.mark.parametrize("kind", ["word", "whitespace", "character", "bpe", "unigram"])
def test_sentences_come_back_from_their_tokens(kind: Any) -> None:
    texts = [part for pair in PAIRS for part in pair] * 3
    tokenizer = SentenceTokenizer.train(texts, TokenizerConfig(kind=kind, vocab_size=300))
    for text in ("a cat", "zwei Hunde", "사과 하나", ""):
        ids = tokenizer.encode(f"  {text.replace(' ', '  ')}\n")
        assert tokenizer.decode(ids.tolist()) == text
        assert tokenizer.eos_id not in ids
        assert len(tokenizer.pieces(text)) == len(ids)
        if kind not in ("bpe", "unigram"):
            between = "" if kind in ("word", "whitespace") else " "
            assert "".join(tokenizer.pieces(text)).strip() == text.replace(" ", between)
    # A word has the same tokens at the start as anywhere else.
    if kind in ("bpe", "unigram"):
        cat, two = tokenizer.encode("cat"), tokenizer.encode("a cat")
        assert np.array_equal(cat, two[len(two) - len(cat) :])


def test_unknown_words_are_replaced_where_asked(tokenizer: SentenceTokenizer) -> None:
    ids = tokenizer.encode("a zebra .").tolist()
    assert ids[1] == tokenizer.unk_id
    assert tokenizer.pieces("a zebra .") == ["a", "zebra", "."]
    assert tokenizer.decode(ids, {1: "Zebra"}) == "a Zebra ."
    letters = SentenceTokenizer.train(["abc"], TokenizerConfig(kind="character"))
    assert letters.decode(letters.encode("aéc").tolist(), {1: "é"}) == "aéc"


@pytest.mark.parametrize("kind", ["word", "whitespace", "character", "bpe", "unigram"])
def test_a_reference_is_what_its_own_tokens_read_as(kind: Any) -> None:
    text = 'Ein  Hund , der ( nie ) schläft , sagt " ja " .'
    tokenizer = SentenceTokenizer.train([text] * 3, TokenizerConfig(kind=kind, vocab_size=300, lowercase=True))
    assert tokenizer.reference(text) == tokenizer.decode(tokenizer.encode(text).tolist())


def test_toy_pairs_are_what_they_say_and_the_same_for_a_seed() -> None:
    for kind, step in (("reverse", -1), ("copy", 1)):
        pairs = toy_pairs(kind, 200, 3)
        assert pairs == toy_pairs(kind, 200, 3) != toy_pairs(kind, 200, 4)
        assert all(pair.target.split() == pair.source.split()[::step] for pair in pairs)
        assert {len(pair.source.split()) for pair in pairs} == set(range(1, 13))


def test_nested_objects_are_read_by_paths_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"translation": {"en": "a pear", "de": "eine Birne"}}\n'
        '{"translation.en": "a fig", "translation": {"de": "x"}}\n'
    )
    pairs, _ = read_pairs(None, None, str(path), keys=("translation.en", "translation.de"))
    assert pairs == [("a pear", "eine Birne"), ("a fig", "x")]
    path.write_text('{"translation": "a pear"}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: there is no text under the key 'translation\.en'"):
        read_pairs(None, None, str(path), keys=("translation.en", "translation.de"))


def test_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('id,target,source\n1,"eine Birne, reif","a ""ripe"" pear"\n2,zwei,two\n')
    assert read_pairs(None, None, str(path))[0] == [('a "ripe" pear', "eine Birne, reif"), ("two", "zwei")]
    assert read_pairs(None, None, str(path), keys=("id", "source"))[0][1] == ("2", "two")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,source\n1,a\n", r"pairs\.csv:1: the first line names no column 'target'"),
        ("source,target\na,b\nc\n", r"pairs\.csv:3: has 1 column, and the first line 2"),
        ("source,target\na,b\n,c\n", r"pairs\.csv:3: there is no sentence in this line"),
        ('source,target\na,"b\n', r"pairs\.csv:\d: is not CSV"),
        ("", r"pairs\.csv:1: the first line names no column 'source'"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named_by_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_pairs(None, None, str(path))
