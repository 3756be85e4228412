"""Encoder-decoders against the papers' equations in NumPy, and the promises that all of them keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.errors import ConfigError
from recurra.models.loss import smoothed_cross_entropy
from recurra.systems.translation.config import TranslationModelConfig
from recurra.systems.translation.network import EncoderDecoder, EncoderDecoderOutput, reverse

V, E, H = 9, 5, 6
SOURCE = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [3, 0, 0, 0, 0]]).t().contiguous()
LENGTHS = torch.tensor([5, 3, 1])
TARGET = torch.tensor([[0, 4, 1, 8], [0, 2, 2, 5], [0, 7, 6, 3]]).t().contiguous()
Weights = dict[str, np.ndarray]


def model(**options: Any) -> EncoderDecoder:
    torch.manual_seed(11)
    settings = {"embedding_size": E, "hidden_size": H, "decoder_layers": 1, "decoder": "bahdanau"} | options
    network = EncoderDecoder(V, V, TranslationModelConfig(**settings)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    return network


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def gru(p: Weights, name: str, x: np.ndarray, h: np.ndarray, suffix: str = "_l0") -> np.ndarray:
    """One step of the GRU as torch.nn documents it."""
    a = p[f"{name}.weight_ih{suffix}"] @ x + p[f"{name}.bias_ih{suffix}"]
    b = p[f"{name}.weight_hh{suffix}"] @ h + p[f"{name}.bias_hh{suffix}"]
    r, z = sigmoid(a[:H] + b[:H]), sigmoid(a[H : 2 * H] + b[H : 2 * H])
    n = np.tanh(a[2 * H :] + r * b[2 * H :])
    return (1 - z) * n + z * h


def norm(p: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """Ba, Kiros & Hinton (2016), equation 4, where the model has such a norm."""
    if name + ".weight" not in p:
        return x
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p[name + ".weight"] + p[name + ".bias"]


def attend(p: Weights, s: np.ndarray, annotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bahdanau, Cho & Bengio (2015), appendix A.1.2."""
    name = "decoder.attention."
    s = norm(p, "decoder.query_norm", s)
    asked = p[name + "query.weight"] @ s + p[name + "query.bias"]
    energies = np.tanh(asked + annotations @ p[name + "key.weight"].T) @ p[name + "energy"]
    weights = np.exp(energies - energies.max())
    weights /= weights.sum()
    return weights @ annotations, weights


