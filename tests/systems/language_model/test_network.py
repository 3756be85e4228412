"""The language model against plain torch.nn modules and the definitions of its regularisers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recurra.errors import ConfigError
from recurra.systems.language_model.config import ModelConfig
from recurra.systems.language_model.network import LanguageModel, detach_state

V, T, B = 23, 7, 3


def model(**options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(V, ModelConfig(**{"hidden_size": 8} | options)).double()


def tokens(seed: int = 0, steps: int = T) -> Tensor:
    return torch.randint(V, (steps, B), generator=torch.Generator().manual_seed(seed))


def flat(hx: Any) -> list[Tensor]:
    return [hx] if isinstance(hx, Tensor) else [tensor for part in hx for tensor in flat(part)]


@pytest.mark.parametrize("tied", [True, False])
def test_is_embedding_lstm_and_linear(tied: bool) -> None:
    ours = model(tied=tied, embedding_size=None if tied else 5).eval()
    embedding, lstm = nn.Embedding(V, 8 if tied else 5).double(), nn.LSTM(8 if tied else 5, 8, 2).double()
    embedding.load_state_dict(ours.embedding.state_dict())
    lstm.load_state_dict(ours.recurrent.state_dict())
    weight = embedding.weight if ours.output is None else ours.output.weight
    nn.init.normal_(ours.output_bias)
    hidden, hx = lstm(embedding(tokens()))
    logits, state, raw, dropped = ours(tokens())
    torch.testing.assert_close(logits, hidden @ weight.T + ours.output_bias, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flat(state), flat(hx), rtol=1e-12, atol=1e-12)
    assert torch.equal(raw, dropped)
    torch.testing.assert_close(raw, hidden, rtol=1e-12, atol=1e-12)
    assert logits.shape == (T, B, V)


@pytest.mark.parametrize("place", ["input_dropout", "dropout", "output_dropout"])
@pytest.mark.parametrize("locked", [True, False])
def test_dropout_is_locked_or_drawn_anew_each_step(place: str, locked: bool) -> None:
    ours = model(**{place: 0.5}, locked_dropout=locked, num_layers=2, zoneout=0.0).train()
    if place == "output_dropout":
        out = ours(tokens())
        mask = out.dropped / out.raw
    else:
        # Of the same token at each step every mask that is drawn anew shows; states are cut by a network without them.
        recurrent = ours.recurrent
        with torch.no_grad():
            for name, parameter in recurrent.named_parameters():
                parameter.fill_(0.0)
                if "weight_ih" in name:
                    parameter[16:24] = torch.eye(8)
                if "bias_ih" in name:
                    parameter[:8] = 20.0
                    parameter[24:] = 20.0
                    parameter[8:16] = -20.0
            ours.embedding.weight.fill_(0.5)
        out = ours(torch.zeros(T, B, dtype=torch.int64))
        mask = out.raw
    kept = [(each > 1e-3).double() for each in mask]
    same = all(torch.equal(each, kept[0]) for each in kept)
    assert same == locked
    assert 0.2 < torch.stack(kept).mean() < 0.8


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_that_of_the_logits(tied: bool) -> None:
    ours = model(tied=tied, embedding_size=None if tied else 5)
    output = ours(tokens())
    losses = ours(tokens(), None, tokens(1))
    expected = nn.functional.cross_entropy(output.logits.flatten(0, 1), tokens(1).flatten())
    torch.testing.assert_close(losses.nats, expected)
    assert torch.equal(losses.dropped, output.dropped) and torch.equal(losses.raw, output.raw)
    assert all(torch.equal(one, other) for one, other in zip(flat(losses.hx), flat(output.hx), strict=True))
    parameters = list(ours.parameters())
    found, gradients = (torch.autograd.grad(each, parameters) for each in (losses.nats, expected))
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_tying_shares_one_matrix() -> None:
    count = {tied: sum(p.numel() for p in model(tied=tied).parameters()) for tied in (True, False)}
    assert count[False] - count[True] == V * 8
    assert len(model(tied=True).state_dict()) == len(model(tied=False).state_dict()) - 1


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_cho", "lstm_peephole", "rnn_tanh", "janet"])
def test_every_parameter_gets_a_gradient_with_every_regulariser(cell: str) -> None:
    ours = model(
        cell=cell,
        dropout=0.2,
        embedding_dropout=0.1,
        input_dropout=0.1,
        output_dropout=0.2,
        weight_dropout=0.2,
        zoneout=0.1,
        learn_initial_state=True,
        residual="highway",
        tied=False,
    )
    ours(tokens()).logits.logsumexp(-1).sum().backward()
    missing = [name for name, value in ours.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing


@pytest.mark.parametrize("options", [{}, {"cell": "gru_cho"}, {"hidden_size": [6, 9], "tied": True}])
def test_state_carries_on_and_nothing_looks_ahead(options: dict[str, Any]) -> None:
    ours = model(**options).eval()
    whole = ours(tokens())
    first = ours(tokens()[:3])
    second = ours(tokens()[3:], detach_state(first.hx))
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole.logits, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(flat(second.hx), flat(whole.hx), rtol=1e-10, atol=1e-12)
    changed = tokens().clone()
    changed[5:] = (changed[5:] + 1) % V
    torch.testing.assert_close(ours(changed).logits[:5], whole.logits[:5], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(ours(changed).logits[5:], whole.logits[5:])


def test_detached_state_keeps_its_form_and_loses_its_graph() -> None:
    ours = model(hidden_size=[6, 9])
    hx = ours(tokens()).hx
    cut = detach_state(hx)
    assert type(cut) is type(hx) and [tensor.shape for tensor in flat(cut)] == [tensor.shape for tensor in flat(hx)]
    assert not any(tensor.requires_grad for tensor in flat(cut)) and all(tensor.requires_grad for tensor in flat(hx))


def embedded(ours: LanguageModel, source: Tensor) -> Tensor:
    seen: list[Tensor] = []
    with ours.recurrent.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
        ours(source)
    return seen[0]


def test_embedding_dropout_drops_whole_words_wherever_they_stand() -> None:
    ours = model(embedding_dropout=0.4, hidden_size=4)
    source = tokens(steps=400)
    got, full = embedded(ours, source), ours.embedding(source)
    ratio = (got / full)[..., 0]
    assert torch.allclose(got, full * ratio[..., None])
    dropped = 0
    for word in range(V):
        values = ratio[source == word]
        # One draw a word: dropped everywhere, or scaled by 1/(1-p) everywhere.
        assert (values == 0).all() or torch.allclose(values, torch.full_like(values, 1 / 0.6))
        dropped += bool((values == 0).all())
    assert 0 < dropped < V
    assert torch.equal(embedded(ours.eval(), source), full)


def test_output_dropout_is_one_mask_for_all_steps_and_another_for_each_stream() -> None:
    ours = model(output_dropout=0.5, hidden_size=32)
    _, _, raw, dropped = ours(tokens())
    ratio = dropped / raw
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio))
    assert set(ratio.round(decimals=6).unique().tolist()) == {0, 2}
    assert not torch.equal(ratio[0, 0], ratio[0, 1])
    out = ours.eval()(tokens())
    assert torch.equal(out.raw, out.dropped)


@pytest.mark.parametrize("options", [{"hidden_size": 512}, {"hidden_size": 512, "tied": False}])
def test_the_first_loss_is_within_a_nat_of_uniform_prediction(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = LanguageModel(1000, ModelConfig(num_layers=1, **options))
    source = torch.randint(1000, (20, 8))
    loss = nn.functional.cross_entropy(ours(source).logits.flatten(0, 1), source.roll(-1, 0).flatten())
    assert abs(float(loss.detach()) - math.log(1000)) < 1
    assert not ours.output_bias.any()


def test_a_cell_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from recurra.cells import RNN\n\n\nclass Mine(RNN):\n    '''A cell of my own.'''\n\n"
        "    def __init__(self):\n        super().__init__('tanh')\n"
    )
    ours, known = model(cell=f"{file}:Mine").eval(), model(cell="rnn_tanh").eval()
    known.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(tokens()).logits, known(tokens()).logits, rtol=1e-10, atol=1e-12)


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="gru"):
        model(cell="grru")


def test_a_broken_file_of_the_users_own_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def (\n")
    with pytest.raises(ConfigError, match=r"model\.cell: .*mine\.py"):
        model(cell=f"{tmp_path / 'mine.py'}:Mine")


def test_what_the_layers_refuse_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="model: "):
        model(residual="residual", hidden_size=[6, 9])
