"""The predictor against computations straight from its model: every kind of tokenizer, random weights."""

from __future__ import annotations

import codecs
import itertools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import recurra
from recurra.config.sections import TokenizerConfig
from recurra.data.tokenizer import Tokenizer
from recurra.decoding.ctc import CTCOptions, ctc_beam_search
from recurra.decoding.ctc_alignment import ctc_log_likelihood
from recurra.decoding.language_model_scorer import LanguageModelScorer
from recurra.decoding.next_token import NextToken
from recurra.decoding.sampling import SamplingOptions
from recurra.decoding.state import select_rows
from recurra.decoding.word_boundaries import join_words, last_word_can_go_on
from recurra.errors import ConfigError, DataError, RecurraError, RunError
from recurra.systems.language_model import likelihood
from recurra.systems.language_model.config import LanguageModelConfig, ModelConfig
from recurra.systems.language_model.network import LanguageModel
from recurra.systems.language_model.predict import LanguageModelPredictor

KINDS = ["character", "word", "bpe", "unigram"]
TEXT = (
    "the apple and pear salad is fresh, and the pair of tongs is not.\n"
    "take the pears; add 2 apples (peeled) and a pinch of salt!\n"
    "사과와 배 샐러드를 만든다. 배를 씻고 사과를 깎는다.\n"
    "a pair of gloves, a paring knife - and the peel of a pear 🍐\n"
) * 8


def build(kind: str, *, seed: int = 0, cell: str = "lstm", sizes: int | list[int] = 24) -> LanguageModelPredictor:
    """A predictor whose random model is sure enough of itself to have clear favourites."""
    layers = len(sizes) if isinstance(sizes, list) else 2
    config = LanguageModelConfig(
        tokenizer=TokenizerConfig(kind=kind, vocab_size=60 if kind == "word" else 360),  # type: ignore[arg-type]
        model=ModelConfig(cell=cell, hidden_size=sizes, num_layers=layers, forget_bias=None),
    )
    tokenizer = Tokenizer.train([TEXT], config.tokenizer)
    torch.manual_seed(seed)
    model = LanguageModel(tokenizer.vocab_size, config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.9 if parameter.dim() > 1 else 0.5))
    return LanguageModelPredictor(model, tokenizer, config)


@pytest.fixture(scope="module", params=KINDS)
def predictor(request: pytest.FixtureRequest) -> LanguageModelPredictor:
    return build(request.param)


@pytest.fixture(scope="module")
def characters() -> LanguageModelPredictor:
    return build("character")


def log_probabilities(predictor: LanguageModelPredictor, tokens: Sequence[int]) -> torch.Tensor:
    """(T + 1, V): of each token after a line end and the tokens before it, from one pass over everything."""
    sequence = torch.tensor([predictor.tokenizer.eos_id, *(int(token) for token in tokens)])
    with torch.no_grad():
        return predictor.model(sequence.unsqueeze(1)).logits[:, 0].double().log_softmax(-1)


def encode(predictor: LanguageModelPredictor, text: str) -> list[int]:
    return [int(token) for token in predictor.tokenizer.encode(text)]


def log_probability(predictor: LanguageModelPredictor, tokens: Sequence[int]) -> float:
    rows = log_probabilities(predictor, tokens)
    return math.fsum(rows[position, token].item() for position, token in enumerate(tokens))


# float32 products summed in another order differ by about 1e-6 of the sums; logits here reach about 10.
CLOSE = {"rel": 1e-4, "abs": 1e-7}

LINES = ["the apple and pear salad", "사과와 배", "", "a pair of gloves, a paring knife", "zyzzyva ☃"]


