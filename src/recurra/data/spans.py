"""Spans of words, such as the names in a text, as one tag a word: reading, checking, repairing and converting the tags.

A tag is `O` for a word outside of every span, or a letter and the type of the span: `B-PER`. The type is all after the
first hyphen, which it may have itself (`B-foo-bar` is of type `foo-bar`); without a hyphen (`B`) it is empty. The
schemes differ in the letters:

- `bio`, also called `iob2`: `B` for the first word of every span, `I` for the others.
- `bioes`, also called `iobes`: `B` and `E` for the first and last word of a span, `I` between them, `S` for a span of
  one word.
- `bilou`, also called `biluo`: as `bioes` with the letters `L` for `E` and `U` for `S`.
- `bmes`, also called `bmeso`: as `bioes` with the letter `M` for `I`.
- `iob1`: `I` for all words of a span, but `B` for its first word if a span of the same type ends right before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import ConfigError, DataError
from ..names import nearest

__all__ = ["REPAIRS", "SCHEMES", "Break", "Span", "broken", "convert", "repair", "scheme_named", "spans", "tags_of"]

SCHEMES = {
    **{name: name for name in ("iob1", "bio", "bioes", "bilou", "bmes")},
    "iob2": "bio",
    "iobes": "bioes",
    "biluo": "bilou",
    "bmeso": "bmes",
}
"""All names of schemes, and the one that each is known by here."""

REPAIRS = ("to-b", "to-o")
"""What `repair` can do."""

# What each letter of a scheme means, said in the letters of `bioes`.
_LETTERS = {
    "iob1": {"B": "B", "I": "I"},
    "bio": {"B": "B", "I": "I"},
    "bioes": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "bilou": {"B": "B", "I": "I", "L": "E", "U": "S"},
    "bmes": {"B": "B", "M": "I", "E": "E", "S": "S"},
}


class Span(NamedTuple):
    """Words that belong together.

    Attributes:
        type: of the span; empty if its tags are bare letters.
        start: the place of its first word, from 0.
        end: one more than the place of its last word.
    """

    type: str
    start: int
    end: int


class Break(NamedTuple):
    """A tag that breaks the rules of its scheme.

    Attributes:
        place: of the tag, from 0.
        reason: in words.
    """

    place: int
    reason: str


def scheme_named(name: str) -> str:
    """The scheme of a name: `iob1`, `bio`, `bioes`, `bilou` or `bmes`.

    Raises:
        ConfigError: if there is no such scheme; the nearest is named.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    guess = nearest(name, SCHEMES)
    advice = f"the nearest is {guess}" if guess else f"use {', '.join(SCHEMES)}"
    raise ConfigError(f"There is no scheme of tags {name!r}; {advice}.")


def spans(tags: Sequence[str], scheme: str) -> list[Span]:
    """The spans of a sentence, in order.

    The rules are taken strictly, as seqeval does in its strict mode. Under `bio` an `I-X` continues a span of type X,
    and opens none; under `bioes` a span is `B-X`, any number of `I-X`, then `E-X`; or one `S-X`; `bilou` and `bmes` are
    taken likewise. Tags that keep to no rule, and tags of no scheme, are outside of every span. Under `iob1` every
    `I-X` and `B-X` is in a span: `B-X` opens one even where `I-X` would do.

    Raises:
        ConfigError: if there is no such scheme.
    """
    return _read(tags, scheme_named(scheme), lenient=False)


def tags_of(found: Iterable[Span], length: int, scheme: str) -> list[str]:
    """The tags that mark spans in a sentence; the reverse of `spans`.

    Args:
        found: in order, without overlaps.
        length: how many words the sentence has.
        scheme: of the tags.

    Raises:
        ConfigError: if there is no such scheme.
        ValueError: if the spans overlap, are empty, or go beyond the sentence.
    """
    scheme = scheme_named(scheme)
    tags = ["O"] * length
    before = Span("", 0, 0)
    for span in found:
        if not before.end <= span.start < span.end <= length:
            raise ValueError(f"{span} does not lie between {before} and the end of the sentence, {length}")
        letters = ["I"] * (span.end - span.start)
        if scheme != "iob1" or (span.start > 0 and before.end == span.start and before.type == span.type):
            letters[0] = "B"
        if _closes(scheme):
            letters[-1] = "E" if len(letters) > 1 else "S"
        tags[span.start : span.end] = [_tag(letter, span.type, scheme) for letter in letters]
        before = span
    return tags


