"""`recurra inspect gradients` on untrained cells and on a tiny run of each system: numbers, sentences, picture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import recurra
from recurra.analysis.flow import gradient_flow
from recurra.analysis.layer_steps import steps_of
from recurra.analysis.untrained import noise, untrained_layer
from recurra.cli.main import app
from recurra.training.training_run import train

from ..systems.classification import labelled
from ..systems.tagging import tagged
from ..systems.translation import translations

OWN_CELL = '''
from recurra import Cell, State
from recurra.cells.algebra import tanh

class Slow(Cell):
    """Units that move a little."""

    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=0.9 * state.h + 0.1 * tanh(gate.n))
'''


def asked(*words: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["inspect", "gradients", *[str(word) for word in words]])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def layers_of(*words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(asked(*words, "--json")[0])["layers"]
    return found


def size_of(picture: Path) -> tuple[int, int]:
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny runs, the recurrent layers of all but the translation's decoder bidirectional."""
    folder = tmp_path_factory.mktemp("runs")
    train(labelled.config(labelled.write_texts(folder, 60), training={"max_epochs": 1}), folder / "classification")
    sentences = tagged.write_conllu(folder, 30)
    train(tagged.config(sentences, training={"max_epochs": 1}), folder / "tagging")
    pairs = translations.write_pairs(folder, 30)
    for decoder in ("luong", "bahdanau", "conditional"):
        model = {"decoder": decoder, "cell": "gru"}
        config = translations.config(pairs, model=model, training={"max_epochs": 1})
        train(config, folder / decoder)
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def test_untrained_cells_stand_beside_one_another_below_and_above_one(tmp_path: Path) -> None:
    picture = tmp_path / "flow.png"
    out, err = asked("--units", 16, "--lags", 60, "--scale", "0.8,2", "--picture", picture)
    assert err == ""
    heads = [line for line in out.splitlines() if line and not line.startswith(" ") and line.endswith("orthogonal")]
    assert heads == [
        f"{cell}, spectral radius {scale}, orthogonal" for scale in ("0.8", "2") for cell in ("rnn_tanh", "lstm", "gru")
    ]
    said = out.partition(heads[1])[0]
    assert re.search(r"  The gradient \|dL/dh\| falls by a factor of 10 every \d", said)
    assert "grows by a factor of 10" in out.partition(heads[3])[2].partition(heads[4])[0]
    width, height = size_of(picture)
    assert 800 < width < 2000 and 600 < height < 2000


def test_the_numbers_are_those_of_python() -> None:
    (found,) = layers_of("--cells", "lstm", "--scale", "0.9", "--units", 8, "--lags", 30, "--seed", 5, "--clip-norm", 1)
    layer = untrained_layer("lstm", 8, scale=0.9, seed=5)
    flow = gradient_flow(steps_of(layer, noise(30, 4, seed=6)), seed=5)
    for state in ("h", "c"):
        wanted = flow.log_norms[state].mean(1) / np.log(10)
        np.testing.assert_allclose(found["gradients"][state]["log10_mean"], wanted, atol=1e-5)
    assert found["memory"]["h"]["looked_at"] == 30
    assert [each["name"] for each in found["spectrum"]] == ["i", "f", "g", "o"]
    assert found["spectrum"][0]["radius"] == pytest.approx(0.9)
    assert len(found["clipping"]["log10_contributions"]) == 30
    assert len(found["lyapunov"]) == 1


def test_float32_is_said_to_hold_nothing_where_it_does_not() -> None:
    (found,) = layers_of("--cells", "rnn_tanh", "--scale", "0.3", "--units", 4, "--lags", 300, "--exponents", 0)
    lag = found["float32_zero_from_lag"]
    means = found["gradients"]["h"]["log10_mean"]
    assert means[lag] < -150 * np.log10(2) <= means[lag - 1]
    assert f"{lag} steps back float32 holds nothing of it" in found["sentences"][0]
    assert found["lyapunov"] is None


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "inspecting-gradients.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for each in value.values() for key in keys(each)}
        return {key for each in value for key in keys(each)} if isinstance(value, list) else set()

    states = {"h", "c"}
    for key in keys(json.loads(asked("--cells", "lstm", "--lags", 25, "--clip-norm", 1, "--json")[0])) - states:
        assert f"`{key}`" in text, key


