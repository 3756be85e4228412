"""The tokenizer of a run: text to ids and back, trained on the user's text, kept in one `tokenizer.json`.

Five kinds share one interface: `character`, `word`, `whitespace`, `bpe` and `unigram`. In all of them a line end is
one token, `eos_id`, so that lines are never merged into one another and a text is a single stream of tokens. That token
is the line feed itself, not a special string: no text can be mistaken for it, and the saved file, which the tokenizers
library loads as it is, gives the same ids there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import tokenizers

from ..config.sections import TokenizerConfig
from ..errors import RunError
from ..files import regular, unwritten
from ..strict_json import read_json
from .spacing import Spacing
from .words import UNKNOWN, continues_word

__all__ = ["Decoder", "IdArray", "Normalization", "Tokenizer"]

IdArray = npt.NDArray[np.uint32]
Normalization = Literal["nfc", "nfkc", "none"]

_LINE_END = re.compile("\r\n?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}
_VISIBLE = str.maketrans({" ": "␣", "\t": "\\t", "\r": "\\r"})


class Decoder(Protocol):
    """Turns ids into text one by one, giving out only what later ids cannot change."""

    def push(self, token: int) -> str:
        """The text that is certain now that this token has come; often empty inside a character."""
        ...

    def flush(self) -> str:
        """What is left at the end; bytes that make no character become U+FFFD."""
        ...


class Tokenizer(ABC):
    """Text to token ids and back; made by `Tokenizer.train` or `Tokenizer.load`, never directly."""

    kind: Literal["character", "word", "whitespace", "bpe", "unigram"]
    eos_id: int
    """The token of a line end; it decodes to a line feed."""
    unk_id: int | None
    """The token of what the vocabulary lacks; None where there is no such thing, as with bytes."""

    def __init__(self, normalization: Normalization, lowercase: bool) -> None:
        self.normalization: Normalization = normalization
        self.lowercase = lowercase

    @classmethod
    def train(cls, pieces: Iterable[str], config: TokenizerConfig) -> Tokenizer:
        """Learn a vocabulary from text given in pieces, in bounded memory; the same text gives the same tokenizer.

        `character`, `word` and `whitespace` count all of the text and keep the commonest; `bpe` and `unigram` learn
        from at most `config.sample_bytes`, taken evenly from all of it, over the 256 bytes, so that no text is unknown
        to them.

        Raises:
            DataError: if the text is empty.
            ConfigError: if `config.vocab_size` has no room for the 256 bytes of a subword tokenizer.
        """
        from . import tokenizer_character, tokenizer_subword, tokenizer_word

        normalized = map(_Normalizer(config.normalization, config.lowercase), pieces)
        if config.kind == "character":
            return tokenizer_character.train(normalized, config)
        if config.kind in ("word", "whitespace"):
            return tokenizer_word.train(normalized, config)
        return tokenizer_subword.train(normalized, config)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json` that `save` wrote.

        Raises:
            RunError: if the file is missing, damaged, or holds a tokenizer that recurra did not make.
        """
        from . import tokenizer_character, tokenizer_subword, tokenizer_word

        try:
            text = regular(Path(path)).read_text(encoding="utf-8")
            tree = read_json(text)
            normalization, lowercase = _read_normalizer(tree["normalizer"])
            model = tree["model"]["type"]
            if model in ("BPE", "Unigram"):
                kind: Literal["bpe", "unigram"] = "bpe" if model == "BPE" else "unigram"
                # Looked at first, for the library does whatever a file asks for, or panics.
                if _is_like(tree, tokenizer_subword.library_tokenizer(kind)):
                    if kind == "bpe":
                        _in_order(tree)  # raises where ids have gaps; the pieces of unigram are a list
                    library = _parsed(text)
                    return tokenizer_subword.SubwordTokenizer(kind, library, normalization, lowercase)
            elif _is_like(tree, tokenizer_character.library_tokenizer({})):
                return tokenizer_character.CharacterTokenizer(_in_order(tree), normalization, lowercase)
            elif _is_like(tree, tokenizer_word.WhitespaceTokenizer.library({})):
                return tokenizer_word.WhitespaceTokenizer(_in_order(tree), normalization, lowercase)
            elif _is_like(tree, tokenizer_word.WordTokenizer.library({}), tokenizer_word.SPACING):
                strings, spaces = _in_order(tree), tree["model"].get(tokenizer_word.SPACING)
                spacing = None if spaces is None else Spacing.read(spaces, len(strings))
                return tokenizer_word.WordTokenizer(strings, normalization, lowercase, spacing)
        except OSError as error:
            raise RunError(f"{path}: the tokenizer cannot be read ({error.strerror}); check the path.") from error
        except Exception as error:  # the library raises bare Exception for a file that it does not understand
            raise RunError(f"{path}: this is not a whole tokenizer.json of recurra ({error}); restore it.") from error
        raise RunError(f"{path}: this tokenizer was not made by recurra; train one with recurra.")

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON in the tokenizers library's format, aside and then renamed.

        Raises:
            RunError: if the file cannot be written.
        """
        path = Path(path)
        aside = path.with_name(path.name + ".tmp")
        try:
            with open(aside, "w", encoding="utf-8") as file:
                file.write(self._json)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise RunError(f"{path}: the tokenizer cannot be written {unwritten(error)}.") from error

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many tokens there are; ids are 0 to `vocab_size` - 1."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh incremental decoder; what it gives out in all equals `decode` of the same ids."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text, in UTF-8; of a bpe or unigram token it may be part of a character.

        For `word` it is the word without the spaces that decoding puts round it.
        """

    @abstractmethod
    def _encode(self, text: str) -> IdArray: ...

    @abstractmethod
    def _library(self) -> Any:
        """The same tokenizer as an object of the tokenizers library, without its normalizer."""

    def _learnt(self) -> dict[str, Any]:
        """What the saved model holds besides what the library knows."""
        return {}

    def encode(self, text: str) -> IdArray:
        """The ids of a text; every line end becomes `eos_id`, and nothing is added. uint32, shape (tokens,)."""
        return self._encode(self.normalize(text))

    def encode_normalized(self, text: str) -> IdArray:
        """The ids of a text that `normalize` returned."""
        return self._encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids: the normalised text itself, but for unknown tokens and, with `word`, for spacing."""
        decoder = self.decoder()
        return "".join(map(decoder.push, _integers(ids))) + decoder.flush()

    def normalize(self, text: str) -> str:
        """The text as the tokenizer sees it: line ends as line feeds, the Unicode normal form, case folded if set.

        Lone surrogates, which are no characters, become U+FFFD.
        """
        return _Normalizer(self.normalization, self.lowercase)(text)

    def text_bytes(self, text: str) -> list[bytes]:
        """What of a text each token of `encode` stands for, in UTF-8; of unknown tokens what the text has there."""
        text = self.normalize(text)
        if self.unk_id is None:
            return [self.token_bytes(int(token)) for token in self._encode(text)]
        return [part.encode() for part in self._parts(text)]

    @property
    def tokens_are_words(self) -> bool:
        """Whether every token is a word or a symbol of its own."""
        return self.kind in ("word", "whitespace")

    def unknown(self, text: str) -> list[str]:
        """The words, or characters, of a text that the vocabulary does not hold: in order, each once.

        They are spelt as in the text, but for the Unicode normal form. A literal `<unk>` is none of them.
        """
        if self.unk_id is None:
            return []
        cased = _Normalizer(self.normalization, False)(text)
        return [part for part in dict.fromkeys(self._parts(cased)) if self._lacks(part)]

    def _parts(self, text: str) -> Iterable[str]:
        """What of a text is one token each."""
        return text

    def _lacks(self, part: str) -> bool:
        return part != UNKNOWN and self.unk_id in self.encode(part)

    def token_text(self, token: int) -> str:
        """One token in a form fit for a table: `<eos>`, `<unk>`, spaces as ␣, loose bytes as \\xNN."""
        if token == self.eos_id:
            return "<eos>"
        if token == self.unk_id:
            return UNKNOWN
        text = self.token_bytes(token).decode("utf-8", "backslashreplace").translate(_VISIBLE)
        return "".join(c if c.isprintable() or unicodedata.category(c) == "Cf" else f"\\u{ord(c):04x}" for c in text)

    def is_boundary(self, token: int) -> bool:
        """Whether this token, right after a word, shows that the word is complete. See `boundary_mask`."""
        return bool(self.boundary_mask[token])

    @cached_property
    def vocabulary_bytes(self) -> tuple[bytes, ...]:
        """`token_bytes` of every token."""
        return tuple(self.token_bytes(token) for token in range(self.vocab_size))

    @cached_property
    def boundary_mask(self) -> npt.NDArray[np.bool_]:
        """Of each id, whether the token cannot continue the word before it; shape (vocab_size,).

        True for the line end, all tokens of words, and tokens that start with white space, a symbol or an ideograph;
        False for those that start with a letter, digit, mark or apostrophe, or inside a character.
        """
        mask = np.array([not _may_continue(text) for text in self.vocabulary_bytes])
        if self.tokens_are_words:
            mask[:] = True
        elif self.unk_id is not None:
            mask[self.unk_id] = False  # unknown characters are mostly letters
        return mask

    @cached_property
    def token_characters(self) -> npt.NDArray[np.int64]:
        """Characters that each token adds to the text, (vocab_size,); one of many tokens counts at its first."""
        return np.array([sum(byte & 0xC0 != 0x80 for byte in text) for text in self.vocabulary_bytes])

    @cached_property
    def fingerprint(self) -> str:
        """Equal for tokenizers that do the same; prepared text carries it."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    @cached_property
    def _json(self) -> str:
        library = self._library()
        library.normalizer = _write_normalizer(self.normalization, self.lowercase)
        text = cast(str, library.to_str())
        learnt = self._learnt()
        if not learnt:
            return text
        tree = read_json(text)
        tree["model"] |= learnt
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self.fingerprint)


