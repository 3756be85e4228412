"""Training pairs in a store: the same pairs, tokens and held sources as when all were read into memory at once."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.config.sections import TokenizerConfig
from recurra.data.pair_corpus import ParallelCorpus, fitting
from recurra.data.pair_store import PairStore, held_sources, keep_texts, sentences, tokenise
from recurra.data.parallel import Pair, PairReader
from recurra.data.sentences import SentenceTokenizer
from recurra.data.source_files import changed_sources
from recurra.data.store import ExampleStore
from recurra.data.store_format import Rows
from recurra.errors import DataError, RunError

WORDS = ["an", "apple", "사과", "배", "don't", "3.14", "漢字", "é", "e\u0301", "\u0301x", ".", "x\u200dy", "“a”", "ΑΣ"]
KINDS = ["word", "whitespace", "character", "bpe", "unigram"]


def made(count: int, seed: int = 0) -> list[Pair]:
    choose = random.Random(seed)
    return [Pair(*(" ".join(choose.choices(WORDS, k=choose.randint(1, 9))) for _ in "st")) for _ in range(count)]


def learnt(kind: Any, texts: list[str], **settings: Any) -> SentenceTokenizer:
    return SentenceTokenizer.train(texts, TokenizerConfig(kind=kind, vocab_size=300, **settings))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"normalization": "nfkc", "lowercase": True}])
def test_many_sentences_have_the_tokens_that_each_has(kind: str, settings: dict[str, Any]) -> None:
    texts = [text for pair in made(60) for text in pair] + [
        "",
        "  ",
        "a  b\r\nc",
        "\u0301",
        "a" * 40_000,
        "x y" * 20_000,
    ]
    texts += ["\n", "<unk> \u2028 b", "a\x1cb", "\ufeff"]
    tokenizer = learnt(kind, texts[:80], **settings)
    random.Random(1).shuffle(texts)
    ids, starts = tokenizer.encode_all(texts)
    assert len(starts) == len(texts) + 1 and starts[0] == 0 and starts[-1] == len(ids)
    for index, text in enumerate(texts):
        assert np.array_equal(ids[starts[index] : starts[index + 1]], tokenizer.encode(text))
    assert [part.tolist() for part in tokenizer.encode_all([])] == [[], [0]]


def drawn_from_strings(pairs: list[Pair], fraction: float, seed: int) -> set[str]:
    """The sources that validation takes, drawn from a list of the different ones."""
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    count = min(max(1, round(fraction * len(sources))), len(sources) - 1)
    return set(random.Random(seed).sample(sources, count))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("count", "different", "fraction"), [(2, 2, 0.1), (50, 9, 0.3), (3000, 2000, 0.1), (900, 700, 0.97)]
)
def test_the_held_sources_are_those_drawn_from_all_different_ones(
    count: int, different: int, fraction: float, seed: int, tmp_path: Path
) -> None:
    choose = random.Random(seed)
    names = choose.sample(range(10**9), different)
    chosen = [*names, *choose.choices(names, k=count - different)]
    choose.shuffle(chosen)
    pairs = [Pair(f"s{name}", f"t{number}") for number, name in enumerate(chosen)]
    hashes = keep_texts(tmp_path / "texts", pairs)
    held = held_sources(hashes, fraction, seed)
    expected = drawn_from_strings(pairs, fraction, seed)
    assert [pair.source in expected for pair in pairs] == held.tolist()
    texts = ExampleStore.open(tmp_path / "texts")
    assert list(sentences(texts, ~held, "target")) == [pair.target for pair in pairs if pair.source not in expected]


def test_one_source_is_not_parted(tmp_path: Path) -> None:
    hashes = keep_texts(tmp_path / "texts", [Pair("a", "b"), Pair("a", "c")])
    assert not held_sources(hashes, 0.5, 0).any()


@pytest.mark.parametrize("kind", ["word", "bpe"])
@pytest.mark.parametrize("bounds", [(100, None), (9, 2.0)])
def test_a_store_holds_the_pairs_that_a_corpus_does(
    kind: str, bounds: tuple[int, float | None], tmp_path: Path
) -> None:
    # More than one part of the file.
    pairs = made(5000)
    tokenizers = learnt(kind, [pair.source for pair in pairs]), learnt(kind, [pair.target for pair in pairs])
    keep_texts(tmp_path / "texts", pairs)
    chosen = np.random.default_rng(0).random(5000) < 0.9
    dropped = tokenise(tmp_path / "train", ExampleStore.open(tmp_path / "texts"), chosen, tokenizers, *bounds, files=[])
    store = PairStore(tmp_path / "train")
    trained = [pair for pair, take in zip(pairs, chosen, strict=True) if take]
    corpus, expected = ParallelCorpus.of(trained, *tokenizers).kept(*bounds)
    assert dropped == expected and len(store) == len(corpus) and store.fingerprint == corpus.fingerprint
    assert np.array_equal(store.source_lengths, corpus.source_lengths)
    assert np.array_equal(store.target_lengths, corpus.target_lengths)
    assert store.target_tokens == corpus.target_tokens == len(corpus.target)
    for index in range(len(corpus)):
        assert all(map(np.array_equal, store.pair(index), corpus.pair(index)))
    whole = ParallelCorpus.of(trained, *tokenizers)
    short = fitting(whole.source_lengths, whole.target_lengths, *bounds)[0]
    kept = [pair for pair, fit in zip(trained, short, strict=True) if fit]
    assert store.characters == sum(len(tokenizers[1].tokenizer.normalize(pair.target)) + 1 for pair in kept)


def test_ids_beyond_a_vocabulary_are_damage(tmp_path: Path) -> None:
    pairs = made(50)
    tokenizer = learnt("word", [text for pair in pairs for text in pair])
    keep_texts(tmp_path / "texts", pairs)
    tokenise(tmp_path / "x", ExampleStore.open(tmp_path / "texts"), np.ones(50, bool), (tokenizer,) * 2, 99, None, [])
    store = PairStore(tmp_path / "x")
    store.require_below(tokenizer.vocab_size, tokenizer.vocab_size)
    assert len(store.pair(49)) == 2
    store.require_below(3, tokenizer.vocab_size)
    with pytest.raises(RunError, match="source has numbers outside of 0 to 2"):
        store.pair(49)
    held = ParallelCorpus.of(pairs, tokenizer, tokenizer)
    held.require_below(tokenizer.vocab_size, tokenizer.vocab_size)
    with pytest.raises(RunError, match="hold tokens beyond the vocabulary"):
        held.require_below(tokenizer.vocab_size, 3)


def test_all_dropped_pairs_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    pairs = made(20)
    tokenizer = learnt("word", [text for pair in pairs for text in pair])
    keep_texts(tmp_path / "texts", pairs)
    texts = ExampleStore.open(tmp_path / "texts")
    with pytest.raises(DataError, match="All 20 training pairs were dropped for their lengths"):
        tokenise(tmp_path / "x", texts, np.ones(20, bool), (tokenizer,) * 2, 0, None, [])
    assert not list(tmp_path.glob("x.*"))


def test_the_header_of_something_else_is_refused(tmp_path: Path) -> None:
    keep_texts(tmp_path / "x", made(3))
    with pytest.raises(RunError, match=r"x\.json: this is not the header of tokenised pairs"):
        PairStore(tmp_path / "x")
    tokenizer = learnt("word", ["an apple"])
    texts = ExampleStore.open(tmp_path / "x")
    tokenise(tmp_path / "y", texts, np.ones(3, bool), (tokenizer,) * 2, 99, None, [])
    tree = json.loads((tmp_path / "y.json").read_text())
    for key, value in [("fingerprint", 3), ("characters", -1), ("characters", 1.5), ("target_tokens", None)]:
        (tmp_path / "y.json").write_text(json.dumps({**tree, "about": {**tree["about"], key: value}}))
        with pytest.raises(RunError, match="not the header of tokenised pairs"):
            PairStore(tmp_path / "y")


def test_the_files_that_pairs_are_read_from_are_known_by_their_hash(tmp_path: Path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.de.gz"
    source.write_text("a cat\na dog\n", encoding="utf-8")
    target.write_bytes(gzip.compress(b"eine Katze\nein Hund\n"))
    reader = PairReader(str(source), str(target), None)
    assert next(iter(reader)) == Pair("a cat", "eine Katze") and reader.files == []
    assert len(list(reader)) == 2
    assert {file.name: file.sha256 for file in reader.files} == {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, target)
    }
    assert all(file.size == Path(file.name).stat().st_size for file in reader.files)
    assert changed_sources(reader.files) == []


def test_rows_are_chosen() -> None:
    rows = Rows(np.arange(6), np.array([0, 2, 2, 5, 6]))
    values, starts = rows.chosen(np.array([True, True, False, True]))
    assert values.tolist() == [0, 1, 5] and starts.tolist() == [0, 2, 2, 3]
    assert [part.tolist() for part in rows.chosen(np.zeros(4, bool))] == [[], [0]]