def test_a_score_is_the_models_own_probability(predictor: LanguageModelPredictor) -> None:
    for line, score in zip(LINES, predictor.score(LINES), strict=True):
        tokens = [*encode(predictor, line), predictor.tokenizer.eos_id]
        expected = log_probability(predictor, tokens)
        assert score.text == line
        assert score.log_probability == pytest.approx(expected, **CLOSE)
        assert score.tokens == len(tokens)
        assert score.perplexity == pytest.approx(math.exp(-expected / len(tokens)), rel=1e-4)
        assert score.bits_per_character == pytest.approx(-expected / math.log(2) / (len(line) + 1), rel=1e-4)
        assert score.unknown == sum(token == predictor.tokenizer.unk_id for token in tokens)


def test_each_word_adds_what_its_reading_adds(predictor: LanguageModelPredictor) -> None:
    line = "  the pear,  salad 배를 🍐 is "
    (score,) = predictor.score([line])
    each = log_probabilities(predictor, [*encode(predictor, line), predictor.tokenizer.eos_id])
    if predictor.tokenizer.kind == "word":
        expected = ["the", "pear", ",", "salad", "배를", "🍐", "is", "<eos>"]
        tokens = [*encode(predictor, line), predictor.tokenizer.eos_id]
        values = [float(each[place, token]) for place, token in enumerate(tokens)]
    else:
        expected = ["the", "pear,", "salad", "배를", "🍐", "is", "<eos>"]
        # What is read up to the end of each word, cut nowhere inside a token.
        ends = [line.index(word) + len(word) for word in expected[:-1]]
        tokens = encode(predictor, line)
        lengths = [len(encode(predictor, line[:end])) for end in ends]
        assert all(tokens[:length] == encode(predictor, line[:end]) for length, end in zip(lengths, ends, strict=True))
        gains = [float(each[place, token]) for place, token in enumerate([*tokens, predictor.tokenizer.eos_id])]
        bounds = [0, *lengths, len(gains)]
        values = [sum(gains[first:last]) for first, last in itertools.pairwise(bounds)]
    assert [word for word, _ in score.words] == expected
    assert [value for _, value in score.words] == pytest.approx(values, abs=1e-4)
    assert sum(value for _, value in score.words) == pytest.approx(score.log_probability, abs=1e-9)


def test_words_outside_the_vocabulary_are_counted() -> None:
    assert build("word").score(["zyzzyva pear zyzzyva"])[0].unknown == 2


def test_a_score_does_not_depend_on_what_else_is_asked(predictor: LanguageModelPredictor) -> None:
    together = predictor.score([*LINES, *LINES[::-1]])
    for line, first, second in zip(LINES, together, together[::-1], strict=False):
        alone = predictor.score([line])[0]
        # Bit for bit: no tolerance.
        assert alone == first == second


def test_composed_and_decomposed_syllables_are_the_same_text(predictor: LanguageModelPredictor) -> None:
    line = "사과와 배 샐러드"
    composed, decomposed = predictor.score([line, unicodedata.normalize("NFD", line)])
    assert composed.log_probability == decomposed.log_probability
    assert composed.bits_per_character == decomposed.bits_per_character


