"""Tagged sentences of every format: what is read, and that other tags leave the rest of a file as it is."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from recurra.data.tagged import TaggedReader, format_of, rewritten
from recurra.data.text import spool_standard_input
from recurra.errors import ConfigError, DataError

TREEBANKS = next(filter(Path.is_dir, (parent / "shared/data/tagging" for parent in Path(__file__).parents)), None)

# A multiword token and an empty node, as in https://universaldependencies.org/format.html.
CONLLU = """\
# newdoc

# sent_id = 1
# text = vámonos  al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\tNumber=Plur|Person=1\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
4.1\tgran\tgrande\tADJ\t_\t_\t_\t_\t5:amod\t_
4.2\t_\t_\tVERB\t_\t_\t_\t_\t_\t_
5\tmar del norte\tmar\t_\t_\t_\t1\tobl\t_\t_


# sent_id = 2
0.1\t_\t_\t_\t_\t_\t_\t_\t_\t_
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def write(folder: Path, name: str, text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


def tags_of(path: str, *args: Any, **options: Any) -> list[tuple[tuple[str, ...], dict[str, Any], int]]:
    return [(each.words, each.tags, each.line) for each in TaggedReader(path, *args, **options)]


def test_conllu_gives_its_words_alone_and_keeps_everything(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conllu.gz", CONLLU)
    words = ("vamos", "nos", "a", "el", "mar del norte")
    upos = ("VERB", "PRON", "ADP", "DET", "_")
    assert tags_of(path) == [(words, {"upos": upos}, 3), (("#",), {"upos": ("SYM",)}, 16)]
    assert tags_of(path, ["FEATS", 3], words="form")[0] == (
        words,
        {"FEATS": ("Number=Plur|Person=1", "_", "_", "_", "_"), "3": ("ir", "nosotros", "a", "el", "mar")},
        3,
    )
    assert tags_of(path, [2], words="lemma")[0][1] == {"2": words}
    reader = TaggedReader(path)
    pieces = list(reader.pieces())
    assert [len(piece.words) for piece in pieces] == [0, 5, 0, 1]
    assert [file.name for file in reader.files] == [path]
    assert "".join(rewritten(piece, piece.tags) for piece in pieces) == CONLLU
    # Comments, multiword tokens and empty nodes have no part of speech, and get none.
    new = "".join(rewritten(piece, {"upos": ["X"] * len(piece.words)}) for piece in pieces)
    lines = CONLLU.split("\n")
    for number in (5, 6, 8, 9, 12, 17):
        cells = lines[number].split("\t")
        lines[number] = "\t".join([*cells[:3], "X", *cells[4:]])
    assert new == "\n".join(lines)


@pytest.mark.skipif(TREEBANKS is None, reason="the treebanks are not here")
@pytest.mark.parametrize("name", ["ud-english-ewt/en_ewt-ud-dev", "ud-korean-gsd/ko_gsd-ud-dev"])
def test_a_treebank_comes_back_byte_for_byte(name: str) -> None:
    assert TREEBANKS is not None
    path = TREEBANKS / f"{name}.conllu"
    data = path.read_bytes()
    rows = [line.split("\t") for line in data.decode().split("\n")]
    reader = TaggedReader(path, ["upos", "xpos", "misc"])
    text, tags = [], []
    for piece in reader.pieces():
        text.append(rewritten(piece, piece.tags))
        tags += zip(piece.words, *piece.tags.values(), strict=True)
    assert "".join(text).encode() == data
    assert tags == [(row[1], row[3], row[4], row[9]) for row in rows if row[0].isdigit()]


COLUMNS = """\
-DOCSTART- -X- -X- O

EU NNP  B-NP B-ORG
rejects   VBZ B-VP O\x20
 German JJ B-NP\xa0x B-MISC
\x20\t
#\x20NN B-NP O

-DOCSTART- -X- O O
Peter NNP B-NP B-PER
-DOCSTART- next
Blackburn NNP I-NP I-PER
"""


def test_columns_parted_by_spaces_keep_documents_and_spacing(tmp_path: Path) -> None:
    path = write(tmp_path, "eng.conll", COLUMNS)
    found = tags_of(path)
    assert [words for words, _, _ in found] == [("EU", "rejects", "German"), ("#",), ("Peter",), ("Blackburn",)]
    assert [tags["last"] for _, tags, _ in found] == [("B-ORG", "O", "B-MISC"), ("O",), ("B-PER",), ("I-PER",)]
    assert [line for _, _, line in found] == [3, 7, 9, 11]
    assert tags_of(path, [3, 2])[0][1] == {"3": ("B-NP", "B-VP", "B-NP\xa0x"), "2": ("NNP", "VBZ", "JJ")}
    assert tags_of(path, ["last"], words=4)[0][:2] == (
        ("B-ORG", "O", "B-MISC"),
        {"last": ("B-NP", "B-VP", "B-NP\xa0x")},
    )
    pieces = list(TaggedReader(path, [2, "last"]).pieces())
    assert "".join(rewritten(piece, piece.tags) for piece in pieces) == COLUMNS
    assert rewritten(pieces[1], {2: ["A", "B", "C"], "last": ["1", "2", "3"]}) == (
        "EU A  B-NP 1\nrejects   B B-VP 2 \n German C B-NP\xa0x 3\n \t\n"
    )


def test_columns_parted_by_tabs_may_hold_spaces_and_comments(tmp_path: Path) -> None:
    text = "# id = 1\n# text = New York\nNew York \t\t O\r\n#\tx\tB-LOC\t\r\n"
    with pytest.raises(DataError, match=r"a\.tsv:4: has 4 columns, but line 3 has 3 columns parted by tabs; mend the"):
        tags_of(write(tmp_path, "a.tsv", text))
    path = write(tmp_path, "a.tsv", text.replace("LOC\t", "LOC "))
    assert tags_of(path) == [(("New York", "#"), {"last": ("O", "B-LOC")}, 1)]
    (piece,) = TaggedReader(path)
    # Line ends become line feeds; spaces in a column stay.
    assert rewritten(piece, {"last": ["x y", "O"]}) == "# id = 1\n# text = New York\nNew York \t\t x y\n#\tx\tO \n"


def test_words_alone_get_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "words.txt", "# a comment\nEU\nrejects\n\n\n-DOCSTART-\n\nPeter")
    with pytest.raises(DataError, match=r"words\.txt:2: has 1 column, but tags are to be in column 2"):
        tags_of(path)
    pieces = list(TaggedReader(path, need_tags=False).pieces())
    assert [piece.tags["last"] for piece in pieces if piece.words] == [None, None]
    text = "".join(rewritten(piece, {"last": ["B X"] * len(piece.words)}) for piece in pieces)
    assert text == "# a comment\nEU\tB X\nrejects\tB X\n\n\n-DOCSTART-\n\nPeter\tB X\n"
    assert len(tags_of(write(tmp_path, "again.txt", text))) == 2
    spaced = write(tmp_path, "spaced.txt", "EU NNP \nrejects VBZ\n")
    (piece,) = TaggedReader(spaced, [3, 4, 2], need_tags=False)
    assert piece.tags == {"2": ("NNP", "VBZ"), "3": None, "4": None}
    assert rewritten(piece, {4: "56", 3: "34", 2: "12"}) == "EU 1  3 5\nrejects 2 4 6\n"
    with pytest.raises(ValueError, match="column 4 cannot be added without"):
        rewritten(piece, {4: "56"})
    with pytest.raises(DataError, match=r"spaced\.txt:1: has 2 columns, but tags are to be in column 4"):
        tags_of(spaced, [4], need_tags=False)
    # An empty tag is none, where none is needed.
    empty = write(tmp_path, "empty.tsv", "EU\tO\nrejects\t \n\nPeter\tO\n")
    assert [tags["last"] for _, tags, _ in tags_of(empty, need_tags=False)] == [None, ("O",)]
    assert rewritten(next(iter(TaggedReader(empty, need_tags=False))), {"last": "XY"}) == "EU\tX\nrejects\t Y\n\n"


def test_json_lines_are_read_by_keys_and_keep_their_spelling(tmp_path: Path) -> None:
    lines = [
        '{"id":1, "words": ["vámonos", "\\u0061l"],"t":{"pos" :["VERB" ,"AD\\u0050"], "ner":null},  "é": "\\u00e9"}',
        "",
        '{"words": []}',
        '{"t": {}, "words": ["x"]}',
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    with pytest.raises(DataError, match=r"a\.jsonl:3: there are no tags under the key 't\.pos'"):
        tags_of(path, ["t.pos"])
    pieces = list(TaggedReader(path, ["t.pos", "t.ner", "new.key"], need_tags=False).pieces())
    assert pieces[0].words == ("vámonos", "al")
    assert pieces[0].tags == {"t.pos": ("VERB", "ADP"), "t.ner": None, "new.key": None}
    assert "".join(rewritten(piece, {"t.pos": ["VERB", "ADP"][: len(piece.words)]}) for piece in pieces[:3]) == (
        "\n".join([*lines[:3], ""])
    )
    assert rewritten(pieces[0], {"t.pos": ["VERB", 'ü"']}) == lines[0].replace('"AD\\u0050"', '"ü\\""') + "\n"
    assert rewritten(pieces[0], {"t.ner": ["O", "O"], "new.key": ["1", "2"]}) == (
        lines[0].replace("null", '["O", "O"]').removesuffix("}") + ', "new": {"key": ["1", "2"]}}\n'
    )
    assert rewritten(pieces[3], {"t.pos": ["X"]}) == '{"t": {"pos": ["X"]}, "words": ["x"]}\n'
    nested = write(tmp_path, "nested.jsonl", '{"t": 1, "s.w": ["a"]}\n')
    (piece,) = TaggedReader(nested, ["t.pos"], words="s.w", need_tags=False)
    with pytest.raises(DataError, match=r"nested\.jsonl:1: tags cannot be put under the key 't\.pos'"):
        rewritten(piece, {"t.pos": ["X"]})


def test_plain_text_is_written_in_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "raw", " EU  rejects\u3000call \n\nPeter\r\n")
    reader = TaggedReader(path, ["pos", "ner"], format="plain", need_tags=False)
    assert [(piece.words, piece.line) for piece in reader] == [(("EU", "rejects", "call"), 1), (("Peter",), 3)]
    text = "".join(rewritten(piece, {"ner": "OOO"[: len(piece.words)]}) for piece in reader.pieces())
    assert text == "EU\tO\nrejects\tO\ncall\tO\n\n\nPeter\tO\n\n"
    assert "".join(rewritten(piece, {}) for piece in reader.pieces()) == " EU  rejects\u3000call \n\nPeter\n"
    assert tags_of(path, format="plain")[0][1] == {}


def test_standard_input_has_no_ending_but_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spool_standard_input.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"EU NNP\nrejects")))
    try:
        with pytest.raises(DataError, match=r"^standard input: its name does not tell what format it has"):
            tags_of("-")
        with pytest.raises(DataError, match=r"^standard input:2: has 1 column"):
            tags_of("-", format="columns")
    finally:
        spool_standard_input.cache_clear()