def by_hand(network: EncoderDecoder, kind: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (T, V) and weights (T, S) of one pair, one step after another."""
    p = {name: value.detach().numpy() for name, value in network.named_parameters()}
    table = p["target_embedding.weight"] * np.sqrt(E)
    words = [table[token] for token in SOURCE[: LENGTHS[row], row]]
    forward, backward = [np.zeros(H)], [np.zeros(H)]
    for word in words:
        forward.append(gru(p, "encoder.recurrent", word, forward[-1]))
    for word in words[::-1]:
        backward.append(gru(p, "encoder.recurrent", word, backward[-1], "_l0_reverse"))
    annotations = np.array([np.concatenate(pair) for pair in zip(forward[1:], backward[:0:-1], strict=True)])
    annotations = norm(p, "encoder.norm", annotations)
    last = np.concatenate([forward[-1], backward[-1]])
    states = [
        np.tanh(p[f"decoder.bridge.maps.{layer}.weight"] @ last + p[f"decoder.bridge.maps.{layer}.bias"])
        for layer in range(2 if kind == "stacked" else 1)
    ]
    feed = np.zeros(E)
    logits, weights = [], []
    for token in TARGET[:, row]:
        y = table[token]
        deep = [y]
        if kind == "bahdanau":
            context, w = attend(p, states[0], annotations)
            states[0] = gru(p, "decoder.recurrent", np.concatenate([y, context]), states[0])
        elif kind == "conditional":
            middle = gru(p, "decoder.first", y, states[0])
            context, w = attend(p, middle, annotations)
            states[0] = gru(p, "decoder.second", context, middle)
        elif kind == "stacked":
            states[0] = gru(p, "decoder.recurrent", y, states[0])
            context, w = attend(p, states[0], annotations)
            states[1] = gru(p, "decoder.upper", np.concatenate([states[0], context]), states[1])
        elif kind == "none":
            context, w = norm(p, "encoder.norm", last), np.zeros(0)
            states[0] = gru(p, "decoder.recurrent", np.concatenate([y, context]), states[0])
        else:
            deep = []
            name = "decoder.layers.0" if kind == "input feeding" else "decoder.recurrent"
            states[0] = gru(p, name, np.concatenate([y, feed]) if kind == "input feeding" else y, states[0])
            context, w = attend(p, states[0], annotations)
        entering = np.concatenate([norm(p, "decoder.state_norm", states[-1]), context, *deep])
        read = p["decoder.readout.weight"] @ entering + p["decoder.readout.bias"]
        feed = np.tanh(norm(p, "decoder.readout_norm", read))
        logits.append(p["target_embedding.weight"] @ feed + p["output_bias"])
        weights.append(w)
    return np.array(logits), np.array(weights)


FORMS: dict[str, dict[str, Any]] = {
    "bahdanau": {"decoder": "bahdanau"},
    "conditional": {"decoder": "conditional"},
    "luong": {"decoder": "luong"},
    "input feeding": {"decoder": "luong", "input_feeding": True},
    "stacked": {"decoder": "stacked", "decoder_layers": 2},
    "none": {"attention": "none"},
}


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", FORMS)
def test_logits_and_weights_are_those_of_the_equations(kind: str, layer_norm: bool) -> None:
    network = model(**FORMS[kind], layer_norm=layer_norm)
    with torch.no_grad():
        found = network(SOURCE, LENGTHS, TARGET)
    for row, length in enumerate(LENGTHS.tolist()):
        logits, weights = by_hand(network, kind, row)
        np.testing.assert_allclose(found.logits[:, row].numpy(), logits, rtol=1e-10, atol=1e-12)
        if kind != "none":
            assert found.weights is not None
            np.testing.assert_allclose(found.weights[:, row, :length].numpy(), weights, rtol=1e-10)


MANY: list[dict[str, Any]] = [
    *({**form, "decoder_layers": 2, "cell": cell} for form in FORMS.values() for cell in ("gru", "lstm")),
    {"coverage": True},
    {"copy_source": True, "reverse_source": True},
    {"decoder": "stacked", "decoder_layers": 3, "coverage": True},
    {"attention": "multi-head", "attention_heads": 2, "layer_norm": True},
    {"attention": "local", "attention_window": 2, "decoder": "luong"},
    {"attention": "local-monotonic", "attention_window": 1, "decoder": "conditional", "decoder_layers": 2},
    {"attention": "dot", "bidirectional": False, "decoder": "luong", "tied": "none"},
    {"attention": "general", "reverse_source": True, "bridge": "mean", "tied": "decoder"},
    {"bridge": "copy", "encoder_layers": 2, "decoder_layers": 2, "cell": "lstm"},
    {"bridge": "none", "encoder_layers": 2, "cell": "gru_cho"},
    {"attention": "none", "fixed_context": "initial", "reverse_source": True, "bidirectional": False},
    {"layer_norm": True, "bridge": "mean"},
    {"attention": "none", "layer_norm": True, "decoder_layers": 2},
    {"attention": "none", "layer_norm": True, "fixed_context": "initial"},
    {"attention": "none", "layer_norm": True, "fixed_context": "initial", "bridge": "mean"},
    {"attention": "none", "fixed_context": "initial", "encoder_layers": 2, "decoder_layers": 1},
]


@pytest.mark.parametrize("options", MANY, ids=lambda options: "-".join(map(str, options.values())))
def test_promises_of_every_form(options: dict[str, Any]) -> None:
    network = model(**options)
    with torch.no_grad():
        whole = network(SOURCE, LENGTHS, TARGET)
        state = network.encode(SOURCE, LENGTHS)
        logits, weights = [], []
        for tokens in TARGET.split(1):
            step = network.step(tokens, state)
            state = step.state
            logits.append(step.logits)
            weights.append(step.weights)
        # Step by step is teacher forcing.
        torch.testing.assert_close(torch.cat(logits), whole.logits, rtol=1e-11, atol=1e-12)
        if whole.weights is not None:
            torch.testing.assert_close(torch.cat(weights), whole.weights, rtol=1e-11, atol=1e-12)
        # A pair alone, without padding, is the pair in a batch.
        for row, length in enumerate(LENGTHS.tolist()):
            rows = slice(row, row + 1)
            alone = network(SOURCE[:length, rows], LENGTHS[rows], TARGET[:, rows])
            torch.testing.assert_close(alone.logits[:, 0], whole.logits[:, row], rtol=1e-11, atol=1e-12)
        # What lies beyond a length is not looked at.
        other = SOURCE.clone()
        other[3:, 1] = 5
        torch.testing.assert_close(network(other, LENGTHS, TARGET).logits, whole.logits, rtol=0, atol=0)
        # The future is not looked at.
        changed = TARGET.clone()
        changed[2:] = 1
        torch.testing.assert_close(network(SOURCE, LENGTHS, changed).logits[:2], whole.logits[:2], rtol=1e-12, atol=0)
    network.train()
    loss = network(SOURCE, LENGTHS, TARGET).logits.square().sum()
    loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", FORMS)
def test_dropout_is_for_training_alone_and_locked(kind: str) -> None:
    names = ("embedding_dropout", "input_dropout", "dropout", "annotation_dropout", "output_dropout")
    options = FORMS[kind] | dict.fromkeys(names, 0.4) | {"weight_dropout": 0.3, "decoder_layers": 2}
    network, plain = model(**options), model(**FORMS[kind] | {"decoder_layers": 2})
    plain.load_state_dict(network.state_dict())
    arguments = (SOURCE, LENGTHS, TARGET)
    torch.testing.assert_close(network(*arguments).logits, plain(*arguments).logits, rtol=0, atol=0)
    network.train()
    one, other = network(*arguments).logits, network(*arguments).logits
    assert not torch.equal(one, other)
    network.zero_grad()
    one.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_output_dropout_has_one_mask_for_all_steps() -> None:
    network = model(decoder="luong", output_dropout=0.5, tied="none")
    assert network.output is not None
    torch.manual_seed(0)
    network.train()
    seen: list[Tensor] = []
    network.decoder.register_forward_hook(lambda module, inputs, output: seen.append(output.features))
    logits = network(SOURCE, LENGTHS, TARGET).logits - network.output_bias
    # With more tokens than units the features can be read back from the logits.
    features = (
        torch.linalg.lstsq(network.output.weight, logits.flatten(0, 1).t()).solution.t().view(*logits.shape[:2], E)
    )
    kept = (features / seen[0]).round(decimals=6)
    assert set(kept.unique().abs().tolist()) == {0.0, 2.0}
    assert (kept == kept[:1]).all()


def with_and_without_copies(
    network: EncoderDecoder, plain: EncoderDecoder
) -> tuple[EncoderDecoderOutput, EncoderDecoderOutput, Tensor]:
    """What a copying model gives, what one of the same weights gives without copying, and the gates (T, B)."""
    plain.load_state_dict(network.state_dict(), strict=False)
    assert network.copy_gate is not None
    features: list[Tensor] = []
    network.decoder.register_forward_hook(lambda module, inputs, output: features.append(output.features))
    with torch.no_grad():
        found, without = network(SOURCE, LENGTHS, TARGET), plain(SOURCE, LENGTHS, TARGET)
        return found, without, torch.sigmoid(network.copy_gate(features[0]))[..., 0]


def test_copies_are_mixed_in_as_the_equation_says() -> None:
    network, plain = model(copy_source=True), model()
    found, without, gates = with_and_without_copies(network, plain)
    assert found.weights is not None
    for row, length in enumerate(LENGTHS.tolist()):
        for step in range(len(TARGET)):
            gate = float(gates[step, row])
            expected = gate * without.logits[step, row].softmax(-1).numpy()
            for place in range(length):
                expected[SOURCE[place, row]] += (1 - gate) * float(found.weights[step, row, place])
            np.testing.assert_allclose(found.logits[step, row].exp().numpy(), expected, rtol=1e-10)
            assert expected.sum() == pytest.approx(1.0)


def test_copies_into_another_vocabulary() -> None:
    torch.manual_seed(11)
    # Source tokens 1, 4 and 7 cannot be copied; 2 and 3 are the same target token.
    copied_as = torch.tensor([0, -1, 10, 10, -1, 3, 4, -1, 6])
    settings = {"embedding_size": E, "hidden_size": H, "decoder_layers": 1, "decoder": "luong", "tied": "decoder"}
    network = EncoderDecoder(V, 11, TranslationModelConfig(**settings, copy_source=True), copied_as).double().eval()
    plain = EncoderDecoder(V, 11, TranslationModelConfig(**settings)).double().eval()
    found, without, gates = with_and_without_copies(network, plain)
    assert found.weights is not None
    for row, length in enumerate(LENGTHS.tolist()):
        for step in range(len(TARGET)):
            copied, gate = np.zeros(11), float(gates[step, row])
            for place in range(length):
                token = int(copied_as[SOURCE[place, row]])
                if token >= 0:
                    copied[token] += (1 - gate) * float(found.weights[step, row, place])
            # What cannot be copied is left to be written.
            expected = copied + (1 - copied.sum()) * without.logits[step, row].softmax(-1).numpy()
            np.testing.assert_allclose(found.logits[step, row].exp().numpy(), expected, rtol=1e-10)
    assert "copied_as" not in " ".join(network.state_dict()) and set(network.state_dict()) - set(
        plain.state_dict()
    ) == {
        "copy_gate.weight",
        "copy_gate.bias",
    }


def test_probabilities_are_mixed_in_single_precision_under_autocast() -> None:
    network = model(copy_source=True).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network(SOURCE, LENGTHS, TARGET).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(logits.shape[:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bias", [-8.0, -16.0, 8.0, 16.0])
def test_a_gate_that_is_nearly_shut_leaves_words_their_probability_under_autocast(bias: float) -> None:
    network = model(copy_source=True).float()
    assert network.copy_gate is not None
    with torch.no_grad():
        network.copy_gate.weight.zero_()
        network.copy_gate.bias.fill_(bias)
        exact = network(SOURCE, LENGTHS, TARGET).logits
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(SOURCE, LENGTHS, TARGET).logits
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.1)
    assert exact.min() > -40


def test_embeddings_are_tied_as_asked() -> None:
    sizes = {tied: sum(p.numel() for p in model(tied=tied).parameters()) for tied in ("none", "decoder", "all")}
    assert sizes["none"] - sizes["decoder"] == V * E == sizes["decoder"] - sizes["all"]
    with pytest.raises(ValueError, match="cannot share"):
        EncoderDecoder(3, 4, TranslationModelConfig())


def test_teacher_forcing_takes_one_call_where_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from recurra.layers import Recurrent

    calls: list[int] = []
    forward = Recurrent.forward

    def counting(self: Recurrent, input: Tensor, *args: Any, **options: Any) -> Any:
        calls.append(len(input))
        return forward(self, input, *args, **options)

    monkeypatch.setattr(Recurrent, "forward", counting)
    source, target = len(SOURCE), len(TARGET)
    expected = {
        "luong": [source, target],
        "none": [source, target],
        "stacked": [source, target, target],
        "bahdanau": [source, *[1] * target],
        "conditional": [source, *[1] * (2 * target)],
        "input feeding": [source, *[1] * target],
    }
    for kind, wanted in expected.items():
        calls.clear()
        model(**FORMS[kind])(SOURCE, LENGTHS, TARGET)
        assert calls == wanted, kind


def test_reversing_keeps_padding_in_its_place() -> None:
    assert reverse(SOURCE, LENGTHS).t().tolist() == [[5, 4, 3, 2, 1], [8, 7, 6, 0, 0], [3, 0, 0, 0, 0]]
    wide = SOURCE.unsqueeze(-1).expand(-1, -1, 2)
    assert reverse(wide, LENGTHS)[:, 1, 1].tolist() == [8, 7, 6, 0, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_cross_entropy_is_torchs(smoothing: float) -> None:
    torch.manual_seed(1)
    logits = (3 * torch.randn(7, V, dtype=torch.float64)).requires_grad_()
    target = torch.tensor([0, 8, -100, 3, 3, -100, 1])
    objective, nats = smoothed_cross_entropy(logits, target, smoothing, -100)
    expected = F.cross_entropy(logits, target, ignore_index=-100, label_smoothing=smoothing)
    torch.testing.assert_close(objective, expected)
    torch.testing.assert_close(nats, F.cross_entropy(logits, target, ignore_index=-100))
    torch.testing.assert_close(
        torch.autograd.grad(2.5 * objective, logits)[0], torch.autograd.grad(2.5 * expected, logits)[0]
    )
    nothing, _ = smoothed_cross_entropy(logits, torch.full((7,), -100), smoothing, -100)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, logits)[0].any()


@pytest.mark.parametrize("options", [{}, {"tied": "none"}, {"copy_source": True}], ids=str)
def test_the_loss_is_that_of_the_logits(options: dict[str, Any]) -> None:
    network = model(**options)
    wanted = TARGET.roll(-1, 0).clone()
    wanted[2:, 1] = wanted[1:, 2] = -100
    output, losses = network(SOURCE, LENGTHS, TARGET), network(SOURCE, LENGTHS, TARGET, wanted, 0.2)
    right = {"input": output.logits.float().double().flatten(0, 1), "target": wanted.flatten()}
    expected = F.cross_entropy(**right, label_smoothing=0.2)
    torch.testing.assert_close(losses.nats.double(), F.cross_entropy(**right), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.objective.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.weights, output.weights)
    parameters = list(network.parameters())
    found, gradients = (torch.autograd.grad(each, parameters) for each in (losses.objective, expected))
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_fixed_context_is_normalised_and_dropped_as_annotations_are() -> None:
    network = model(attention="none", layer_norm=True)
    with torch.no_grad():
        plain = network.encode(SOURCE, LENGTHS).context
        assert plain is not None
        network.encoder.norm.weight.mul_(2.0)  # type: ignore[union-attr, operator]
        scaled = network.encode(SOURCE, LENGTHS).context
        bias = network.encoder.norm.bias  # type: ignore[union-attr]
        torch.testing.assert_close(scaled, 2.0 * plain - bias)
    dropped = model(attention="none", annotation_dropout=0.5)
    kept = model(attention="none").encode(SOURCE, LENGTHS).context
    found = dropped.train().encode(SOURCE, LENGTHS).context
    assert found is not None and kept is not None
    assert 0 < int((found == 0).sum()) < found.numel()
    torch.testing.assert_close(found, torch.where(found == 0, 0.0, 2.0 * kept))


def test_what_does_not_fit_together_is_said() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"decoder": "stacked", "decoder_layers": 1}, "decoder_layers must be at least 2"),
        ({"input_feeding": True}, "input_feeding is for decoder luong"),
        ({"coverage": True, "attention": "dot", "bidirectional": False}, "coverage is for additive"),
        ({"copy_source": True, "attention": "local"}, "weights that sum to one"),
        ({"attention": "dot"}, "dot needs annotations of hidden_size"),
        ({"attention": "multi-head", "attention_heads": 5}, "does not divide"),
        ({"attention": "none", "fixed_context": "initial", "bridge": "none"}, "would never see the source"),
        (
            {"attention": "none", "fixed_context": "initial", "annotation_dropout": 0.1},
            "needs annotations or a context",
        ),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            TranslationModelConfig(**{"decoder": "conditional", "hidden_size": 8} | options)
    with pytest.raises(ConfigError, match="gru"):
        model(cell="grru")
    with pytest.raises(ConfigError, match="as many encoder as decoder layers"):
        model(bridge="copy", encoder_layers=2)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "none"},
        {"decoder": "stacked", "decoder_layers": 2},
        {"decoder": "bahdanau", "coverage": True},
        {"decoder": "luong", "attention": "local-monotonic"},
        {"decoder": "luong", "attention": "general", "input_feeding": True},
        {"decoder": "conditional", "copy_source": True},
    ],
    ids=str,
)
def test_chunks_of_steps_are_the_whole_and_stay_within_their_bound(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = model(**options)
    whole = network(SOURCE, LENGTHS, TARGET)
    taken: list[int] = []
    step = network.step

    def counted(tokens: Tensor, state: Any) -> Any:
        taken.append(len(tokens))
        return step(tokens, state)

    monkeypatch.setattr(network, "step", counted)
    rows = TARGET.shape[1]
    positions = 0 if network.config.attention == "none" else len(SOURCE) * H
    most = 3 * rows * max(positions, V) + 1
    parts = list(network.chunks(SOURCE, LENGTHS, TARGET, most))
    assert taken == [3, 1] and not any(part.logits.requires_grad for part in parts)
    torch.testing.assert_close(torch.cat([part.logits for part in parts]), whole.logits, rtol=1e-12, atol=1e-12)
    if whole.weights is not None:
        weights = torch.cat([part.weights for part in parts if part.weights is not None])
        torch.testing.assert_close(weights, whole.weights, rtol=1e-12, atol=1e-12)
    assert len(list(network.chunks(SOURCE, LENGTHS, TARGET, 1))) == len(TARGET)


@pytest.mark.parametrize("tied", ["none", "decoder", "all"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_start_values_have_the_deviation_of_the_configuration(scale: float | None, tied: str) -> None:
    torch.manual_seed(0)
    settings = TranslationModelConfig(embedding_size=64, hidden_size=8, tied=tied, init_scale=scale)  # type: ignore[arg-type]
    network = EncoderDecoder(3000, 3000, settings)
    for layer in (network.target_embedding, network.source_embedding, network.output):
        if layer is not None:
            assert layer.weight.std().item() == pytest.approx(scale or 0.125, rel=0.02)
    assert not network.output_bias.any()