def convert(tags: Sequence[str], from_scheme: str, to_scheme: str) -> list[str]:
    """The same spans in another scheme.

    Raises:
        ConfigError: if there is no such scheme.
        DataError: if a tag other than `O` is in no span, so that it would be lost; `repair` mends such tags.
    """
    found = spans(tags, from_scheme)
    inside = {place for span in found for place in range(span.start, span.end)}
    for place, tag in enumerate(tags):
        if tag != "O" and place not in inside:
            raise DataError(
                f"The tag {tag!r} of word {place + 1} is in no span of the scheme {from_scheme}, so it cannot be "
                "converted; repair the tags first, or name the scheme that they have."
            )
    return tags_of(found, len(tags), to_scheme)


def broken(tags: Sequence[str], scheme: str) -> list[Break]:
    """The tags of a sentence that break the rules of their scheme, in order; none if it is well formed.

    Raises:
        ConfigError: if there is no such scheme.
    """
    scheme = scheme_named(scheme)
    parts = [_parted(tag, scheme) for tag in tags]
    found = []
    for place, (tag, (letter, kind)) in enumerate(zip(tags, parts, strict=True)):
        before, after = (parts[i] if 0 <= i < len(parts) else ("O", "") for i in (place - 1, place + 1))
        # A letter that a span can go on after, and one that goes on with it.
        follows = before[0] in ("B", "I") and before[1] == kind
        continued = after[0] in ("I", "E") and after[1] == kind
        reason = ""
        if letter == "O":
            reason = "" if tag == "O" else f"{tag!r} is no tag of {scheme}"
        elif scheme == "iob1":
            if letter == "B" and not follows:
                reason = f"no span of the same type ends right before {tag}, which would be {_tag('I', kind, scheme)}"
        elif letter in ("I", "E") and not follows:
            reason = f"no span is open that {tag} could continue"
        elif _closes(scheme) and letter in ("B", "I") and not continued:
            inside, last = (_tag(each, kind, scheme) for each in "IE")
            reason = f"the span is not closed: neither {inside} nor {last} comes after {tag}"
        if reason:
            found.append(Break(place, reason))
    return found


def repair(tags: Sequence[str], scheme: str, how: str) -> list[str]:
    """Tags that keep to their scheme: `broken` finds nothing in them, and well-formed ones stay as they are.

    Args:
        tags: of a sentence.
        scheme: of the tags.
        how: `to-b` lets every tag open a span that has none to continue, so that `O I-X` becomes `O B-X`. Where the
            last word of a span has a letter of its own, a span also ends where it is broken off: `B-X O` becomes
            `S-X O` under `bioes`. `to-o` keeps the spans that `spans` finds, and all other tags become `O`.

    Raises:
        ConfigError: if there is no such scheme or no such way.
        DataError: if a tag is of another scheme.
    """
    scheme = scheme_named(scheme)
    if how not in REPAIRS:
        raise ConfigError(f"Broken tags cannot be repaired by {how!r}; use {' or '.join(REPAIRS)}.")
    for place, tag in enumerate(tags):
        if tag != "O" and _parted(tag, scheme)[0] == "O":
            raise DataError(f"The tag {tag!r} of word {place + 1} is no tag of {scheme}; name the scheme of the tags.")
    return tags_of(_read(tags, scheme, lenient=how == "to-b"), len(tags), scheme)


def _closes(scheme: str) -> bool:
    """Whether the last word of a span has a letter of its own."""
    return "E" in _LETTERS[scheme].values()


def _tag(letter: str, kind: str, scheme: str) -> str:
    """The tag of a letter of `bioes` in a scheme."""
    own = next(own for own, meant in _LETTERS[scheme].items() if meant == letter)
    return f"{own}-{kind}" if kind else own


def _parted(tag: str, scheme: str) -> tuple[str, str]:
    """The letter of a tag as `bioes` has it, and its type; those of `O` if it is no tag of the scheme."""
    letter, _, kind = tag.partition("-")
    meant = _LETTERS[scheme].get(letter)
    return ("O", "") if meant is None else (meant, kind)


def _read(tags: Sequence[str], scheme: str, lenient: bool) -> list[Span]:
    """The spans of a sentence; if lenient, every tag but `O` is in one."""
    found = []
    # A span that has not closed yet: its type and its start.
    kind, start = "", -1
    for place, tag in enumerate([*tags, "O"]):
        letter, of = _parted(tag, scheme)
        continues = start >= 0 and letter in ("I", "E") and of == kind
        if start >= 0 and not continues:
            if lenient or not _closes(scheme):
                found.append(Span(kind, start, place))
            start = -1
        if letter == "B" or (letter in ("I", "E") and not continues and (lenient or scheme == "iob1")):
            kind, start = of, place
        if letter == "S":
            found.append(Span(of, place, place + 1))
        elif letter == "E" and start >= 0:
            found.append(Span(kind, start, place + 1))
            start = -1
    return found