def row(number: str, form: str = "a", upos: str = "X") -> str:
    return f"{number}\t{form}\t_\t{upos}" + "\t_" * 6


WRONG: list[tuple[str, str | bytes, dict[str, Any], str]] = [
    ("a.conllu", "# x\n1\ta\tX\n", {}, r"a\.conllu:2: has 3 columns, and CoNLL-U has 10, parted by tabs; mend"),
    ("a.conllu", '{"words": ["a"]}\n', {}, r"a\.conllu:1: has 1 column, and CoNLL-U has 10"),
    ("a.conllu", row("a"), {}, r"a\.conllu:1: the ID 'a' is not like 8, 8-9 or 8\.1"),
    ("a.conllu", row("9" * 5000), {}, r"is not like 8"),
    ("a.conllu", f"{row('1')}\n{row('1')}\n", {}, r"a\.conllu:2: the ID 1 is out of order after word 1; mend the IDs"),
    ("a.conllu", row("2"), {}, r"a\.conllu:1: the ID 2 is out of order after word 0"),
    ("a.conllu", f"{row('1')}\n{row('0.1')}\n", {}, r"a\.conllu:2: the ID 0\.1 is out of order"),
    ("a.conllu", f"{row('0.1')}\n{row('0.1')}\n", {}, r"a\.conllu:2: the ID 0\.1 is out of order"),
    ("a.conllu", f"{row('1')}\n{row('1-2')}\n", {}, r"a\.conllu:2: the ID 1-2 is out of order"),
    ("a.conllu", f"{row('1-3')}\n{row('1')}\n{row('2-3')}\n", {}, r"a\.conllu:3: the ID 2-3 is out of order"),
    ("a.conllu", f"\n{row('1-2')}\n{row('1')}\n", {}, r"a\.conllu:2: the multiword token 1-2 goes beyond .* word, 1;"),
    ("a.conllu", row("1", form=""), {}, r"a\.conllu:1: there is an empty word; write it"),
    ("a.conllu", f"{row('1')}\n{row('2', 'b', ' ')}", {}, r"a\.conllu:2: the word 'b' has an empty tag in column upos"),
    ("a.conllu", "# only a comment\n\n\n", {}, r"a\.conllu: there is no sentence with words in it"),
    ("a.tsv", "", {}, r"a\.tsv: there is no sentence with words in it"),
    ("a.tsv", "-DOCSTART- O\n\n# x\n\n", {}, r"a\.tsv: there is no sentence with words in it"),
    ("a.tsv", "a\tO\n\nb\n", {}, r"a\.tsv:3: has 1 column, but line 1 has 2 columns parted by tabs; mend the line"),
    ("a.tsv", "a O\n\nb\tO\n", {}, r"a\.tsv:3: has a tab, but line 1 has 2 columns parted by spaces; mend the line"),
    ("a.tsv", "a O\n# b c\n", {}, r"a\.tsv:2: has 3 columns, but line 1 has 2"),
    ("a.tsv", "a\tO\n\tO\n", {}, r"a\.tsv:2: there is an empty word"),
    ("a.tsv", "a\tO\n", {"tags": [3]}, r"a\.tsv:1: has 2 columns, but tags are to be in column 3; mend the file or"),
    ("a.tsv", "a\tO\n", {"words": 3}, r"a\.tsv:1: has 2 columns, but the words are in column 3; name their column"),
    ("a.tsv", '{"words": ["a"], "tags": ["O"]}\n', {}, r"a\.tsv:1: is a JSON object, not columns; name the format jso"),
    ("a.txt", CONLLU, {}, r"a\.txt:5: the first column counts"),
    ("a.txt", "\n".join(map(row, "123")), {}, r"a\.txt:1: the first column counts the words instead of holding them"),
    ("a.jsonl", row("1"), {}, r"a\.jsonl:1: is not one JSON object \(.*\); mend the line, or name the format"),
    ("a.jsonl", "[1]\n", {}, r"a\.jsonl:1: there are no words under the key 'words'"),
    ("a.jsonl", '{"words": "a b", "tags": []}', {}, r"a\.jsonl:1: what is under the key 'words' is no list of strings"),
    ("a.jsonl", '{"words": ["a"], "tags": [0]}', {}, r"a\.jsonl:1: what is under the key 'tags' is no list of strings"),
    (
        "a.jsonl",
        '{"words": ["a"], "tags": ["O", "O"]}',
        {},
        r"a\.jsonl:1: has 1 words, but 2 tags under the key",
    ),
    ("a.jsonl", '\n{"words": ["a", ""], "tags": ["O", "O"]}', {}, r"a\.jsonl:2: there is an empty word"),
    ("a.jsonl", '{"words": ["a"], "tags": [""]}', {}, r"a\.jsonl:1: the word 'a' has an empty tag in column tags"),
    ("a.jsonl", '{"words": ["\\ud83d"], "tags": ["O"]}', {}, r"a\.jsonl:1: .* 'words' has half of a surrogate pair"),
    (
        "a.xml",
        "<a/>",
        {},
        r"a\.xml: its name does not tell what format it has; name the format, conllu,",
    ),
    ("a.tsv", b"a\tO\nb\xff\tO\n", {}, r"a\.tsv: byte 0xff .*\(line 2\) is not valid UTF-8"),
]