def test_a_long_line_is_read_in_pieces_with_the_state_carried(
    characters: LanguageModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "the apple and pear salad " * 300
    longest = 0
    forward = characters.model.forward

    def watched(tokens: torch.Tensor, hx: object = None) -> object:
        nonlocal longest
        longest = max(longest, len(tokens))
        return forward(tokens, hx)

    monkeypatch.setattr(characters.model, "forward", watched)
    score = characters.score([line])[0]
    assert 0 < longest <= 1024
    monkeypatch.undo()
    expected = log_probability(characters, [*encode(characters, line), characters.tokenizer.eos_id])
    assert score.log_probability == pytest.approx(expected, rel=1e-5)


def test_rank_shares_the_probability_of_the_alternatives(predictor: LanguageModelPredictor) -> None:
    alternatives = ["a pear", "a pair", "the pear"]
    ranked = predictor.rank(alternatives)
    weights = {score.text: math.exp(score.log_probability) for score in predictor.score(alternatives)}
    assert [line.score.text for line in ranked] == sorted(alternatives, key=lambda text: -weights[text])
    for line in ranked:
        assert line.probability == pytest.approx(weights[line.score.text] / sum(weights.values()))
    assert predictor.rank([]) == []


def test_a_rank_survives_probabilities_too_small_for_a_float(characters: LanguageModelPredictor) -> None:
    ranked = characters.rank(["a" * 2000, "e" * 2500])
    assert ranked[0].probability == pytest.approx(1.0)
    assert math.fsum(line.probability or 0.0 for line in ranked) == pytest.approx(1.0)


def test_a_word_model_answers_from_its_vocabulary() -> None:
    words = build("word")
    expected = log_probabilities(words, encode(words, "the apple and"))[-1].exp()
    found = words.next("the apple and", top=10_000)
    assert len(found) == words.tokenizer.vocab_size
    assert math.fsum(entry.probability for entry in found) == pytest.approx(1.0)
    assert found.unseen == 0.0
    best = int(expected.argmax())
    assert found[0] == (words.tokenizer.token_text(best), pytest.approx(expected[best].item(), **CLOSE))
    pear = encode(words, "pear")[0]
    assert dict(found)["pear"] == pytest.approx(expected[pear].item(), **CLOSE)
    assert words.next("the apple and ", top=5) == words.next("the apple and", top=5)
    unknown = expected[words.tokenizer.unk_id].item()
    for asked in (["pear", "zyzzyva"], ["zyzzyva", "pear"]):
        answers = words.next("the apple and", candidates=asked)
        assert answers == [("pear", dict(found)["pear"]), ("zyzzyva", pytest.approx(unknown, **CLOSE))]
        assert answers.unknown == {"zyzzyva"}


def test_unknown_words_are_known_to_be_unknown() -> None:
    """min_count makes a vocabulary that lacks many words, whose mass <unk> then has; nonsense may not win by it."""
    words = build("word")
    with torch.no_grad():
        words.model.output_bias[words.tokenizer.unk_id] += 12.0
    known, nonsense, two = words.score(["the apple and pear salad", "the apple and zyzzyva salad", "zyzzyva zyzzyva"])
    assert (known.unknown, nonsense.unknown, two.unknown) == (0, 1, 2)
    assert nonsense.log_probability > known.log_probability
    assert (known.known_log_probability, known.known_perplexity) == (known.log_probability, known.perplexity)
    tokens = [*encode(words, nonsense.text), words.tokenizer.eos_id]
    rows = log_probabilities(words, tokens[:-1])
    each = [rows[at][token].item() for at, token in enumerate(tokens)]
    parts = [value for value, token in zip(each, tokens, strict=True) if token != words.tokenizer.unk_id]
    assert len(parts) == len(tokens) - 1
    assert nonsense.known_log_probability == pytest.approx(sum(parts), rel=1e-5)
    assert nonsense.known_perplexity == pytest.approx(math.exp(-sum(parts) / len(parts)), rel=1e-5)
    # Ranked after those that the vocabulary holds, without a share.
    ranked = words.rank([two.text, nonsense.text, known.text, "a pair"])
    assert [line.score.unknown for line in ranked] == [0, 0, 1, 2]
    assert [line.probability is None for line in ranked] == [False, False, True, True]
    assert sum(line.probability or 0 for line in ranked) == pytest.approx(1.0)
    # Where all lack as many, they are compared.
    assert all(line.probability for line in words.rank([nonsense.text, "the apple and quux salad"]))
    # `next` and `score` give an unknown word the same.
    longer = words.score(["the apple and zyzzyva"])[0].log_probability
    after = log_probabilities(words, encode(words, "the apple and zyzzyva"))[-1][words.tokenizer.eos_id].item()
    before = log_probabilities(words, encode(words, "the apple and"))
    prefix = sum(before[at][token].item() for at, token in enumerate(encode(words, "the apple and")))
    probability = words.next("the apple and", candidates=["zyzzyva"])[0].probability
    assert math.log(probability) == pytest.approx(longer - after - prefix, rel=1e-4, abs=1e-5)


def spelled_out(predictor: LanguageModelPredictor, text: str, word: str) -> float:
    """P(word and that it ends | text whose last word has ended), by sums over boundary tokens of whole-text passes."""
    tokenizer = predictor.tokenizer
    boundary = [token for token in range(tokenizer.vocab_size) if tokenizer.is_boundary(token)]
    before = encode(predictor, text)
    whole = encode(predictor, f"{text} {word}" if text else word)
    assert whole[: len(before)] == before
    ended = log_probabilities(predictor, whole)[-1][boundary].exp().sum().item()
    probability = math.exp(log_probability(predictor, whole) - log_probability(predictor, before)) * ended
    if text:
        probability /= log_probabilities(predictor, before)[-1][boundary].exp().sum().item()
    return probability


@pytest.mark.parametrize("text", ["the apple and", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_a_words_probability_is_that_of_its_tokens_and_a_boundary(kind: str, text: str) -> None:
    predictor = build(kind)
    candidates = ["pear", "apple", "a"]
    for word, probability in predictor.next(text, candidates=candidates):
        assert probability == pytest.approx(spelled_out(predictor, text, word), **CLOSE)


@pytest.mark.parametrize("kind", ["character", "bpe", "unigram"])
def test_the_words_that_are_found_have_their_probability(kind: str) -> None:
    predictor = build(kind)
    # Random weights would mostly spell symbols and loose bytes.
    strings = map(predictor.tokenizer.token_bytes, range(predictor.tokenizer.vocab_size))
    spelling = [string.isspace() or string.strip().isalpha() for string in strings]
    with torch.no_grad():
        predictor.model.output_bias[~torch.tensor(spelling)] -= 8.0
    found = predictor.next("the apple and", top=8)
    assert len(found) == 8
    assert [entry.probability for entry in found] == sorted((entry.probability for entry in found), reverse=True)
    assert 0.0 <= found.unseen < 1.0
    letters = [entry for entry in found if entry.word.isalnum()]
    assert letters, "the test is about words"
    for word, probability in letters:
        asked = predictor.next("the apple and", candidates=[word])[0].probability
        # What is found adds up all spellings that the search followed; what is asked is the tokenizer's own spelling.
        assert probability >= asked * (1 - 1e-4)
        if kind == "character":
            # A character model has one spelling, but for more than one space before the word.
            spellings = [spelled_out(predictor, "the apple and", " " * more + word) for more in range(8)]
            assert probability <= math.fsum(spellings) * (1 + 1e-4)


def test_tokens_can_be_asked_for_as_they_are(predictor: LanguageModelPredictor) -> None:
    expected = log_probabilities(predictor, encode(predictor, "the app"))[-1].exp()
    found = predictor.next("the app", top=3, unit="token")
    values, tokens = expected.topk(3)
    assert [entry.word for entry in found] == [predictor.tokenizer.token_text(token) for token in tokens.tolist()]
    assert [entry.probability for entry in found] == pytest.approx(values.tolist(), **CLOSE)


def test_next_refuses_what_makes_no_sense(characters: LanguageModelPredictor) -> None:
    with pytest.raises(RecurraError, match="top must be at least 1"):
        characters.next("a", top=0)
    with pytest.raises(RecurraError, match="candidates are words"):
        characters.next("a", candidates=["b"], unit="token")


@pytest.mark.parametrize(
    ("text", "word", "joined"),
    [
        ("the apple and", "pear", "the apple and pear"),
        ("", "pear", "pear"),
        ("done.\n", "pear", "done.\npear"),
        ("사과와", "배", "사과와 배"),
        ("我喜欢", "苹果", "我喜欢苹果"),
        ("りんごと", "梨", "りんごと梨"),
        ("the pear", ",", "the pear,"),
        ("the", " pear ", "the pear"),
        ("सेब और", "नाशपाती", "सेब और नाशपाती"),
    ],
)
def test_words_are_joined_as_their_script_is_written(text: str, word: str, joined: str) -> None:
    assert join_words(text, word) == joined


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [("and", True), ("and,", False), ("", False), ("line\n", False), ("사과", True), ("苹果", False), ("और", True)],
)
def test_where_a_letter_would_continue_the_last_word(text: str, goes_on: bool) -> None:
    assert last_word_can_go_on(text) is goes_on


def test_greedy_writing_is_the_likeliest_token_each_time(predictor: LanguageModelPredictor) -> None:
    """The likeliest after which the bytes can still become UTF-8, as Python's decoder says."""
    prompt = "the apple and"
    tokens = encode(predictor, prompt)
    written: list[int] = []
    decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def can_follow(token: int) -> bool:
        before = decoder.getstate()
        try:
            decoder.decode(predictor.tokenizer.token_bytes(token))
        except UnicodeDecodeError:
            return False
        finally:
            decoder.setstate(before)
        return True

    for _ in range(25):
        row = log_probabilities(predictor, [*tokens, *written])[-1]
        if predictor.tokenizer.unk_id is not None:
            row[predictor.tokenizer.unk_id] = -math.inf
        written.append(next(token for token in row.argsort(descending=True).tolist() if can_follow(token)))
        decoder.decode(predictor.tokenizer.token_bytes(written[-1]))
    whole = predictor.tokenizer.decode([*tokens, *written])
    text = predictor.generate(prompt, length=25, options=SamplingOptions(temperature=0.0))[0]
    assert predictor.tokenizer.decode(tokens) + text == whole


def test_one_step_a_token_and_the_prompt_is_read_once(
    characters: LanguageModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = characters.model.forward

    def watched(tokens: torch.Tensor, hx: object = None) -> object:
        shapes.append(tuple(tokens.shape))
        return forward(tokens, hx)

    monkeypatch.setattr(characters.model, "forward", watched)
    characters.generate("the apple", length=12, n=3)
    assert shapes == [(1 + len("the apple"), 1), *[(1, 3)] * 11]


def test_the_seed_decides_and_sample_i_does_not_depend_on_n(predictor: LanguageModelPredictor) -> None:
    options = SamplingOptions(temperature=0.9, top_k=30, top_p=0.95, min_p=0.001, repetition_penalty=1.1)
    five = predictor.generate("the", length=30, options=options, n=5, seed=7)
    assert predictor.generate("the", length=30, options=options, n=5, seed=7) == five
    assert predictor.generate("the", length=30, options=options, n=2, seed=7) == five[:2]
    assert predictor.generate("the", length=30, options=options, n=5, seed=8) != five
    assert len(set(five)) > 1
    assert "".join(predictor.stream("the", length=30, options=options, seed=7)) == five[0]


def test_streamed_pieces_are_whole_characters(predictor: LanguageModelPredictor) -> None:
    pieces = list(predictor.stream("사과", length=120, seed=3))
    assert len(pieces) > 10
    assert all(pieces)
    for piece in pieces:
        assert piece.encode("utf-8").decode("utf-8") == piece


def test_a_stop_string_ends_the_text_before_it(characters: LanguageModelPredictor) -> None:
    free = characters.generate("the apple", length=80, n=4, seed=1)
    stop = free[0][20:24]
    stopped = characters.generate("the apple", length=80, n=4, seed=1, stop=stop)
    assert stopped == [text.split(stop)[0] for text in free]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_prompt_that_ends_in_a_space_is_not_a_lone_space(kind: str) -> None:
    predictor = build(kind)
    for seed in range(5):
        with_space = predictor.generate("the apple and ", length=10, seed=seed)[0]
        assert not with_space.startswith(" ")
        # The first token carries the space that the prompt already showed: read together they are one spelling.
        tokens = encode(predictor, "the apple and " + with_space)
        assert tokens[: len(encode(predictor, "the apple and"))] == encode(predictor, "the apple and")


@pytest.mark.parametrize(("values", "name"), [({"length": -1}, "length"), ({"n": 0}, "n"), ({"seed": -1}, "seed")])
def test_writing_refuses_what_makes_no_sense(
    characters: LanguageModelPredictor, values: dict[str, int], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least"):
        characters.generate("a", **values)  # type: ignore[arg-type]


def test_nothing_is_written_at_length_zero(characters: LanguageModelPredictor) -> None:
    assert characters.generate("a", length=0, n=2) == ["", ""]


def test_evaluate_reads_files_as_one_stream(predictor: LanguageModelPredictor, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT[:300], encoding="utf-8")
    (tmp_path / "b.txt").write_text("a pear zyzzyva\n", encoding="utf-8")
    result = predictor.evaluate([tmp_path / "a.txt", tmp_path / "b.txt"])
    # The first file ends inside a line, which gets its line end.
    text = TEXT[:300] + "\na pear zyzzyva\n"
    tokens = encode(predictor, text)
    nats = -log_probability(predictor, tokens)
    assert result["tokens"] == len(tokens)
    assert result["characters"] == len(text)
    assert result["loss"] == pytest.approx(nats / len(tokens), rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(nats / len(tokens)), rel=1e-4)
    assert result["bits_per_character"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)
    assert result["unknown_rate"] == tokens.count(-1 if (unk := predictor.tokenizer.unk_id) is None else unk) / len(
        tokens
    )


def test_a_long_text_is_read_in_several_places_and_every_token_counts_once(
    characters: LanguageModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = encode(characters, TEXT)[:1003]
    monkeypatch.setattr(likelihood, "TOKENS_PER_STREAM", 150)
    monkeypatch.setattr(likelihood, "WARM_UP", 20)
    monkeypatch.setattr(likelihood, "_WINDOW_NUMBERS", 6 * characters.tokenizer.vocab_size * 37)
    seen: list[tuple[int, int]] = []
    arguments = (characters.model, np.array(tokens, np.uint16), characters.tokenizer.eos_id)
    got, counted = likelihood.stream_nats(*arguments, lambda *state: seen.append(state))
    shares = [likelihood.stream_nats(*arguments, rank=rank, world_size=4) for rank in range(4)]
    assert counted == sum(tokens for _, tokens in shares) == 1003
    assert sum(nats for nats, _ in shares) == pytest.approx(got, rel=1e-5)
    # Six streams of ceil((1003 - 20) / 6) = 164 tokens; the first has its 20 early ones to itself.
    expected = [log_probability(characters, tokens[:184])]
    for start in range(164, 1003, 164):
        with torch.no_grad():
            part = torch.tensor(tokens[start - 1 : start + 184])
            rows = characters.model(part[:-1].unsqueeze(1)).logits[:, 0].double().log_softmax(-1)
        expected += [rows[place, part[place + 1]].item() for place in range(20, len(part) - 1)]
    assert len(expected) - 1 == 1003 - 184
    assert got == pytest.approx(-math.fsum(expected), rel=1e-5)
    assert seen[-1] == (1003, 1003)


def test_evaluate_names_a_missing_file(characters: LanguageModelPredictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        characters.evaluate([tmp_path / "nowhere.txt"])


@pytest.mark.parametrize(("cell", "sizes"), [("lstm", 24), ("gru", 24), ("lstm_peephole", 16), ("lstm", [32, 16])])
def test_save_and_load_answer_alike(cell: str, sizes: int | list[int], tmp_path: Path) -> None:
    predictor = build("bpe", cell=cell, sizes=sizes)
    predictor.save(tmp_path / "run")
    loaded = recurra.load(tmp_path / "run", device="cpu")
    assert loaded.score(LINES) == predictor.score(LINES)
    assert loaded.next("the apple and") == predictor.next("the apple and")
    assert loaded.generate("the", length=20, n=2) == predictor.generate("the", length=20, n=2)
    assert loaded.directory == tmp_path / "run"


def test_loading_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        recurra.load(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a run directory"):
        recurra.load(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has what is asked for")
def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    build("character").save(tmp_path)
    with pytest.raises(ConfigError, match="no cuda"):
        recurra.load(tmp_path, device="cuda")
    with pytest.raises(ConfigError, match="'gpu' is not a device"):
        recurra.load(tmp_path, device="gpu")


def test_a_default_device_changes_nothing(predictor: LanguageModelPredictor) -> None:
    def answers() -> list[object]:
        return [
            predictor.score(["the apple and pear salad", "", "a pair"]),
            predictor.next("the apple and ", top=3),
            predictor.next("the apple and", candidates=["pear", "pair"]),
            predictor.generate("a pair ", length=12, n=2, seed=3),
            predictor.generate("a pair ", length=12, options=SamplingOptions(temperature=0.0, repetition_penalty=1.5)),
        ]

    expected = answers()
    # On which nothing could be read.
    with torch.device("meta"):
        assert answers() == expected


def test_one_text_is_no_list_of_letters(characters: LanguageModelPredictor) -> None:
    for ask in (characters.score, characters.rank, lambda texts: characters.next("the", candidates=texts)):
        with pytest.raises(TypeError, match="would be taken letter by letter"):
            ask("abc")
        with pytest.raises(TypeError, match="text 1 is of type NoneType"):
            ask(["the", None])


def test_token_by_token_it_tells_what_it_tells_of_a_whole_line(predictor: LanguageModelPredictor) -> None:
    assert isinstance(predictor, NextToken)
    line = "the pear and 사과"
    tokens = [int(token) for token in predictor.tokenizer.encode(line)]
    after, state = predictor.begin(tokens[:2])
    expected = log_probabilities(predictor, tokens)
    torch.testing.assert_close(after, expected[2], rtol=0, atol=1e-5)
    # Two rows, of which the second goes another way and then is no longer looked at.
    other = (tokens[2] + 1) % len(after)
    rows, state = predictor.advance(torch.tensor([tokens[2], other]), select_rows(state, torch.tensor([0, 0])))
    torch.testing.assert_close(rows[0], expected[3], rtol=0, atol=1e-5)
    torch.testing.assert_close(rows[1], log_probabilities(predictor, [*tokens[:2], other])[3], rtol=0, atol=1e-5)
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.exp().sum(-1), torch.ones(2, dtype=torch.float64))


def test_beside_a_recogniser_it_adds_what_it_tells_of_the_line(predictor: LanguageModelPredictor) -> None:
    texts = ["pear", "the", "is"] if predictor.tokenizer.kind == "word" else ["p", "e", "a"]
    tokens = [int(encode(predictor, text)[0]) for text in texts]
    scorer = LanguageModelScorer(predictor, [-1, *tokens], 0.5, end=predictor.tokenizer.eos_id)
    torch.manual_seed(1)
    frames = torch.randn(3, 4).log_softmax(-1)
    options = CTCOptions(beam=100, n_best=100, least_probability=0.0, most_behind=math.inf)
    (found,) = ctc_beam_search([frames], options, [scorer])
    # None, 3 of one label, 9 of two, and 3 x 2 x 2 of three, because equal neighbours need a frame between them.
    assert len(found) == 25
    for each in found:
        line = [*(tokens[label - 1] for label in each.labels), predictor.tokenizer.eos_id]
        expected = ctc_log_likelihood(frames, each.labels) + 0.5 * log_probability(predictor, line)
        assert each.score == pytest.approx(expected, rel=1e-4)
