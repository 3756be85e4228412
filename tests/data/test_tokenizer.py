"""Tokenizers: round trips in many scripts, the library's own reading of the saved file, and word boundaries."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.config.sections import TokenizerConfig
from recurra.data.tokenizer import Tokenizer
from recurra.data.tokenizer_subword import sample
from recurra.data.tokenizer_word import WhitespaceTokenizer, WordTokenizer
from recurra.data.words import count_bounded
from recurra.errors import ConfigError, DataError, RunError

KINDS = ("character", "word", "whitespace", "bpe", "unigram")
EXACT = ("character", "bpe", "unigram")

CORPUS = (
    """The apple and the pear, the apple and the pair; don't say "well-known" for 3.14 or 1,000!
  leading spaces\tand tabs\t\there   and   runs
나는 학교에 갔다. 나는 밥을 먹었다. 학교에 학생이 많다.
今天天气很好，我们去公园。今日は学校に行きました。カタカナ
مرحبا بالعالم، كيف حالك؟ שָׁלוֹם עולם
हिन्दी में लिखा है। ไทย
👩‍👩‍👧 and 👍🏽 and 🇰🇷 ❤️ x² naïve café Ⅷ _under_score
literal <eos> and <unk> here

def f(x):
    return x ** 2  # "quoted" 'text'