@pytest.mark.parametrize(("name", "text", "options", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, name: str, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        tags_of(write(tmp_path, name, text), **options)


def test_columns_that_no_format_has_are_refused(tmp_path: Path) -> None:
    conllu, tsv = write(tmp_path, "a.conllu", CONLLU), write(tmp_path, "a.tsv", "a\tO\n")
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (conllu, {"tags": ["upso"]}, "CoNLL-U has no column 'upso' .* the nearest name is upos"),
        (conllu, {"tags": ["id"]}, "CoNLL-U has no column 'id'"),
        (conllu, {"tags": ["11"]}, "CoNLL-U has no column '11'"),
        (conllu, {"tags": ["upos", 4]}, "a column is named twice"),
        (conllu, {"tags": ["form"]}, "a column is named twice"),
        (tsv, {"tags": [0]}, "there is no column '0'"),
        (tsv, {"tags": ["upos"]}, "there is no column 'upos'"),
        (tsv, {"tags": ["last", 2]}, "not all different"),
        (tsv, {"tags": [1]}, "not all different"),
        (tsv, {"tags": [2, 2]}, "named twice"),
        (tsv, {"tags": ["upos"], "format": "plain"}, "plain text has no columns"),
        (tsv, {"format": "conlu"}, "no format 'conlu'; the nearest is conllu"),
    ]
    for path, options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            tags_of(path, **options)


def test_tags_that_cannot_be_read_back_are_not_written(tmp_path: Path) -> None:
    (spaced,) = TaggedReader(write(tmp_path, "a.txt", "a O\n"))
    (tabbed,) = TaggedReader(write(tmp_path, "a.tsv", "a\tO\n"))
    for sentence, tags in ((spaced, ["x y", "", "a\tb", "a\nb"]), (tabbed, ["", " x", "a\tb", "a\rb"])):
        for tag in tags:
            with pytest.raises(DataError, match=r":1: the tag .* cannot be written in this file's columns"):
                rewritten(sentence, {"last": [tag]})
    with pytest.raises(ValueError, match="2 tags in the column 'last' for 1 words"):
        rewritten(spaced, {"last": ["O", "O"]})
    with pytest.raises(ValueError, match="without the column 'upos', with last"):
        rewritten(spaced, {"upos": ["O"]})


def test_formats_are_known_by_endings() -> None:
    named = {"x.CONLLU.gz": "conllu", "x.jsonl": "jsonl", "x.iob2": "columns", "a.conllu/x.txt": "columns"}
    assert {name: format_of(name) for name in named} == named


def test_memory_holds_a_sentence_not_the_file(tmp_path: Path) -> None:
    sentence = f"# {'long ' * 2000}\nword\tTAG\n" + "\n" * 20
    path = write(tmp_path, "long.tsv.gz", sentence * 2000)
    tracemalloc.start()
    try:
        assert max(len(piece.text) for piece in TaggedReader(path).pieces()) == len(sentence) - 19
        # Of 20 MB; text is read in pieces of a MiB.
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
