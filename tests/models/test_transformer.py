"""The transformer that stands in for recurrent layers: pieces, padding, direction, and attention written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import recurra
from recurra import registry
from recurra.comparison.study_training import outcomes_on
from recurra.config.load import load_config
from recurra.errors import ConfigError
from recurra.models import transformer
from recurra.models.transformer import TransformerLayers, layers_of
from recurra.training.training_run import train

from ..comparison.tiny_study import configuration
from ..systems.classification import labelled
from ..systems.tagging import tagged


@pytest.fixture(autouse=True)
def short_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "CONTEXT", 3)


def made(bidirectional: bool = False, layers: int = 2, hidden: int = 8) -> TransformerLayers:
    torch.manual_seed(1)
    return TransformerLayers(5, hidden, layers, bidirectional=bidirectional).double().eval()


def inputs(steps: int, rows: int = 3) -> torch.Tensor:
    return torch.randn(steps, rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("cuts", [[1] * 12, [5, 7], [2, 9, 1]])
def test_a_text_in_pieces_gives_what_it_gives_whole(cuts: list[int]) -> None:
    layers, given = made(), inputs(12)
    whole, last = layers(given)
    parts, state = [], None
    for piece in given.split(cuts):
        outputs, state = layers(piece, state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts), whole)
    assert state is not None and state.shape == last.shape == (6, 3, 6)
    torch.testing.assert_close(state, last)


def test_a_token_sees_what_stands_before_it_and_no_farther_than_the_context() -> None:
    layers, given = made(layers=2), inputs(12, 1)
    base = layers(given)[0]
    for place in range(12):
        changed = given.clone()
        changed[place] += 1.0
        moved = ((layers(changed)[0] - base).abs().amax(dim=(1, 2)) > 1e-12).nonzero().flatten().tolist()
        # Three tokens a layer.
        assert moved == list(range(place, min(12, place + 2 * 3 + 1)))


def test_padding_and_other_rows_change_nothing() -> None:
    layers, given = made(bidirectional=True), inputs(7)
    lengths = torch.tensor([7, 4, 1])
    found, state = layers(given, lengths=lengths)
    assert found.shape == (7, 3, 16) and state is None
    for row, length in enumerate(lengths.tolist()):
        alone, _ = layers(given[:length, row : row + 1])
        torch.testing.assert_close(found[:length, row : row + 1], alone)
        assert not found[length:, row].any()


def test_attention_is_that_of_the_paper() -> None:
    layers, given = made(bidirectional=True, layers=1, hidden=4), inputs(6, 1)
    found = layers(given)[0][:, 0]
    # One block written out: normalise, attend, add; normalise, two layers, add; normalise.
    block, norm = layers.stack.layers[0], layers.stack.norm
    x = given[:, 0] @ layers.enter.weight.T + layers.enter.bias
    attention = block.self_attn
    q, k, v = (block.norm1(x) @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    heads = []
    for head in range(4):
        part = slice(2 * head, 2 * head + 2)
        scores = q[:, part] @ k[:, part].T / math.sqrt(2)
        for i in range(6):
            for j in range(6):
                scores[i, j] -= 2.0 ** (-2 * (head + 1)) * abs(i - j)
        heads.append(scores.softmax(-1) @ v[:, part])
    x = x + torch.cat(heads, dim=-1) @ attention.out_proj.weight.T + attention.out_proj.bias
    x = x + block.linear2(torch.relu(block.linear1(block.norm2(x))))
    torch.testing.assert_close(found, norm(x))


def test_layers_start_apart_and_all_learn() -> None:
    layers = made(hidden=6).train()
    assert layers.heads == 2
    first, second = (layer.linear1.weight for layer in layers.stack.layers)
    assert not torch.equal(first, second)
    layers(inputs(5))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in layers.parameters())


def test_what_a_transformer_has_not_is_refused() -> None:
    config = load_config(overrides=[{"model": {"cell": "transformer"}}]).model
    assert isinstance(layers_of(config, 4, 8, num_layers=2, zoneout=0.0, residual="none"), TransformerLayers)
    with pytest.raises(ConfigError, match=r"model\.zoneout: a transformer has none"):
        layers_of(config, 4, 8, zoneout=0.1)
    with pytest.raises(ConfigError, match=r"model\.hidden_size: all layers"):
        layers_of(config, 4, [8, 9])


@pytest.mark.parametrize("name", ["classification", "tagging"])
def test_readers_of_both_directions_learn_with_it(name: str, tmp_path: Path) -> None:
    training = {"max_epochs": 10, "learning_rate": 0.005}
    if name == "classification":
        texts = labelled.write_texts(tmp_path, 120)
        config = labelled.config(texts, model={"cell": "transformer"}, training=training)
    else:
        texts = tagged.write_columns(tmp_path, 80)
        model = {"cell": "transformer", "characters": "convolution"}
        config = tagged.config(texts, data={"words": "1", "tags": ["2"]}, model=model, training=training)
    train(config, tmp_path / "run")
    predictor = recurra.load(tmp_path / "run", device="cpu")
    rows = outcomes_on(registry.find(name), predictor, [texts])["accuracy"]
    right = rows.mean() if rows.ndim == 1 else rows[:, 0].sum() / rows[:, 1].sum()
    assert right > 0.9


def test_words_cannot_be_spelt_by_it(tmp_path: Path) -> None:
    config = tagged.config(tagged.write_conllu(tmp_path, 5), model={"cell": "transformer"})
    with pytest.raises(ConfigError, match=r"model\.characters: a transformer has no last state"):
        train(config, tmp_path / "run")


def test_a_training_that_was_cut_off_goes_on_with_its_context(tmp_path: Path) -> None:
    weights = []
    for stops in ([6], [3, 6]):
        run = tmp_path / f"run-{len(stops)}"
        for stop in stops:
            tree = configuration(tmp_path, max_steps=stop, schedule="constant", num_threads=1)
            config = load_config(
                overrides=[tree, {"model": {"cell": "transformer", "hidden_size": 8, "num_layers": 2}}]
            )
            train(config, run, resume=run.exists())
        weights.append(recurra.load(run, device="cpu").model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
