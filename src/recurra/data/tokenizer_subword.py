"""Subwords over bytes, by byte pair encoding (Sennrich, Haddow & Birch 2016) or a unigram model (Kudo 2018)."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from ..config.sections import TokenizerConfig
from ..errors import ConfigError, DataError
from .text import cut_point
from .tokenizer import Decoder, IdArray, Normalization, Tokenizer
from .words import count_bounded, unit_pattern

__all__ = ["SubwordTokenizer", "sample", "train"]

_BYTES = 256
_CHUNK = 1 << 15
"""Characters that are encoded as one unit; text without any white space is cut after so many."""
_LONGEST_TOKEN = 48
_LONGEST_WORD = 256
_MOST_WORDS = 100_000
_MOST_UNIGRAM_WORDS = 50_000
_MOST_TOKENS = 4_000_000
_MOST_KNOWN = 100_000
_MOST_KNOWN_CHARACTERS = 4_000_000

# A line feed stands alone; a word takes the space before it along; marks stay with their letters, which the pattern of
# GPT-2 (Radford et al. 2019) tears off; digits go in threes.
_SPLIT = (
    r"\n| ?[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|[^\S\n]+(?!\S)|[^\S\n]"
)
# Coarser than _SPLIT, but cut only where it cuts; white space is that of the library, without \\x1c to \\x1f.
_UNIT = re.compile("\n| ?[\\S\x1c-\x1f]+|(?:(?!\n)[^\\S\x1c-\x1f])+(?![\\S\x1c-\x1f])|(?!\n)[^\\S\x1c-\x1f]")


def _byte_alphabet() -> dict[str, int]:
    """The printable characters that stand for the 256 bytes in a byte-level vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_BYTES) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(_BYTES + index): byte for index, byte in enumerate(others)}


class SubwordTokenizer(Tokenizer):
    """Byte-level subwords: nothing is unknown, and decoding gives back the normalised text exactly."""

    unk_id: None = None

    def __init__(
        self, kind: Literal["bpe", "unigram"], library: Any, normalization: Normalization, lowercase: bool
    ) -> None:
        super().__init__(normalization, lowercase)
        self.kind = kind
        # Text is normalised before it comes here; the library would only do it again, more slowly.
        self._model = tokenizers.Tokenizer.from_str(library.to_str())
        self._model.normalizer = None
        alphabet = _byte_alphabet()
        size = library.get_vocab_size()
        self._bytes = [bytes(alphabet[c] for c in library.id_to_token(token)) for token in range(size)]
        if not {bytes([byte]) for byte in range(_BYTES)} <= set(self._bytes):
            raise ValueError("it lacks tokens of single bytes")
        self.eos_id = self._bytes.index(b"\n")
        # Words recur, and looking one up is ten times as fast as encoding it anew.
        self._known: dict[str, list[int]] = {}
        self._known_characters = 0

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def decoder(self) -> Decoder:
        return _Decoder(self._bytes)

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self._bytes.__getitem__, ids)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token]

    def _encode(self, text: str) -> IdArray:
        units = [unit for chunk in _chunks(text) for unit in _UNIT.findall(chunk)]
        known = self._known
        unseen = list(dict.fromkeys(unit for unit in units if unit not in known))
        encodings = self._model.encode_batch_fast(unseen, add_special_tokens=False)
        known.update((unit, encoding.ids) for unit, encoding in zip(unseen, encodings, strict=True))
        ids = np.fromiter(chain.from_iterable(map(known.__getitem__, units)), np.uint32)
        self._known_characters += sum(map(len, unseen))
        if len(known) > _MOST_KNOWN or self._known_characters > _MOST_KNOWN_CHARACTERS:
            # Replaced, for another thread may be about to look up in it what it has put there.
            self._known = {}
            self._known_characters = 0
        return ids

    def _library(self) -> Any:
        return tokenizers.Tokenizer.from_str(self._model.to_str())


class _Decoder:
    def __init__(self, strings: list[bytes]) -> None:
        self._bytes = strings
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._characters.decode(self._bytes[token])

    def flush(self) -> str:
        return self._characters.decode(b"", final=True)