def test_a_forget_bias_carries_the_gradient_of_an_lstm_and_is_left_out_for_others() -> None:
    found = layers_of("--cells", "gru,lstm", "--scale", "0.8", "--forget-bias", "0,5", "--units", 8, "--lags", 50)
    assert [each["name"] for each in found] == ["gru", "lstm, forget bias 0", "lstm, forget bias 5"]
    closed, opened = (each["gradients"]["c"]["log10_mean"][-1] for each in found[1:])
    assert closed < -5 < -2 < opened


def test_a_cell_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text(OWN_CELL, encoding="utf-8")
    (found,) = layers_of("--cells", f"{path}:Slow", "--scale", "0.8", "--weights", "gaussian", "--lags", 60)
    # h_t = 0.9 h + 0.1 tanh(...): the gradient falls by at most 0.9 + 0.08 a step, and by about 0.9.
    assert 0.85 < 10 ** (-1 / found["memory"]["h"]["steps_per_factor_10"]) < 0.98


def test_a_language_model_is_read_to_the_last_token(character_run: Path, tmp_path: Path) -> None:
    text = "the pear and plum salad is ready"
    picture = tmp_path / "run.png"
    out, _ = asked(character_run, "--data", text, "--picture", picture)
    assert "layer 1, recurrent" in out
    assert size_of(picture)[0] > 400
    (found,) = layers_of(character_run, "--data", text)
    # A character a step, and the last one is only predicted.
    assert len(found["gradients"]["h"]["log10_mean"]) == len(text)
    model = recurra.load(character_run)
    network = model.frozen_copy(torch.float64)
    row = torch.tensor([model.tokenizer.eos_id, *model.tokenizer.encode(text).tolist()]).unsqueeze(1)
    embedded = network.embedding(row[:-1])
    *_, states = network.recurrent(embedded, return_all_states=True)
    last = states[0].h[-1].detach().requires_grad_()
    logits = torch.nn.functional.linear(last, network.embedding.weight, network.output_bias)
    if network.output is not None:
        logits = network.output(last) + network.output_bias
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, row[-1]), last)
    assert found["gradients"]["h"]["log10_mean"][0] == pytest.approx(float(gradient.norm().log10()), abs=1e-5)
    assert len(layers_of(character_run, "--data", text, "--lags", 10)[0]["gradients"]["h"]["log10_mean"]) == 10