class _Normalizer:
    def __init__(self, normalization: Normalization, lowercase: bool) -> None:
        self.form = _FORMS.get(normalization)
        self.lowercase = lowercase

    def __call__(self, text: str) -> str:
        if "\r" in text:
            text = _LINE_END.sub("\n", text)
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)
            if self.form:
                text = unicodedata.normalize(self.form, text)
        if self.lowercase:
            # Character by character, as in the saved file: Python alone makes a final capital sigma a final small one.
            text = text.replace("Σ", "σ").lower()
        return text


def _integers(ids: Iterable[int]) -> Iterator[int]:
    return map(int, ids.tolist() if isinstance(ids, np.ndarray) else ids)


def _may_continue(token: bytes) -> bool:
    """Whether a token can be more of the word before it, judged by its first character or what bytes it has of it."""
    lead = token[0]
    if lead < 0x80:
        return continues_word(chr(lead))
    if lead < 0xC0:
        return True
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    known = token[:length]
    try:
        return continues_word(known.decode())
    except UnicodeDecodeError:
        pass
    missing = length - len(known)
    if missing > 2 or missing == 0:
        return True
    low = 0
    for index, byte in enumerate(known):
        low = low << 6 | (byte & 0x3F if index else byte & (0x7F >> length))
    first = low << 6 * missing
    return any(continues_word(chr(code)) for code in range(first, min(first + (1 << 6 * missing), 0x110000)))