"""
    + "the apple and the pear are sweet\n" * 40
)

SAMPLES = [
    "나는 학교에 갔다",
    unicodedata.normalize("NFD", "나는 학교에 갔다"),
    "今天天气很好，\U00020000",
    "👩‍👩‍👧👍🏽🇰🇷❤️",
    "مرحبا ‏שָׁלוֹם",
    "\tindent\n    four  \n\n\n \t x \n",
    "a\r\nb\rc\n",
    "<eos> <unk> Ġ Ċ \u0120\u010a",
    "\x1c\x1d!\x1e!\x85\u2028\u00a0\u3000\u200b",
    "ΣΊΣΥΦΟΣ İstanbul ǅ ß",
    "e\u0301\u0323 \u0301 ½ ² ٣٤ 1234567 a1b2",
    "",
    "\n",
]

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60),
    st.text(st.sampled_from("aé\u0301 \t\n\r\x1c'’.,3漢각\u1100\u1161\u200d👩🏽🇰\"-_"), max_size=40),
)


@cache
def trained(kind: str, lowercase: bool = False, normalization: str = "nfc") -> Tokenizer:
    settings = TokenizerConfig(kind=kind, vocab_size=400, lowercase=lowercase, normalization=normalization)
    return Tokenizer.train([CORPUS], settings)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@settings(max_examples=150)
@given(content=texts)
def test_subwords_give_back_any_text(kind, content):
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(content)) == tokenizer.normalize(content)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("content", SAMPLES)
def test_subwords_give_back_every_script(kind, content):
    tokenizer = trained(kind)
    expected = unicodedata.normalize("NFC", content.replace("\r\n", "\n").replace("\r", "\n"))
    assert tokenizer.decode(tokenizer.encode(content)) == expected


@settings(max_examples=100)
@given(content=texts)
def test_characters_give_back_known_text_and_mark_the_unknown(content):
    tokenizer = trained("character")
    known = set(unicodedata.normalize("NFC", CORPUS))
    normal = tokenizer.normalize(content)
    ids = tokenizer.encode(content)
    assert len(ids) == len(normal)
    assert tokenizer.decode(ids) == "".join(c if c in known else "\ufffd" for c in normal)


@pytest.mark.parametrize("kind", KINDS)
def test_composed_and_decomposed_korean_are_the_same_tokens(kind):
    tokenizer = trained(kind)
    decomposed = unicodedata.normalize("NFD", "학교에 갔다.")
    assert decomposed != "학교에 갔다."
    np.testing.assert_array_equal(tokenizer.encode(decomposed), tokenizer.encode("학교에 갔다."))
    assert tokenizer.decode(tokenizer.encode(decomposed)) == "학교에 갔다."


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_end_is_one_token_and_lines_are_encoded_alone(kind):
    tokenizer = trained(kind)
    first, second = "the apple ", "and the pear"
    expected = [*tokenizer.encode(first), tokenizer.eos_id, tokenizer.eos_id, *tokenizer.encode(second)]
    assert tokenizer.encode(f"{first}\n\r\n{second}").tolist() == expected
    assert tokenizer.decode([tokenizer.eos_id]) == "\n"
    # Text cannot name what is special, but for the unknown word of text that was tokenised before.
    assert tokenizer.eos_id not in tokenizer.encode("<eos> <unk>")
    assert (tokenizer.unk_id in tokenizer.encode("<eos> <unk>")) == (kind == "whitespace")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_incremental_decoding_equals_decoding(kind, data):
    tokenizer = trained(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    decoder = tokenizer.decoder()
    assert "".join([decoder.push(token) for token in ids]) + decoder.flush() == tokenizer.decode(ids)
    assert tokenizer.decode(np.array(ids, np.uint16)) == tokenizer.decode(ids)


def test_a_partial_character_is_held_back():
    tokenizer = trained("bpe")
    ids = tokenizer.encode("\U0001f9ff")
    assert len(ids) > 1
    decoder = tokenizer.decoder()
    assert [decoder.push(int(token)) for token in ids] == [""] * (len(ids) - 1) + ["\U0001f9ff"]
    decoder.push(int(ids[0]))
    assert decoder.flush() == "\ufffd"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lowercase", "normalization"), [(False, "nfc"), (True, "nfkc"), (False, "none")])
def test_saving_and_loading_change_nothing(tmp_path, kind, lowercase, normalization):
    tokenizer = trained(kind, lowercase, normalization)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded == tokenizer and loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.kind, loaded.vocab_size, loaded.eos_id, loaded.unk_id) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.eos_id,
        tokenizer.unk_id,
    )
    for content in [*SAMPLES, CORPUS]:
        np.testing.assert_array_equal(loaded.encode(content), tokenizer.encode(content))
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizers_library_reads_the_file_alike(kind, lowercase):
    tokenizer = trained(kind, lowercase)
    library = tokenizers.Tokenizer.from_str(tokenizer._json)

    @settings(max_examples=100)
    @given(content=texts)
    def same(content: str) -> None:
        assert library.encode(content).ids == tokenizer.encode(content).tolist()

    same()
    for content in [*SAMPLES, CORPUS]:
        assert library.encode(content).ids == tokenizer.encode(content).tolist()
    assert library.get_vocab_size() == tokenizer.vocab_size


def test_words_of_many_scripts():
    parted = "Don't stop — 3.14 , 1,000 well - known _x_ ( yes ) !"
    assert WordTokenizer.split("Don't stop—3.14, 1,000 well-known _x_ (yes)!\n") == [*parted.split(" "), "\n"]
    scripts = "हिन्दी में ไทยนี้ مَرحبا שָׁלוֹם naïve cafe\u0301"
    assert WordTokenizer.split(scripts) == scripts.split()
    assert WordTokenizer.split("我是 학교에서 ひらがな") == ["我", "是", "학교에서", "ひらがな"]
    assert WordTokenizer.split("👩‍👩‍👧👍🏽🇰🇷🇯🇵❤️a") == ["👩‍👩‍👧", "👍🏽", "🇰🇷", "🇯🇵", "❤️", "a"]


@pytest.mark.parametrize(
    "line",
    [
        "Hello, world! (Really?) [yes]; no: 50% don't.",
        'He said "come in" and "sit", twice.',
        "a well-known and/or “quoted” ‘thing’",
        "今天天气很好，我们去「公园」。",
        "나는 학교에 갔다. 정말?",
        "مرحبا بالعالم، كيف حالك؟",
        "line one\nline two\n\n",
    ],
)
def test_words_are_put_together_again_as_they_are_spelt(line):
    tokenizer = Tokenizer.train([line], TokenizerConfig(kind="word", vocab_size=100))
    assert tokenizer.decode(tokenizer.encode(line)) == line


def test_the_commonest_words_are_kept():
    text = "a a a b b c c d\n" * 3 + "e\n"
    tokenizer = Tokenizer.train([text[:9], text[9:]], TokenizerConfig(kind="word", vocab_size=5))
    assert [tokenizer.token_text(i) for i in range(tokenizer.vocab_size)] == ["<unk>", "<eos>", "a", "b", "c"]
    rare = Tokenizer.train([text], TokenizerConfig(kind="word", vocab_size=50, min_count=3))
    assert rare.vocab_size == 6 and rare.encode("d e f").tolist() == [5, 0, 0]
    letters = Tokenizer.train([text], TokenizerConfig(kind="character", vocab_size=4))
    assert letters.encode(" ab\n").tolist() == [2, 3, 0, 1]


def test_bounded_counting_finds_the_commonest():
    random = np.random.default_rng(0)
    words = [str(w) for w in random.zipf(1.3, 60_000)]
    bounded = count_bounded((words[i : i + 100] for i in range(0, len(words), 100)), 500)
    exact = Counter(words)
    assert len(bounded) <= 500 and len(exact) > 2000
    assert all(bounded[word] <= exact[word] for word in bounded)
    assert [word for word, _ in bounded.most_common(30)] == [word for word, _ in exact.most_common(30)]
    assert {word for word, _ in exact.most_common(60)} <= {word for word, _ in bounded.most_common(80)}
    assert count_bounded([words], len(exact)) == exact


def test_lower_case_folds_and_is_kept():
    tokenizer = trained("bpe", True)
    assert tokenizer.decode(tokenizer.encode("The APPLE ΣΊΣΥΦΟΣ")) == "the apple σίσυφοσ"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_training_is_the_same_in_every_process(kind):
    script = (
        "import sys\nfrom recurra.config.sections import TokenizerConfig\n"
        "from recurra.data.tokenizer import Tokenizer\n"
        f"text = sys.stdin.buffer.read().decode()\n"
        f"print(Tokenizer.train([text], TokenizerConfig(kind='{kind}', vocab_size=400)).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=CORPUS.encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == trained(kind).fingerprint


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_vocabulary_is_no_larger_than_asked_and_has_every_byte(kind):
    for size in (256, 270, 400):
        tokenizer = Tokenizer.train([CORPUS], TokenizerConfig(kind=kind, vocab_size=size))
        assert 256 <= tokenizer.vocab_size <= size
        assert {bytes([b]) for b in range(256)} <= {tokenizer.token_bytes(t) for t in range(tokenizer.vocab_size)}
    assert trained(kind).vocab_size > 256
    with pytest.raises(ConfigError, match=r"tokenizer.vocab_size is 255, but \w+ needs at least 256"):
        Tokenizer.train([CORPUS], TokenizerConfig(kind=kind, vocab_size=255))


@pytest.mark.parametrize("kind", KINDS)
def test_learning_from_nothing_is_refused(kind):
    with pytest.raises(DataError, match="give a file with text"):
        Tokenizer.train(iter([]), TokenizerConfig(kind=kind))
    assert Tokenizer.train(["a"], TokenizerConfig(kind=kind)).decode([]) == ""


def test_a_sample_is_spread_evenly_and_bounded():
    pieces = ["".join(f"{i:07d}\n" for i in range(start, start + 1000)) for start in range(0, 100_000, 1000)]
    chunks = sample(pieces, 50_000)
    assert 20_000 <= sum(map(len, chunks)) <= 50_000
    numbers = np.array([int(n) for n in b"".join(chunks).split()])
    in_tenths = np.histogram(numbers, 10, (0, 100_000))[0]
    assert in_tenths.min() > 0.6 * in_tenths.mean()
    assert b"".join(sample(pieces, 800_000)).decode() == "".join(pieces)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_long_text_without_spaces_is_encoded(kind):
    tokenizer = trained(kind)
    text = "abcdefgh" * 50_000
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", EXACT)
def test_token_bytes_and_characters_add_up(kind):
    tokenizer = trained(kind)
    ids = tokenizer.encode(CORPUS)
    normal = tokenizer.normalize(CORPUS)
    assert b"".join(tokenizer.token_bytes(int(t)) for t in ids) == normal.encode()
    assert tokenizer.token_characters[ids].sum() == len(normal)


def test_boundaries():
    text = "pear's pear , (x) 漢字 나는 \t é 3\n"
    tokenizer = Tokenizer.train([text], TokenizerConfig(kind="character", vocab_size=99))
    shown = {c: tokenizer.is_boundary(int(tokenizer.encode(c)[0])) for c in dict.fromkeys(text)}
    assert {c for c, boundary in shown.items() if boundary} == set(" ,(x)漢字\t\n") - {"x"}
    assert not tokenizer.is_boundary(0)
    assert Tokenizer.train([text], TokenizerConfig(kind="word", vocab_size=99)).boundary_mask.all()


def test_boundaries_of_partial_characters_hold_for_whatever_follows():
    tokenizer = trained("bpe")
    of_bytes = {tokenizer.token_bytes(t): tokenizer.is_boundary(t) for t in range(tokenizer.vocab_size)}
    assert not any(of_bytes[bytes([byte])] for byte in range(0x80, 0xC0))
    partial = 0
    for lead in range(0xC2, 0xF0):
        letters = 0
        for tail in itertools.product(range(0x80, 0xC0), repeat=1 if lead < 0xE0 else 2):
            try:
                character = bytes([lead, *tail]).decode()
            except UnicodeDecodeError:
                continue
            ideograph = unicodedata.name(character, "").startswith("CJK UNIFIED IDEOGRAPH")
            letters += unicodedata.category(character)[0] in "LNM" and not ideograph
        assert of_bytes[bytes([lead])] == (letters == 0)
        partial += of_bytes[bytes([lead])]
    assert partial >= 4  # the leads of ideographs alone, at least


@pytest.mark.parametrize("kind", KINDS)
def test_printable_tokens(kind):
    tokenizer = trained(kind)
    shown = [tokenizer.token_text(t) for t in range(tokenizer.vocab_size)]
    assert shown[tokenizer.eos_id] == "<eos>"
    assert not any(c in text for text in shown for c in "\n\t ")
    assert all(shown)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("", "not a whole"), ("{", "not a whole"), ('{"model": {}}', "not a whole"), (None, "cannot be read")],
)
def test_a_damaged_file_is_named(tmp_path, content, complaint):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=f"tokenizer.json: .*{complaint}"):
        Tokenizer.load(path)


@pytest.mark.parametrize("kind", ["bpe", "word", "character"])
def test_an_id_far_beyond_the_others_is_refused_before_room_is_made_for_it(tmp_path, kind):
    path = tmp_path / "tokenizer.json"
    tree = json.loads(trained(kind)._json)
    vocabulary = tree["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 2**31
    path.write_text(json.dumps(tree))
    with pytest.raises(RunError, match="the ids have gaps"):
        Tokenizer.load(path)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_that_lack_a_byte_are_refused(tmp_path, kind):
    path = tmp_path / "tokenizer.json"
    tree = json.loads(trained(kind)._json)
    vocabulary = tree["model"]["vocab"]
    if kind == "bpe":
        vocabulary["##"] = vocabulary.pop("Q")
    else:
        vocabulary[[piece for piece, _ in vocabulary].index("Q")][0] = "##"
    path.write_text(json.dumps(tree))
    with pytest.raises(RunError, match="lacks tokens of single bytes"):
        Tokenizer.load(path)


def test_a_foreign_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    foreign = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    foreign.normalizer = tokenizers.normalizers.Sequence([])
    foreign.save(str(path))
    with pytest.raises(RunError, match="not made by recurra"):
        Tokenizer.load(path)
    tree = json.loads(trained("word")._json)
    del tree["model"]["vocab"]["the"]
    path.write_text(json.dumps(tree))
    with pytest.raises(RunError, match="not a whole"):
        Tokenizer.load(path)


def test_words_between_white_space_are_those_of_the_text() -> None:
    line = "we@@ ' ll see &apos;s the well-known (3.14) 今天 ."
    tokenizer = Tokenizer.train([line + "\n"] * 2, TokenizerConfig(kind="whitespace", vocab_size=99))
    assert isinstance(tokenizer, WhitespaceTokenizer) and tokenizer.boundary_mask.all()
    assert tokenizer.decode(tokenizer.encode(f"  {line.replace(' ', '   ')} \n{line}").tolist()) == f"{line}\n{line}"
    assert len(tokenizer.encode(line)) == len(line.split())
    assert tokenizer.encode("see . unseen").tolist()[-1] == tokenizer.unk_id
    library = tokenizers.Tokenizer.from_str(tokenizer._json)
    text = f"{line}\n\x1c see\x1d. \n"
    assert library.encode(text, add_special_tokens=False).ids == tokenizer.encode(text).tolist()
