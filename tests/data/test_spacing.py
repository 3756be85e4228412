"""Spaces between word tokens: learnt from the training text, and kept in the saved tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config.sections import TokenizerConfig
from recurra.data import spacing as spacing_module
from recurra.data.sentences import SentenceTokenizer
from recurra.data.spacing import Spacing, SpacingCounter
from recurra.data.tokenizer import Tokenizer
from recurra.data.tokenizer_word import WordTokenizer
from recurra.data.words import BoundedCounter, joins_tightly
from recurra.errors import RunError

CONFIG = TokenizerConfig(kind="word", vocab_size=500)
LINES = [
    "see http://a.b/c?d for AT&T, at 3:45 pm.",
    "I don't live in the U.S. (a) or (b).",
    "He said \"come in\" and 'sit'; it costs $5, €7.50 or 9 %.",
    "나는 학교에서(2층) 책을 읽었다. '정말'이라고 했다...",
    "今天天气很好，我们去「公园」。日本 の カタカナ",
    "x=1 and y = 2, a+b; #tag @name a_b",
    "👩‍👩‍👧 ok 👍🏽👍🏽 🇰🇷🇯🇵",
]
texts = st.text(st.sampled_from("ab1_é\u0301 \t\n\x1c'’\".,3漢字각カ:&/?()-_👩🏽\u200d🇰$"), max_size=60)


def trained(text: str, vocab_size: int = 500) -> WordTokenizer:
    tokenizer = Tokenizer.train([text], TokenizerConfig(kind="word", vocab_size=vocab_size))
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


def by_the_rules(tokenizer: WordTokenizer) -> WordTokenizer:
    return WordTokenizer(tokenizer._strings, tokenizer.normalization, tokenizer.lowercase)


@pytest.fixture(scope="module")
def odd() -> WordTokenizer:
    return trained("".join(f"{line}\n" for line in LINES))


@pytest.mark.parametrize("line", LINES)
def test_what_the_text_spells_comes_back(odd: WordTokenizer, line: str) -> None:
    assert odd.unk_id not in odd.encode(line)
    assert odd.decode(odd.encode(line)) == line
    assert SentenceTokenizer(odd).reference(line) == line


def test_the_rules_alone_do_not_bring_it_back(odd: WordTokenizer) -> None:
    rules = by_the_rules(odd)
    assert [line for line in LINES if rules.decode(rules.encode(line)) == line] == []
    assert rules.encode("\n".join(LINES)).tolist() == odd.encode("\n".join(LINES)).tolist()


def test_each_text_has_its_own_spelling() -> None:
    together, apart = "it is 3:45 (now), well-known\n", "it is 3 : 45 ( now ) , well - known\n"
    for line in (together, apart):
        tokenizer = trained(line * 3)
        for written in (together, apart):
            assert tokenizer.decode(tokenizer.encode(written)) == line


def test_the_majority_decides_pair_by_pair() -> None:
    tokenizer = trained("x&y x&y x & y\nu & v u & v u&v\n")
    assert tokenizer.decode(tokenizer.encode("x & y u&v")) == "x&y u & v"


def test_what_was_not_seen_follows_the_habits_of_its_tokens() -> None:
    seen = "".join(f"a{i}&b{i} c{i}: d{i}\n" for i in range(20))
    tokenizer = trained(seen)
    assert tokenizer.decode(tokenizer.encode("a1&b2")) == "a1&b2"
    assert tokenizer.decode(tokenizer.encode("a1 & d2")) == "a1&d2"
    # Of these nothing was seen.
    assert tokenizer.decode(tokenizer.encode("c1, d2")) == "c1 <unk> d2"
    assert tokenizer.join(["c1", ",", "d2", "(", "e", ")"]) == "c1, d2 (e)"


def test_a_tight_text_never_joins_two_words() -> None:
    tokenizer = trained("".join(f"a{i}=b{i}+c{i}/d{i}\n" for i in range(30)) + "two words\n")
    assert tokenizer.decode(tokenizer.encode("a1 b2 two c3")) == "a1 b2 two c3"
    assert tokenizer.decode([0, 0, *tokenizer.encode("two")]) == "<unk> <unk> two"


def test_unknown_words_are_spaced_as_the_rare_ones_of_the_text() -> None:
    text = "".join(f"the <n{i}> is here\n" for i in range(50))
    tokenizer = trained(text, vocab_size=7)
    assert tokenizer.decode(tokenizer.encode("the <n777> is here")) == "the <<unk>> is here"
    assert tokenizer.join(["the", "<", "seldom", ">", "is"]) == "the <seldom> is"


def brute_force(lines: list[str]) -> int:
    """How many gaps between two tokens the best table of pairs, contexts apart, cannot get right."""
    counts: dict[tuple[str, str, bool, bool], Counter[bool]] = {}
    for line in lines:
        place, opened, left, before = 0, set(), None, True
        for word in WordTokenizer.split(line):
            start = line.index(word, place)
            space = line[place:start] != ""
            place = start + len(word)
            tight = left in opened or word in opened
            if word in ('"', "'"):
                opened ^= {word}
            if left is not None:
                key = (left, word, before, not (tight or joins_tightly(left, word)))
                counts.setdefault(key, Counter())[space] += 1
            before = space if left is not None else True
            left = word
    return sum(min(found[True], found[False]) for found in counts.values())


@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("ab .:&-(\"'漢,"), min_size=1, max_size=12).map(str.strip), max_size=8))
def test_as_few_gaps_are_wrong_as_pairs_allow(lines: list[str]) -> None:
    lines = [line for line in lines if line]
    counter = SpacingCounter()
    words = counter.words("".join(f"{line}\n" for line in lines))
    strings = ["<unk>", "\n", *sorted(set(words) - {"\n"})]
    table = Spacing.learn(counter.gaps, strings)
    ids = {string: token for token, string in enumerate(strings)}
    wrong = 0
    for (left, right, before, tight, space), count in counter.gaps.items():
        rules = not (tight or joins_tightly(left, right))
        wrong += count * (table.spaced(ids[left], ids[right], before, rules) != space)
    assert wrong == brute_force(lines)


@settings(max_examples=200)
@given(texts)
def test_words_are_counted_as_they_are_split(text: str) -> None:
    assert SpacingCounter().words(text) == WordTokenizer.split(text)


@settings(max_examples=100)
@given(st.data())
def test_token_by_token_the_text_is_the_same(data: st.DataObject) -> None:
    tokenizer = trained("".join(f"{line}\n" for line in LINES))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    decoder = tokenizer.decoder()
    pieces = [decoder.push(token) for token in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)
    known = [token for token in ids if token]
    # A piece is its word and at most one space before it, whatever comes after.
    assert tokenizer.decode(known).replace(" ", "") == "".join(tokenizer._strings[token] for token in known)


def test_the_file_keeps_it_and_the_fingerprint_covers_it(odd: WordTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    odd.save(path)
    loaded = Tokenizer.load(path)
    assert loaded == odd and loaded.fingerprint == odd.fingerprint != by_the_rules(odd).fingerprint
    for line in LINES:
        assert loaded.decode(loaded.encode(line)) == line
    library = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    assert library.encode("\n".join(LINES)).ids == odd.encode("\n".join(LINES)).tolist()
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["model"]["spacing"][3]["pairs"].pop()
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert Tokenizer.load(path).fingerprint != odd.fingerprint


def test_a_file_without_it_is_read_and_written_as_before(odd: WordTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    old = by_the_rules(odd)
    library = WordTokenizer.library({string: token for token, string in enumerate(odd._strings)})
    normalizers = tokenizers.normalizers
    library.normalizer = normalizers.Sequence([normalizers.Replace(tokenizers.Regex("\r\n?"), "\n"), normalizers.NFC()])
    path.write_text(library.to_str(), encoding="utf-8")
    loaded = Tokenizer.load(path)
    assert loaded == old and loaded.decode(loaded.encode("AT&T (x)")) == "AT & T (x)"
    loaded.save(path)
    assert path.read_text(encoding="utf-8") == library.to_str()
    # What the rules spell already needs no table.
    assert "spacing" not in trained("a plain line, well-known (yes).\n" * 2)._json


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.pop(),
        lambda table: table.clear(),
        lambda table: table[0].pop("pairs"),
        lambda table: table[0].update(more=[]),
        lambda table: table[1].update(space=1),
        lambda table: table[1].update(before=[10**6]),
        lambda table: table[1].update(after=[-1]),
        lambda table: table[1].update(after=[True]),
        lambda table: table[1].update(after=[3, 2]),
        lambda table: table[1].update(after=[2, 2]),
        lambda table: table[1].update(before="abc"),
        lambda table: table[2].update(pairs=[[1]]),
        lambda table: table[2].update(pairs=[[1, 10**6]]),
        lambda table: table[2].update(pairs=[[1, 2.0]]),
        lambda table: table[2].update(pairs=[[2, 1], [1, 2]]),
        lambda table: table[2].update(pairs=[3]),
    ],
)
def test_a_damaged_table_is_refused(odd: WordTokenizer, tmp_path: Path, damage) -> None:
    path = tmp_path / "tokenizer.json"
    tree = json.loads(odd._json)
    damage(tree["model"]["spacing"])
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(RunError, match=r"not a whole tokenizer.json of recurra \(.*table of spaces.*\); restore it\.$"):
        Tokenizer.load(path)


def test_other_kinds_have_no_such_table(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for kind in ("character", "whitespace", "bpe"):
        tokenizer = Tokenizer.train(["AT&T 3 : 45\n" * 9], TokenizerConfig(kind=kind, vocab_size=300))
        assert "spacing" not in tokenizer._json
        tree = json.loads(tokenizer._json)
        tree["model"]["spacing"] = Spacing().tree()
        path.write_text(json.dumps(tree), encoding="utf-8")
        with pytest.raises(RunError, match="not made by recurra"):
            Tokenizer.load(path)


def test_the_table_is_bounded_and_keeps_what_matters_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacing_module, "_MOST_PAIRS", 3)
    often = "x&y\n" * 5 + "u@v\n" * 4 + "s#t\n" * 3
    seldom = "".join(f"p{i}+q{i} p{i} + r{i}\n" for i in range(40))
    tokenizer = trained(seldom + often)
    tree = json.loads(tokenizer._json)["model"]["spacing"]
    assert max(len(part[key]) for part in tree for key in ("before", "after", "pairs")) == 3
    assert tokenizer.decode(tokenizer.encode("x&y\nu@v\ns#t")) == "x&y\nu@v\ns#t"


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacing_module, "_MOST_COUNTED", 50)
    counter = SpacingCounter()
    for i in range(300):
        counter.words(f"w{i}&v{i} AT&T\n")
        assert len(counter.gaps) <= 50
    assert counter.gaps["AT", "&", True, False, False] == 300
    whole: BoundedCounter[str] = BoundedCounter(2)
    whole.update("aaabbc")
    assert dict(whole.counts) == {"a": 3, "b": 2}


def test_training_is_the_same_in_every_process() -> None:
    text = "".join(f"{line}\n" for line in LINES)
    script = (
        "import sys\nfrom recurra.config.sections import TokenizerConfig\n"
        "from recurra.data.tokenizer import Tokenizer\n"
        "text = sys.stdin.buffer.read().decode()\n"
        "print(Tokenizer.train([text], TokenizerConfig(kind='word', vocab_size=500)).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=text.encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == trained(text).fingerprint


def test_unknown_words_are_named_as_they_are_spelt() -> None:
    text = "the dog, the cat\n"
    word = Tokenizer.train([text], TokenizerConfig(kind="word", vocab_size=9, lowercase=True))
    assert word.unknown("The Zebra, the dog; a Zebra's DOG zebra\nÉ <unk>") == [
        "Zebra", ";", "a", "Zebra's", "zebra", "É", "<", "unk", ">",
    ]  # fmt: skip
    assert word.unknown("THE DOG , cat\r\n") == [] == word.unknown("")
    decomposed = Tokenizer.train(["café\n"], CONFIG)
    assert decomposed.unknown("cafe\u0301 e\u0301") == ["é"]
    whitespace = Tokenizer.train([text], TokenizerConfig(kind="whitespace", vocab_size=9))
    assert whitespace.unknown("the <unk> dog cat, cat,") == ["dog", "cat,"]
    character = Tokenizer.train([text], TokenizerConfig(kind="character", vocab_size=99))
    assert character.unknown("the zoo's Zebra") == ["z", "'", "s", "Z", "b", "r"]
    assert Tokenizer.train([text], TokenizerConfig(kind="bpe", vocab_size=300)).unknown("Zebra Ω") == []


@settings(max_examples=100)
@given(texts)
def test_nothing_is_named_just_when_nothing_is_unknown(text: str) -> None:
    tokenizer = Tokenizer.train(["ab a_b 1 3.3, 漢 (b)\n"], TokenizerConfig(kind="word", lowercase=True, vocab_size=50))
    assert bool(tokenizer.unknown(text)) == (tokenizer.unk_id in tokenizer.encode(text))