def train(pieces: Iterable[str], config: TokenizerConfig) -> SubwordTokenizer:
    """Learn subwords from an even sample of the text; see `Tokenizer.train`.

    To bound memory and time, BPE learns from the 100,000 commonest words of the sample, with their counts scaled down
    to 4 million in all, and the unigram model (`unigram.fit_unigram`) from the 50,000 commonest.
    """
    kind: Literal["bpe", "unigram"] = "bpe" if config.kind == "bpe" else "unigram"
    if config.vocab_size < _BYTES:
        raise ConfigError(
            f"tokenizer.vocab_size is {config.vocab_size}, but {kind} needs at least {_BYTES} tokens, one a byte; "
            "raise it or set tokenizer.kind=character."
        )
    chunks = sample(pieces, config.sample_bytes)
    if not chunks:
        raise DataError("The text to learn a vocabulary from is empty; give a file with text.")
    alphabet = sorted(_byte_alphabet())
    library = library_tokenizer(kind)
    most = _MOST_WORDS if kind == "bpe" else _MOST_UNIGRAM_WORDS
    # Only the common ones outlive this line: fitting needs the memory.
    words = _common(count_bounded(map(unit_pattern().findall, _drain(chunks)), 2 * _MOST_WORDS), most)
    if kind == "bpe":
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            min_frequency=max(2, config.min_count),
            initial_alphabet=alphabet,
            max_token_length=_LONGEST_TOKEN,
            show_progress=False,
        )
        library.train_from_iterator(_repeated(words), trainer)
    else:
        from .unigram import fit_unigram  # sentencepiece, which only learning needs

        fitted = fit_unigram(_parted(words, library.pre_tokenizer), config.vocab_size)
        letter = {byte: character for character, byte in _byte_alphabet().items()}
        library.model = models.Unigram([("".join(map(letter.__getitem__, piece)), score) for piece, score in fitted])
    return SubwordTokenizer(kind, library, config.normalization, config.lowercase)


def library_tokenizer(kind: Literal["bpe", "unigram"]) -> Any:
    """The tokenizers library's form of a subword tokenizer that has learnt nothing."""
    library = tokenizers.Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = tokenizers.decoders.ByteLevel()
    return library


def sample(pieces: Iterable[str], most_bytes: int) -> list[bytes]:
    """Chunks of a text of unknown length, spread evenly over it, as UTF-8 of at most `most_bytes` bytes together.

    Chunks are kept one in `stride`; whenever the sample is full, every other one is dropped and the stride doubles. A
    text that fits is kept whole; of a larger one at least about half of `most_bytes` is kept.
    """
    size = max(64, min(_CHUNK, most_bytes // 256))
    kept: list[bytes] = []
    total = 0
    stride = 1
    index = 0
    for piece in pieces:
        for chunk in _chunks(piece, size):
            if index % stride == 0:
                kept.append(chunk.encode())
                total += len(kept[-1])
            index += 1
            while total > most_bytes:
                # Which chunks go depends on their number alone, so that the ones kept stay evenly spread.
                kept = kept[::2]
                stride *= 2
                total = sum(map(len, kept))
    return kept


def _chunks(text: str, size: int = _CHUNK) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        cut = start + cut_point(text[start : start + size + 1], size)
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def _drain(chunks: list[bytes]) -> Iterator[str]:
    """The chunks in order, each let go of once it has been given out, with overlong words cut.

    The time to learn from one word grows with the square of its length.
    """
    chunks.reverse()
    while chunks:
        yield from _chunks(chunks.pop().decode(), _LONGEST_WORD)


def _common(words: Counter[str], most: int) -> list[tuple[str, int]]:
    return sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:most]


def _repeated(words: list[tuple[str, int]]) -> Iterator[list[str]]:
    """Each word as often as it occurs, as the library's trainer takes counts, scaled down to bound the time."""
    scale = min(1.0, _MOST_TOKENS / sum(count for _, count in words))
    for word, count in words:
        yield [word] * max(1, round(count * scale))


def _parted(words: list[tuple[str, int]], pre_tokenizer: Any) -> list[tuple[bytes, int]]:
    """Words as bytes, parted as in encoding."""
    counts: Counter[str] = Counter()
    for word, count in words:
        for part, _ in pre_tokenizer.pre_tokenize_str(word):
            counts[part] += count
    alphabet = _byte_alphabet()
    return [(bytes(alphabet[character] for character in part), count) for part, count in counts.items()]