def test_the_lines_of_a_file_are_texts_or_one_text(character_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    text = "wash the fig\n\nuse a pair of tongs\nand more\n"
    file.write_text(text, encoding="utf-8")
    (found,) = layers_of(character_run, "--data", file, "--sequences", 2)
    assert (found["sequences"], found["memory"]["h"]["looked_at"]) == (2, 19)
    assert found["gradients"]["h"]["log10_spread"][15] == 0
    assert layers_of(character_run, "--data", file, "--join")[0]["memory"]["h"]["looked_at"] == len(text)


def test_a_classifier_is_looked_at_in_both_directions(runs: dict[str, Path]) -> None:
    found = layers_of(runs["classification"], "--data", "the song is so very sweet")
    assert [(each["name"], each["group"]) for each in found] == [
        ("layer 1, forward", "recurrent"),
        ("layer 1, backward", "recurrent"),
    ]
    for each in found:
        assert np.isfinite(each["gradients"]["c"]["log10_mean"]).all()


def test_a_tagger_is_looked_at_in_words_and_in_their_characters(runs: dict[str, Path]) -> None:
    found = layers_of(runs["tagging"], "--data", "the dog eats apple salad .")
    assert [(each["name"], each["group"]) for each in found] == [
        ("layer 1, forward", "spelling"), ("layer 1, backward", "spelling"),
        ("layer 1, forward", "recurrent"), ("layer 1, backward", "recurrent"),
    ]  # fmt: skip
    # Six words are six sequences of characters, and one sequence of words.
    assert [each["sequences"] for each in found] == [6, 6, 1, 1]
    assert found[0]["memory"]["h"]["looked_at"] == len("salad")


@pytest.mark.parametrize("decoder", ["luong", "bahdanau", "conditional"])
def test_a_translation_reaches_back_through_decoder_and_encoder(runs: dict[str, Path], decoder: str) -> None:
    source, target = "the red apple sees a bird", "der rote Apfel sieht ein Vogel"
    found = layers_of(runs[decoder], "--data", f"{source}\t{target}")
    groups = {each["group"] for each in found}
    assert "encoder.recurrent" in groups
    assert groups & {"decoder.recurrent", "decoder.first"} or decoder == "conditional"
    for each in found:
        assert each["memory"]["h"]["looked_at"] >= 2
        assert np.isfinite(each["gradients"]["h"]["log10_mean"]).all()
    own = layers_of(runs[decoder], "--data", source)
    assert own[0]["memory"]["h"]["looked_at"] == found[0]["memory"]["h"]["looked_at"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cells", "lsm"], "--cells: there is no cell lsm; did you mean lstm?"),
        (["--cells", ","], "--cells: name at least one"),
        (["--cells", "nowhere.py:Cell"], "--cells: nowhere.py: there is no such file"),
        (["--scale", "much"], "--scale: much is no number"),
        (["--scale", "0"], "--scale: must be from 1e-06 to 100, not 0."),
        (["--scale", "nan"], "--scale: must be from 1e-06 to 100, not nan."),
        (["--weights", "orthogona"], "--weights: there is no kind orthogona; did you mean orthogonal?"),
        (["--cells", "gru", "--forget-bias", "1"], "--forget-bias: none of the cells has a forget gate"),
        (["--scale", ",".join(map(str, range(1, 10)))], "these are 27 settings together, and at most 24"),
        (["--data", "x"], "--data: this is for a run"),
        (["--join"], "--join: this is for a run"),
        (["RUN", "--cells", "gru", "--data", "x"], "--cells: this is for untrained cells"),
        (["RUN"], "--data: say which texts the run is to read"),
        (["--picture", "x.jpg"], "--picture x.jpg: must end in .png."),
        (["--picture", "nowhere/x.png"], "--picture nowhere/x.png: there is no such folder"),
        (["--lags", "1"], "--lags"),
        (["--unts", "1"], "there is no option --unts; did you mean --units?"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence(words: list[str], said: str) -> None:
    out, err = asked(*words, code=2)
    assert out == ""
    first, advice = err.splitlines()
    assert said in first
    assert advice.endswith("inspect gradients --help`.")


def test_data_that_cannot_be_read_are_refused(character_run: Path, tmp_path: Path) -> None:
    bad, empty = tmp_path / "bad.txt", tmp_path / "empty.txt"
    bad.write_bytes(b"a\xff")
    empty.write_bytes(b"\n \n")
    for data, said in {
        "nowhere.txt": "nowhere.txt: there is no such file",
        str(bad): "byte 0xff at 1 is not UTF-8",
        str(empty): "has no text",
    }.items():
        out, err = asked(character_run, "--data", data, code=1)
        assert said in err and len(err.splitlines()) == 1 and out == ""
    picture = tmp_path / "text.png"
    picture.write_text("a text", encoding="utf-8")
    assert "would destroy that" in asked(character_run, "--data", picture, "--picture", picture, code=2)[1]
    assert picture.read_text(encoding="utf-8") == "a text"
    assert "there is no" in asked(tmp_path / "no-run", "--data", "a text", code=1)[1]
    assert "no layer takes two steps here" in asked(character_run, "--data", "a", code=2)[1]


def test_states_that_overflow_are_told_with_their_setting() -> None:
    _, err = asked("--cells", "rnn_relu", "--scale", "9", "--lags", 900, "--units", 4, code=2)
    assert "rnn_relu, spectral radius 9, orthogonal: " in err and "overflow within 900 steps" in err


def test_a_run_of_a_system_without_such_a_loss_is_refused() -> None:
    from recurra.errors import ConfigError
    from recurra.systems.predictor import Predictor

    with pytest.raises(ConfigError, match="tells no loss of an answer"):
        Predictor.answer_loss(object(), torch.nn.Identity(), "text", 3)  # type: ignore[arg-type]


def test_help_does_not_import_torch_and_every_option_has_its_default() -> None:
    for words in (["inspect", "--help"], ["inspect", "gradients", "--help"], ["inspect"]):
        code = (
            "import sys, recurra.cli.main as m\n"
            f"try:\n    m.app({words!r})\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
            "slow = {'torch', 'numpy', 'tokenizers', 'matplotlib'} & set(sys.modules)\n"
            "assert not slow, slow"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert "gradients" in result.stdout
    group = typer.main.get_command(app)
    command = group.get_command(None, "inspect").get_command(None, "gradients")  # type: ignore[attr-defined]
    for parameter in command.params:
        shown = bool(parameter.show_default) and parameter.default is not None
        assert "(default: " in (parameter.help or "") or shown or parameter.name == "help", parameter.name
