"""Asking a trained language model: probabilities of lines and next words, text that goes on, quality on files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.given_texts import listed
from ...data.text import expand_paths
from ...data.token_stream import prepare
from ...data.tokenizer import Tokenizer
from ...decoding.characters import WholeCharacters
from ...decoding.sampling import SamplingOptions, sample_generators
from ...decoding.state import State
from ...decoding.word_boundaries import join_words, last_word_can_go_on, space_starts, token_kinds, whole_characters
from ...decoding.word_scores import score_words
from ...decoding.word_search import FoundWords, TokenKinds, likeliest_words
from ...decoding.writing import write
from ...errors import ConfigError, RecurraError
from ...files import scratch_folder
from ...run.device import find_device
from ...run.directory import Run
from ...run.saving import Savable
from ..predictor import Predictor
from .answers import LineScore, NextWords, RankedLine, rank_lines
from .config import LanguageModelConfig
from .data import TOKENIZER
from .likelihood import stream_nats
from .loading import load_model
from .network import LanguageModel

__all__ = ["LanguageModelPredictor"]

# Logits of one chunk hold about this many numbers, which bounds memory for long lines and large vocabularies.
_CHUNK_NUMBERS = 1 << 22


class LanguageModelPredictor(Predictor):
    """A trained language model with its tokenizer, ready to be asked; made by `recurra.load`.

    Args:
        model: the trained model; it is put in evaluation mode.
        tokenizer: the one that it was trained with.
        config: the run's configuration.
        directory: the run directory that it came from, if any.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, config: LanguageModelConfig, directory: Path | None = None
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.config = config
        self.directory = directory
        self._kinds: TokenKinds | None = None

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def score(self, lines: Sequence[str]) -> list[LineScore]:
        """Log-probability, perplexity and bits per character of each line, as a line of its own at the start of a text.

        Every line is read alone, in a batch of one, so its score never depends on what else is asked.

        Args:
            lines: without their line ends.

        Raises:
            TypeError: for one string in place of a list, or what is no text.
        """
        return [self._score(line) for line in listed(lines)]

    def rank(self, alternatives: Sequence[str]) -> list[RankedLine]:
        """Score alternatives and sort them, the likeliest first, each with its share of their total probability."""
        return rank_lines(self.score(alternatives))

    def next(
        self,
        text: str,
        top: int = 10,
        candidates: Sequence[str] | None = None,
        unit: Literal["word", "token"] = "word",
    ) -> NextWords:
        """P(next word | text), where the text's last word is taken as complete.

        A word model answers from its vocabulary. With smaller tokens, a word's probability is that of its tokens
        followed by any token that completes it (`recurra.decoding.word_search`).

        Args:
            text: what comes before, from the beginning of a line; may be empty or hold several lines.
            top: how many words, at least 1.
            candidates: the words to ask about, instead of the likeliest; all of them are answered. A word outside the
                vocabulary is among the answer's `unknown`, and has the probability of all unknown words together, as
                in `score`.
            unit: "token" gives plain tokens after exactly this text, whose last word may then go on.

        Raises:
            RecurraError: if `top` is below 1, or candidates are asked for as tokens.
        """
        if top < 1:
            raise RecurraError(f"top must be at least 1, not {top}.")
        if unit == "token":
            if candidates is not None:
                raise RecurraError("candidates are words; ask for them with the unit word.")
            log_probabilities, _ = self.begin(self._encode(text))
            return self._top_tokens(log_probabilities, top)
        text = text.rstrip(" \t")
        log_probabilities, state = self.begin(self._encode(text))
        complete = last_word_can_go_on(text)
        if candidates is not None:
            answers, unknown = [], set()
            for word in listed(candidates):
                probability, known = self._candidate(text, word, log_probabilities, state, complete)
                answers.append((word, probability))
                if not known:
                    unknown.add(word)
            return NextWords(sorted(answers, key=lambda answer: -answer[1]), unknown=unknown)
        if self.tokenizer.tokens_are_words:
            return self._top_tokens(log_probabilities, top)
        found: FoundWords = likeliest_words(
            self.advance,
            log_probabilities,
            state,
            self._token_kinds,
            self._spell,
            complete=complete,
            top=top,
        )
        return NextWords(found.words, found.unseen)

    def begin(self, tokens: Sequence[int] = ()) -> tuple[Tensor, State]:
        """Log-probabilities (V,) in float64 of what follows a line end and these tokens, and the state there."""
        logits, state = self._read_logits(tokens)
        return _log_softmax(logits), state

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (N, V) in float64 after one token (N,) in each of N rows, and the state after it."""
        logits, state = self._step(tokens, state)
        return _log_softmax(logits), state

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        options: SamplingOptions | None = None,
        n: int = 1,
        seed: int = 0,
        stop: str | None = None,
    ) -> list[str]:
        """Write on after the prompt.

        Args:
            prompt: read once; it begins at the start of a line.
            length: most tokens of each sample.
            options: temperature, truncation and repetition penalty; None: plain sampling.
            n: how many samples; they are written side by side in one batch.
            seed: the same seed gives the same text; sample i has its own random numbers, whatever n is.
            stop: a string at which a sample ends; it is not part of the result.

        Returns:
            n texts, each what follows the prompt.
        """
        texts = [""] * n
        for row, text in self._write(prompt, length, options, n, seed, stop):
            texts[row] += text
        return texts

    def stream(
        self,
        prompt: str = "",
        length: int = 200,
        options: SamplingOptions | None = None,
        seed: int = 0,
        stop: str | None = None,
    ) -> Iterator[str]:
        """One sample of `generate` in pieces as it is written; each piece is whole characters that will not change."""
        for _, text in self._write(prompt, length, options, 1, seed, stop):
            yield text

    def evaluate(
        self, paths: Sequence[str | Path], *, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, float | int]:
        """Quality on text, read as one stream; a long text in several places at once, as `likelihood.stream_nats` says.

        Args:
            paths: files, globs, folders, .gz files, or - for stdin.
            progress: called with the tokens done and the tokens in all.

        Returns:
            `loss` (nats a token), `perplexity` (of a token), `bits_per_character`, `tokens`, `characters`, and
            `unknown_rate` (share of tokens that the vocabulary does not hold).

        Raises:
            DataError: if a file is missing, unreadable, not UTF-8 or empty.
        """
        files = expand_paths([str(path) for path in paths])
        with scratch_folder() as folder:
            stream = prepare(files, self.tokenizer, folder / "text.tokens")
            total, _ = stream_nats(self.model, stream.tokens, self.tokenizer.eos_id, progress)
            count, characters = len(stream), stream.characters
            unknown = 0 if self.tokenizer.unk_id is None else int((stream.tokens == self.tokenizer.unk_id).sum())
            # A mapped file that is still open cannot be removed on every system.
            del stream
        loss = total / count
        return {
            "loss": loss,
            "perplexity": _exp(loss),
            "bits_per_character": total / math.log(2) / characters,
            "tokens": count,
            "characters": characters,
            "unknown_rate": unknown / count,
        }

    @classmethod
    def _from_open(cls, runs: Sequence[Run], device: str, average: int) -> Self:
        if len(runs) > 1:
            raise ConfigError("several runs answer together only in translation; name one language model.")
        config, tokenizer, model = load_model(runs[0], average)
        return cls(model.to(find_device(device, "--device")), tokenizer, config, runs[0].path)

    def _files(self) -> Mapping[str, Savable]:
        return {TOKENIZER: self.tokenizer}

    def _network(self) -> nn.Module:
        return self.model

    def answer_loss(self, network: nn.Module, text: str, most: int) -> Tensor:
        """-log P(last token | what stands before it), the text beginning a line; see `Predictor`."""
        tokens = [self.tokenizer.eos_id, *self._encode(text)[:most]]
        if len(tokens) < 2:
            raise ConfigError("a text without tokens has no last one to be predicted; give another text.")
        row = torch.tensor(tokens, dtype=torch.int64, device=self.device).unsqueeze(1)
        logits: Tensor = network(row[:-1]).logits[-1]
        return F.cross_entropy(logits, row[-1])

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text)]

    @torch.inference_mode()
    def _logits(self, tokens: Sequence[int] | Tensor, state: State = None) -> tuple[Tensor, State]:
        """Logits (T, V) of one row of tokens."""
        row = torch.as_tensor(tokens, dtype=torch.int64, device=self.device).unsqueeze(1)
        output = self.model(row, state)
        return output.logits[:, 0], output.hx

    def _chunks(self, count: int) -> Iterator[tuple[int, int]]:
        size = max(16, min(1024, _CHUNK_NUMBERS // self.tokenizer.vocab_size))
        for start in range(0, count, size):
            yield start, min(start + size, count)

    def _read_logits(self, tokens: Sequence[int]) -> tuple[Tensor, State]:
        sequence = [self.tokenizer.eos_id, *tokens]
        state: State = None
        logits = torch.empty(0, device="cpu")
        for start, stop in self._chunks(len(sequence)):
            logits, state = self._logits(sequence[start:stop], state)
        return logits[-1].float().cpu(), state

    @torch.inference_mode()
    def _step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (N, V) on the CPU after one token in each of N rows."""
        output = self.model(tokens.to(self.device).unsqueeze(0), state)
        return output.logits[0].float().cpu(), output.hx

    @torch.inference_mode()
    def _token_nats(self, tokens: Sequence[int]) -> Tensor:
        """Negative log-likelihood of each token after a line end, float64, read in chunks with the state carried."""
        found: list[Tensor] = []
        state: State = None
        sequence = torch.tensor([self.tokenizer.eos_id, *tokens], device="cpu")
        for start, stop in self._chunks(len(tokens)):
            logits, state = self._logits(sequence[start:stop], state)
            target = sequence[start + 1 : stop + 1].to(logits.device)
            found.append(F.cross_entropy(logits.float(), target, reduction="none").cpu().double())
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64, device="cpu")

    def _nats(self, tokens: Sequence[int]) -> float:
        return float(self._token_nats(tokens).sum())

    def _score(self, line: str) -> LineScore:
        tokens = [*self._encode(line), self.tokenizer.eos_id]
        each = self._token_nats(tokens)
        nats = float(each.sum())
        known = [token != self.tokenizer.unk_id for token in tokens]
        # The line end is always known.
        known_nats = nats if all(known) else float(each[torch.tensor(known, device="cpu")].sum())
        return LineScore(
            text=line,
            log_probability=-nats,
            tokens=len(tokens),
            perplexity=_exp(nats / len(tokens)),
            bits_per_character=nats / math.log(2) / (len(self.tokenizer.normalize(line)) + 1),
            unknown=known.count(False),
            known_log_probability=-known_nats,
            known_perplexity=_exp(known_nats / known.count(True)),
            words=score_words(self.tokenizer.text_bytes(line), (-each).tolist(), self.tokenizer.tokens_are_words),
        )

    @property
    def _token_kinds(self) -> TokenKinds:
        if self._kinds is None:
            self._kinds = token_kinds(self.tokenizer)
        return self._kinds

    @cached_property
    def _characters(self) -> WholeCharacters | None:
        return whole_characters(self.tokenizer)

    def _spell(self, tokens: Sequence[int]) -> str:
        if list(tokens) == [self.tokenizer.eos_id]:
            return self.tokenizer.token_text(self.tokenizer.eos_id)
        return self.tokenizer.decode(list(tokens)).strip()

    def _top_tokens(self, log_probabilities: Tensor, top: int) -> NextWords:
        values, tokens = log_probabilities.exp().topk(min(top, len(log_probabilities)))
        words = [self.tokenizer.token_text(token) for token in tokens.tolist()]
        return NextWords(list(zip(words, values.tolist(), strict=True)))

    def _candidate(
        self, text: str, candidate: str, log_probabilities: Tensor, state: State, complete: bool
    ) -> tuple[float, bool]:
        """P(candidate, and that it is complete | text), for the candidate as the tokenizer writes it, and whether the
        vocabulary holds it.
        """
        before = self._encode(text)
        spaced = self.tokenizer.kind == "whitespace" and bool(text) and not text[-1].isspace()
        tokens = self._encode(f"{text} {candidate}" if spaced else join_words(text, candidate))
        if len(tokens) <= len(before):
            return 0.0, True
        boundary = self._token_kinds.boundary
        log_probability = 0.0
        if tokens[: len(before)] != before:
            # The candidate changes how the text's own end is cut into tokens: compare the two readings as wholes.
            log_probability = self._nats(before) - self._nats(tokens)
            after, _ = self.begin(tokens)
        else:
            after = log_probabilities
            for position, token in enumerate(tokens[len(before) :]):
                log_probability += after[token].item()
                if position == 0 and complete and bool(boundary[token]):
                    log_probability -= after[boundary].logsumexp(-1).item()
                after, state = self._read_one(token, state)
        if not bool(self._token_kinds.mark[tokens[-1]]):
            log_probability += after[boundary].logsumexp(-1).item()
        return _exp(log_probability), self.tokenizer.unk_id not in tokens[len(before) :]

    def _read_one(self, token: int, state: State) -> tuple[Tensor, State]:
        log_probabilities, state = self.advance(torch.tensor([token], device="cpu"), state)
        return log_probabilities[0], state

    def _write(
        self, prompt: str, length: int, options: SamplingOptions | None, n: int, seed: int, stop: str | None
    ) -> Iterator[tuple[int, str]]:
        for name, value, least in (("length", length, 0), ("n", n, 1), ("seed", seed, 0)):
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, not {value}.")
        if length == 0:
            return
        text, first_allowed = prompt, None
        if self.tokenizer.kind in ("bpe", "unigram") and prompt.endswith(" "):
            # These tokenizers keep a space with the word after it: the model never saw a text end in a lone space.
            text, first_allowed = prompt[:-1], space_starts(self.tokenizer)
        tokens = self._encode(text)
        logits, state = self._read_logits(tokens)
        vocabulary = len(logits)
        seen = torch.zeros(vocabulary, dtype=torch.bool, device="cpu")
        seen[tokens] = True
        banned = torch.zeros(vocabulary, dtype=torch.bool, device="cpu")
        if self.tokenizer.unk_id is not None:
            banned[self.tokenizer.unk_id] = True
        decoders = []
        for _ in range(n):
            decoder = self.tokenizer.decoder()
            for token in tokens:
                decoder.push(token)
            decoders.append(decoder)
        pieces = write(
            self._step, logits, state, decoders, sample_generators(seed, n), options or SamplingOptions(),
            length=length, seen=seen, banned=banned, first_allowed=first_allowed, stop=stop,
            characters=self._characters,
        )  # fmt: skip
        # Where the space belongs to the word after it, the prompt shows it already.
        begun = set(range(n)) if self.tokenizer.kind == "character" or not prompt.endswith(" ") else set()
        for row, piece in pieces:
            shown = piece if row in begun else piece.removeprefix(" ")
            begun.add(row)
            if shown:
                yield row, shown


def _log_softmax(logits: Tensor) -> Tensor:
    # On the CPU, because not every device has double precision.
    return logits.float().cpu().double().log_softmax(-1)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
