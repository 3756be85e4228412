"""Fitting a unigram subword model (Kudo 2018, "Subword Regularization") over bytes, by sentencepiece.

The trainer of the tokenizers library gives another vocabulary each time it is run and takes minutes for a few megabytes
of Korean; that of sentencepiece gives the same one in seconds.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import sentencepiece

__all__ = ["fit_unigram"]

_BYTES = 256
_LONGEST_PIECE = 24
_LONGEST_WORD = 512
# sentencepiece takes text: byte b is written as this character and b further.
_FIRST_LETTER = 0x100
_MOST_LETTERS = 2_000_000
_LESS_LIKELY = 10.0
"""How far, in nats, a byte that no word uses lies below the least likely piece."""


def fit_unigram(words: Iterable[tuple[bytes, int]], size: int) -> list[tuple[bytes, float]]:
    """The pieces of a unigram model with their log-probabilities, the likeliest first.

    All 256 bytes are pieces; the others are runs of at most 24 bytes inside a word. There may be fewer than `size` if
    the words do not have so many. The result depends on nothing but the arguments.

    Args:
        words: the words, which no piece crosses, and how often each occurs; only 512 bytes of a word are looked at.
            Counts that come to more than 2 million letters in all are scaled down to that, none below one.
        size: the most pieces, at least 256.
    """
    counted = [(word[:_LONGEST_WORD], count) for word, count in words if word]
    used = {byte for word, _ in counted for byte in word}
    fitted = _fit(counted, size - (_BYTES - len(used)), len(used))
    least = min((score for _, score in fitted), default=0.0)
    known = {piece for piece, _ in fitted}
    single = (bytes([byte]) for byte in range(_BYTES))
    fitted += [(byte, least - _LESS_LIKELY) for byte in single if byte not in known]
    # Bytes must stay; of the rest the least likely go where sentencepiece gave a few too many.
    longer = sorted((entry for entry in fitted if len(entry[0]) > 1), key=lambda entry: (-entry[1], entry[0]))
    kept = [entry for entry in fitted if len(entry[0]) == 1] + longer[: max(0, size - _BYTES)]
    return sorted(kept, key=lambda entry: (-entry[1], entry[0]))


def _fit(words: list[tuple[bytes, int]], size: int, used: int) -> list[tuple[bytes, float]]:
    # It writes every word out as often as it counts, at some 14 bytes a letter.
    scale = min(1.0, _MOST_LETTERS / max(1, sum(len(word) * count for word, count in words)))
    scaled = ((word, max(1, round(count * scale))) for word, count in words)
    lines = ["".join(chr(_FIRST_LETTER + byte) for byte in word) + f"\t{count}" for word, count in scaled]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            # One more for <unk>, which it insists on, and at least all bytes, or it refuses.
            vocab_size=max(size, used) + 1,
            hard_vocab_limit=False,
            character_coverage=1.0,
            max_sentencepiece_length=_LONGEST_PIECE,
            max_sentence_length=4 * _LONGEST_WORD,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            # The sums of its threads, and so the pieces, would depend on how many there are.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        # From one word seen once it may keep no piece at all, and then cannot read its own model.
        if "no pieces are loaded" in str(error):
            return []
        raise
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = ((processor.id_to_piece(token), processor.get_score(token)) for token in range(1, len(processor)))
    return [(bytes(ord(letter) - _FIRST_LETTER for letter in piece), min(score, 0.0)) for piece, score in pieces]
