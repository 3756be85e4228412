"""Tagged sentences of files that are generated: what was written is read, and other tags leave the rest as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.tagged import TaggedReader, rewritten


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


cell = st.text(st.characters(exclude_characters="\t\n\r\0\ufeff", exclude_categories=["Cs"]), max_size=6)
core = cell.map(lambda text: text.strip(" ")).filter(bool)
around = st.sampled_from(["", " ", "  "])


@st.composite
def conllu(draw: st.DrawFn) -> tuple[str, list[tuple[list[str], list[str]]]]:
    """A file, and the words and tags of its sentences."""
    sentences, lines = [], []
    for _ in range(draw(st.integers(1, 4))):
        words: list[str] = []
        tags: list[str] = []
        lines += [f"#{draw(cell)}" for _ in range(draw(st.integers(0, 2)))]
        free = 1
        for number in range(1, draw(st.integers(1, 5)) + 1):
            last = draw(st.integers(number, number + 1))
            if number >= free and draw(st.booleans()):
                lines.append("\t".join([f"{number}-{last}", *(draw(cell) for _ in range(9))]))
                free = last + 1
            words.append(draw(core))
            tags.append(draw(core))
            space = draw(around)
            rest = [draw(cell) for _ in range(6)]
            lines.append("\t".join([str(number), words[-1], draw(cell), space + tags[-1] + space, *rest]))
            if draw(st.booleans()):
                lines.append("\t".join([f"{number}.{draw(st.integers(1, 3))}", *(draw(cell) for _ in range(9))]))
        if free > len(words) + 1:
            words.append(draw(core))
            tags.append(draw(core))
            lines.append("\t".join([str(len(words)), words[-1], "_", tags[-1], *"______"]))
        sentences.append((words, tags))
        lines += [""] * draw(st.integers(1, 3))
    return "".join(f"{line}\n" for line in lines), sentences


@given(conllu(), st.data())
def test_generated_conllu_comes_back(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[str, list[Any]], data: st.DataObject
) -> None:
    text, sentences = made
    folder = tmp_path_factory.mktemp("conllu")
    path = write(folder, "a.conllu", text)
    pieces = list(TaggedReader(path).pieces())
    assert [([*p.words], [*(p.tags["upos"] or ())]) for p in pieces if p.words] == sentences
    assert "".join(rewritten(piece, piece.tags) for piece in pieces) == text
    new = [data.draw(st.lists(core, min_size=len(p.words), max_size=len(p.words))) for p in pieces]
    changed = "".join(rewritten(piece, {"upos": tags}) for piece, tags in zip(pieces, new, strict=True))
    again = list(TaggedReader(write(folder, "b.conllu", changed)).pieces())
    assert [[*(piece.tags["upos"] or ())] for piece in again] == new
    assert "".join(rewritten(p, old.tags) for p, old in zip(again, pieces, strict=True)) == text


@given(st.data(), st.sampled_from(["\t", " "]), st.integers(2, 4))
def test_generated_columns_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, between: str, width: int
) -> None:
    def lacks_space(text: str) -> bool:
        return " " not in text

    # A row that looks like a comment or a document's start is none of these rows.
    word = (core.filter(lacks_space) if between == " " else core).filter(lambda text: text[0] not in "#-{")
    column = data.draw(st.integers(1, width - 1))
    runs = st.integers(1, 3).map(lambda count: " " * count) if between == " " else st.just("\t")
    lines, sentences = [], []
    for _ in range(data.draw(st.integers(1, 3))):
        rows = data.draw(st.lists(st.lists(word, min_size=width, max_size=width), min_size=1, max_size=2))
        for cells in rows:
            parts = [part for each in cells for part in (each, data.draw(runs))]
            lines.append(data.draw(around) + "".join(parts[:-1]) + data.draw(around))
        sentences.append(([cells[0] for cells in rows], [cells[column] for cells in rows]))
        lines += [""] * data.draw(st.integers(1, 2))
    text = "".join(f"{line}\n" for line in lines)
    name = str(column + 1)
    path = write(tmp_path_factory.mktemp("columns"), "a.txt", text)
    pieces = list(TaggedReader(path, [name], words=1).pieces())
    assert [([*p.words], [*(p.tags[name] or ())]) for p in pieces if p.words] == sentences
    assert "".join(rewritten(piece, piece.tags) for piece in pieces) == text
    for piece in pieces:
        new = data.draw(st.lists(word, min_size=len(piece.words), max_size=len(piece.words)))
        changed = rewritten(piece, {name: new})
        for old, line, tag in zip(piece.text.split("\n"), changed.split("\n"), [*new, "", ""], strict=False):
            cells = old.split(between) if between == "\t" else old.split(" ")
            filled = [place for place, each in enumerate(cells) if each or between == "\t"]
            if old:
                core_text = cells[filled[column]].strip(" ")
                before, after = cells[filled[column]].split(core_text)[0], cells[filled[column]]
                cells[filled[column]] = before + tag + after[len(before) + len(core_text) :]
            assert line == between.join(cells)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=3), values, max_size=4),
    st.lists(st.tuples(core, core, core), min_size=1, max_size=3),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    st.booleans(),
)
def test_generated_objects_keep_all_but_their_tags(
    tmp_path_factory: pytest.TempPathFactory,
    tree: dict[str, Any],
    rows: list[tuple[str, str, str]],
    separators: tuple[str, str],
    ascii: bool,
) -> None:
    words, tags, new = ([*column] for column in zip(*rows, strict=True))
    tree = {**tree, "words": words, "inner": {"tags": tags, **tree}}
    tree["inner"]["tags"] = tags
    text = json.dumps(tree, ensure_ascii=ascii, separators=separators) + "\n"
    (sentence,) = TaggedReader(write(tmp_path_factory.mktemp("json"), "a.jsonl", text), ["inner.tags"])
    assert ([*sentence.words], sentence.tags) == (words, {"inner.tags": tuple(tags)})
    assert rewritten(sentence, sentence.tags) == text
    changed = rewritten(sentence, {"inner.tags": new})
    tree["inner"]["tags"] = new
    assert json.loads(changed) == tree
    if not ascii:
        assert changed == json.dumps(tree, ensure_ascii=False, separators=separators) + "\n"