def _write_normalizer(normalization: Normalization, lowercase: bool) -> Any:
    steps: list[Any] = [tokenizers.normalizers.Replace(tokenizers.Regex("\r\n?"), "\n")]
    if normalization != "none":
        steps.append(getattr(tokenizers.normalizers, _FORMS[normalization])())
    if lowercase:
        steps.append(tokenizers.normalizers.Lowercase())
    return tokenizers.normalizers.Sequence(steps)


def _is_like(tree: Any, library: Any, *learnt_too: str) -> bool:
    """Whether a file has the parts that recurra gives a tokenizer, and differs in vocabulary and normalizer alone.

    Args:
        tree: the file.
        library: the tokenizers library's form of a tokenizer that has learnt nothing.
        learnt_too: other parts of the model that may differ.
    """
    whole = read_json(library.to_str())
    learnt = {"model", "normalizer"}, {"vocab", "merges", "unk_id", *learnt_too}
    for found, made, ours in ((tree, whole, learnt[0]), (tree["model"], whole["model"], learnt[1])):
        # What is absent is as if it were null: versions of the library differ in what they write.
        if any(found.get(key) != made.get(key) for key in (found.keys() | made.keys()) - ours):
            return False
    return True


def _parsed(text: str) -> Any:
    """The library's tokenizer of a file.

    Raises:
        ValueError: if it panics, of which no `except Exception` would know.
    """
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("the tokenizers library cannot read it") from None


def _read_normalizer(tree: Any) -> tuple[Normalization, bool]:
    steps = [step["type"] for step in tree["normalizers"]]
    form: Normalization = "nfkc" if "NFKC" in steps else "nfc" if "NFC" in steps else "none"
    return form, "Lowercase" in steps


def _in_order(tree: Any) -> list[str]:
    """The strings of a saved vocabulary by id."""
    vocabulary: dict[str, int] = tree["model"]["vocab"]
    strings = sorted(vocabulary, key=vocabulary.__getitem__)
    # The library makes room for every id up to the largest.
    if [vocabulary[string] for string in strings] != list(range(len(strings))):
        raise ValueError("the ids have gaps")
    return strings
