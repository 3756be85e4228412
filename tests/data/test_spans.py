"""Spans of tags: read as seqeval reads them, and checked, repaired and converted without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.spans import SCHEMES, Span, broken, convert, repair, scheme_named, spans, tags_of
from recurra.errors import ConfigError, DataError

# The right-hand sides are what seqeval 1.2.2 gives: Tokens(tags, IOB2 or IOBES).entities, "_" for a type that is empty.
READ = [
    # https://github.com/chakki-works/seqeval/issues/23
    ("bio", "I-X I-X", []),
    ("bio", "B-X I-X", [("X", 0, 2)]),
    ("bio", "O I-X B-X", [("X", 2, 3)]),
    ("bio", "B-X I-Y I-X", [("X", 0, 1)]),
    ("bio", "B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)]),
    ("bio", "B-X O I-X", [("X", 0, 1)]),
    ("bio", "B-foo-bar I-foo-bar I-foo", [("foo-bar", 0, 2)]),
    # https://github.com/chakki-works/seqeval/issues/46
    ("bio", "B I O B I-X", [("", 0, 2), ("", 3, 4)]),
    ("bio", "I B I I O I", [("", 1, 4)]),
    # https://github.com/spyysalo/conlleval.py/issues/1
    ("bioes", "B-X E-X B-X E-X", [("X", 0, 2), ("X", 2, 4)]),
    ("bioes", "B-X I-X I-X E-X S-Y", [("X", 0, 4), ("Y", 4, 5)]),
    ("bioes", "B-X E-X E-X", [("X", 0, 2)]),
    ("bioes", "B-X E-X I-X E-X", [("X", 0, 2)]),
    ("bioes", "B-X I-X", []),
    ("bioes", "B-X O", []),
    ("bioes", "I-X E-X", []),
    ("bioes", "S-X S-X", [("X", 0, 1), ("X", 1, 2)]),
    ("bioes", "S-X E-X", [("X", 0, 1)]),
    ("bioes", "B-X B-X E-X", [("X", 1, 3)]),
    ("bioes", "B-X S-X E-X", [("X", 1, 2)]),
    ("bioes", "B-X I-Y E-X", []),
    ("bioes", "B E S", [("", 0, 2), ("", 2, 3)]),
    ("bioes", "B-foo-bar E-foo-bar S-foo", [("foo-bar", 0, 2), ("foo", 2, 3)]),
    ("bilou", "B-X I-X L-X U-Y O B-X L-Y", [("X", 0, 3), ("Y", 3, 4)]),
    ("bilou", "B-X E-X S-X U", [("", 3, 4)]),
    # Not from seqeval, which has no BMES.
    ("bmes", "B-X M-X E-X S-Y O B-X E-Y", [("X", 0, 3), ("Y", 3, 4)]),
    ("bmes", "B-X I-X E-X S", [("", 3, 4)]),
    # Not from seqeval, which takes B after O for no span under IOB1, and refuses tags of other schemes.
    ("iob1", "I-X I-X B-X I-Y O B-Y I-Y", [("X", 0, 2), ("X", 2, 3), ("Y", 3, 4), ("Y", 5, 7)]),
    ("bio", "B-X NOUN I-X Bad-X E-X B-X", [("X", 0, 1), ("X", 5, 6)]),
    ("bio", "", []),
]

kinds = st.sampled_from(["-X", "-X", "-foo-bar", ""])
rows = {
    scheme: st.lists(
        st.builds(lambda letter, kind: letter if letter == "O" else letter + kind, st.sampled_from(letters), kinds),
        max_size=8,
    )
    for scheme, letters in (("iob1", "BIO"), ("bio", "BIO"), ("bioes", "BIESO"), ("bilou", "BILUO"), ("bmes", "BMESO"))
}
any_row = st.sampled_from(sorted(rows)).flatmap(lambda scheme: st.tuples(st.just(scheme), rows[scheme]))


@pytest.mark.parametrize(("scheme", "tags", "found"), READ)
def test_spans_are_those_of_seqeval(scheme: str, tags: str, found: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split(), scheme) == found


@given(any_row)
def test_random_tags_have_the_spans_of_seqeval(made: tuple[str, list[str]]) -> None:
    theirs = pytest.importorskip("seqeval.scheme")
    scheme, tags = made
    if scheme == "iob1":
        tags = repair(tags, scheme, "to-b")
    kind = {"iob1": theirs.IOB1, "bio": theirs.IOB2, "bilou": theirs.BILOU}.get(scheme, theirs.IOBES)
    if scheme == "bmes":
        written = [f"I{tag[1:]}" if tag.startswith("M") else tag for tag in tags]
        assert spans(tags, scheme) == spans(written, "bioes")
        tags, scheme = written, "bioes"
    entities = [(entity.tag, entity.start, entity.end) for entity in theirs.Tokens(tags, kind).entities]
    assert [(span.type or "_", span.start, span.end) for span in spans(tags, scheme)] == entities


@pytest.mark.parametrize(
    ("scheme", "tags", "places", "to_b", "to_o"),
    [
        ("bio", "O I-X I-X B-Y I-X", {1: "no span is open that I-X", 4: "no span"}, "O B-X I-X B-Y B-X", "O O O B-Y O"),
        ("bioes", "B-X O", {0: "neither I-X nor E-X comes after B-X"}, "S-X O", "O O"),
        ("bilou", "B-X O L-Y", {0: "neither I-X nor L-X comes after B-X", 2: "no span"}, "U-X O U-Y", "O O O"),
        ("bmes", "B-X O M-Y", {0: "neither M-X nor E-X comes after B-X", 2: "no span"}, "S-X O S-Y", "O O O"),
        ("bioes", "I E B I", {0: "no span is open that I", 3: "neither I nor E comes after I"}, "B E B E", "O O O O"),
        ("bioes", "B-X I-Y E-X", {0: "not closed", 1: "no span", 2: "no span"}, "S-X S-Y S-X", "O O O"),
        (
            "bioes",
            "B-X E-X E-X S-X I-X",
            {2: "no span is open", 4: "no span"},
            "B-X E-X S-X S-X S-X",
            "B-X E-X O S-X O",
        ),
        ("iob1", "B-X I-X B-X B-Y", {0: "which would be I-X", 3: "which would be I-Y"}, "I-X I-X B-X I-Y", None),
        ("iob1", "I-X B-X I-X I-Y", {}, "I-X B-X I-X I-Y", None),
    ],
)
def test_what_is_broken_is_found_and_repaired(
    scheme: str, tags: str, places: dict[int, str], to_b: str, to_o: str | None
) -> None:
    found = dict(broken(tags.split(), scheme))
    assert list(found) == list(places)
    assert all(part in found[place] for place, part in places.items())
    assert repair(tags.split(), scheme, "to-b") == to_b.split()
    assert repair(tags.split(), scheme, "to-o") == (to_o or to_b).split()


@given(any_row, st.sampled_from(["to-b", "to-o"]))
def test_repaired_tags_keep_the_rules_and_the_spans(made: tuple[str, list[str]], how: str) -> None:
    scheme, tags = made
    mended = repair(tags, scheme, how)
    assert broken(mended, scheme) == []
    if not broken(tags, scheme):
        assert mended == tags
    if how == "to-o":
        assert spans(mended, scheme) == spans(tags, scheme)
    else:
        assert [tag == "O" for tag in mended] == [tag == "O" for tag in tags]
    # What is well formed is what seqeval and `spans` lose nothing of.
    lost = sum(tag != "O" for tag in tags) - sum(span.end - span.start for span in spans(tags, scheme))
    assert scheme == "iob1" or bool(broken(tags, scheme)) == bool(lost)


@given(any_row, st.sampled_from(sorted(rows)))
def test_well_formed_tags_are_converted_there_and_back(made: tuple[str, list[str]], other: str) -> None:
    scheme, tags = made[0], repair(made[1], made[0], "to-b")
    there = convert(tags, scheme, other)
    assert spans(there, other) == spans(tags, scheme)
    assert broken(there, other) == []
    assert convert(there, other, scheme) == tags
    assert tags_of(spans(tags, scheme), len(tags), scheme) == tags


def test_conversions_are_what_they_should_be() -> None:
    iob1 = ["I-X", "I-X", "B-X", "O", "I-foo-bar", "I-Y", "I"]
    assert convert(iob1, "iob1", "bio") == ["B-X", "I-X", "B-X", "O", "B-foo-bar", "B-Y", "B"]
    assert convert(iob1, "iob1", "bioes") == ["B-X", "E-X", "S-X", "O", "S-foo-bar", "S-Y", "S"]
    assert convert(["B-X", "E-X", "S-X"], "iobes", "iob1") == ["I-X", "I-X", "B-X"]
    assert convert(["O", "B", "I", "B"], "iob2", "bioes") == ["O", "B", "E", "S"]
    assert convert(["B-X", "I-X", "L-X", "U-X"], "biluo", "bmeso") == ["B-X", "M-X", "E-X", "S-X"]


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ConfigError, match="no scheme of tags 'boi'; the nearest is"):
        spans(["O"], "boi")
    with pytest.raises(ConfigError, match="use iob1, bio, bioes, bilou, bmes, iob2, iobes, biluo, bmeso"):
        scheme_named("xyz")
    assert {scheme_named(name) for name in SCHEMES} == {"iob1", "bio", "bioes", "bilou", "bmes"}
    with pytest.raises(ConfigError, match="cannot be repaired by 'to-x'; use to-b or to-o"):
        repair(["O"], "bio", "to-x")
    with pytest.raises(DataError, match="The tag 'S-X' of word 2 is no tag of bio; name the scheme"):
        repair(["O", "S-X"], "bio", "to-b")
    with pytest.raises(DataError, match="The tag 'I-X' of word 2 is in no span of the scheme iob2, so it cannot"):
        convert(["O", "I-X"], "iob2", "bioes")
    assert broken(["NOUN", "O-X", "B"], "bio")[1] == (1, "'O-X' is no tag of bio")
    for wrong in ([Span("X", 1, 3)], [Span("X", 0, 2), Span("X", 1, 2)], [Span("X", 1, 1)], [Span("X", -1, 1)]):
        with pytest.raises(ValueError, match="does not lie between"):
            tags_of(wrong, 2, "bio")
