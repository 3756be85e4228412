"""Encoder-decoders of every shape against the papers' equations, taken one word after another in torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.systems.translation.config import TranslationModelConfig
from recurra.systems.translation.network import EncoderDecoder

V, E, H = 9, 5, 6
SOURCE = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [3, 0, 0, 0, 0]]).t().contiguous()
LENGTHS = torch.tensor([5, 3, 1])
TARGET = torch.tensor([[0, 4, 1, 8], [0, 2, 2, 5], [0, 7, 6, 3]]).t().contiguous()
States = tuple[Tensor, ...]
"""h of a GRU, h and c of an LSTM, each (H,)."""


def model(**options: Any) -> EncoderDecoder:
    torch.manual_seed(13)
    settings = {"embedding_size": E, "hidden_size": H, "decoder_layers": 1, "decoder": "luong"} | options
    network = EncoderDecoder(V, V, TranslationModelConfig(**settings)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5)
    return network


class Paper:
    """One pair, read and written step by step with the weights of a network, and nothing else of it."""

    def __init__(self, network: EncoderDecoder) -> None:
        self.p = {name: value.detach() for name, value in network.named_parameters()}
        self.config = network.config
        self.states = 2 if network.config.cell == "lstm" else 1
        self.directions = ("", "_reverse") if network.config.bidirectional else ("",)

    def affine(self, name: str, x: Tensor) -> Tensor:
        return self.p[f"{name}.weight"] @ x + self.p[f"{name}.bias"]

    def advance(self, name: str, layer: int, x: Tensor, states: States, direction: str = "") -> States:
        """One step of an LSTM (Gers et al. 2000) or GRU, with torch.nn's rows of gates."""
        end = f"_l{layer}{direction}"
        own = self.p[f"{name}.weight_ih{end}"] @ x + self.p[f"{name}.bias_ih{end}"]
        old = self.p[f"{name}.weight_hh{end}"] @ states[0] + self.p[f"{name}.bias_hh{end}"]
        if self.states == 2:
            i, f, g, o = (own + old).chunk(4)
            c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        (rx, zx, nx), (rh, zh, nh) = own.chunk(3), old.chunk(3)
        r, z = (rx + rh).sigmoid(), (zx + zh).sigmoid()
        return ((1 - z) * (nx + r * nh).tanh() + z * states[0],)

    def zeros(self) -> States:
        return (torch.zeros(H, dtype=torch.float64),) * self.states

    def read(self, tokens: list[int]) -> tuple[list[Tensor], list[list[States]]]:
        """An annotation of each word in the order of the text, and the last states: by layer, then by direction."""
        table = self.p.get("source_embedding.weight", self.p["target_embedding.weight"]) * E**0.5
        values = [table[token] for token in tokens]
        if self.config.reverse_source:
            values.reverse()
        last: list[list[States]] = []
        for layer in range(self.config.encoder_layers):
            outputs, ends = [], []
            for direction in self.directions:
                states, run = self.zeros(), []
                for value in values[::-1] if direction else values:
                    states = self.advance("encoder.recurrent", layer, value, states, direction)
                    run.append(states[0])
                outputs.append(run[::-1] if direction else run)
                ends.append(states)
            values = [torch.cat(parts) for parts in zip(*outputs, strict=True)]
            last.append(ends)
        return values[::-1] if self.config.reverse_source else values, last

    def bridge(self, annotations: list[Tensor], last: list[list[States]]) -> list[States]:
        """The first states of each decoder layer."""
        kind, layers, read = self.config.bridge, self.config.decoder_layers, len(last)
        first: list[States] = []
        for layer in range(layers):
            if kind == "none":
                first.append(self.zeros())
            elif kind == "mean":
                mean = sum(annotations[1:], annotations[0]) / len(annotations)
                h = self.affine(f"decoder.bridge.maps.{layer}", mean).tanh()
                first.append((h, *self.zeros()[1:]))
            else:
                # A low decoder has the encoder's upper layers for partners; above the encoder's top stands the top.
                partner = last[layer + read - layers if read > layers else min(layer, read - 1)]
                by_state = list(zip(*partner, strict=True))
                if kind == "copy":
                    first.append(tuple(sum(parts[1:], parts[0]) / len(parts) for parts in by_state))
                else:
                    maps = [f"decoder.bridge.maps.{layer * self.states + index}" for index in range(self.states)]
                    h, *rest = (self.affine(one, torch.cat(parts)) for one, parts in zip(maps, by_state, strict=True))
                    first.append((h.tanh(), *rest))
        return first

    def attend(self, query: Tensor, annotations: list[Tensor], step: int, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """Context and weights (S,) of one query."""
        name, kind, window = "decoder.attention", self.config.attention, self.config.attention_window
        places = torch.arange(len(annotations), dtype=torch.float64)
        if kind in ("additive", "concat"):
            asked = self.affine(f"{name}.query", query)
            seen = self.p.get(f"{name}.coverage", torch.zeros_like(asked))
            keys = [self.p[f"{name}.key.weight"] @ each for each in annotations]
            energies = [(asked + key + seen * c).tanh() for key, c in zip(keys, coverage, strict=True)]
            weights = (torch.stack(energies) @ self.p[f"{name}.energy"]).softmax(0)
        elif kind == "multi-head":
            q = self.p[f"{name}.query.weight"] @ query
            keys = [self.p[f"{name}.key.weight"] @ each for each in annotations]
            values = [self.p[f"{name}.value.weight"] @ each for each in annotations]
            size = len(q) // self.config.attention_heads
            heads, contexts = [], []
            for begin in range(0, len(q), size):
                part = slice(begin, begin + size)
                products = [q[part] @ key[part] / size**0.5 for key in keys]
                heads.append(torch.stack(products).softmax(0))
                contexts.append(heads[-1] @ torch.stack([value[part] for value in values]))
            return self.p[f"{name}.output.weight"] @ torch.cat(contexts), torch.stack(heads).mean(0)
        else:
            scores = torch.stack([query @ (self.p[f"{name}.key.weight"] @ each) for each in annotations])
            if kind == "general":
                centre = places
            elif kind == "local":
                share = self.p[f"{name}.centre"] @ (self.p[f"{name}.position.weight"] @ query).tanh()
                centre = len(annotations) * share.sigmoid()
            else:
                centre = torch.tensor(float(min(step, len(annotations) - 1)), dtype=torch.float64)
            weights = scores.masked_fill((places - centre).abs() > window, -torch.inf).softmax(0)
            if kind == "local":
                weights = weights * torch.exp(-((places - centre) ** 2) / (2 * (window / 2) ** 2))
        return weights @ torch.stack(annotations), weights

    def write(self, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
        """Logits (T, V) and weights (T, S) of a pair."""
        config = self.config
        kind = "none" if config.attention == "none" else config.decoder
        annotations, last = self.read(source)
        states = self.bridge(annotations, last)
        summary = torch.cat([ends[0] for ends in last[-1]])
        coverage = torch.zeros(len(source), dtype=torch.float64)
        feed = torch.zeros(E, dtype=torch.float64)
        logits, seen = [], []

        def attend(query: Tensor, step: int) -> Tensor:
            nonlocal coverage
            context, weights = self.attend(query, annotations, step, coverage)
            coverage = coverage + weights
            seen.append(weights)
            return context

        for step, token in enumerate(target):
            y = self.p["target_embedding.weight"][token] * E**0.5
            context = torch.zeros(0, dtype=torch.float64)
            if kind == "none" and config.fixed_context == "every-step":
                context = summary
            if kind == "bahdanau":
                context = attend(states[0][0], step)
            # The first layer, and what enters the second.
            if kind == "conditional":
                middle = self.advance("decoder.first", 0, y, states[0])
                context = attend(middle[0], step)
                states[0] = self.advance("decoder.second", 0, context, middle)
            elif config.input_feeding:
                states[0] = self.advance("decoder.layers.0", 0, torch.cat([y, feed]), states[0])
            else:
                states[0] = self.advance("decoder.recurrent", 0, torch.cat([y, context]), states[0])
            value = states[0][0]
            if kind == "stacked":
                context = attend(value, step)
                value = torch.cat([value, context])
            for layer in range(1, config.decoder_layers):
                name, place = "decoder.upper", layer - 1
                if config.input_feeding:
                    name, place = f"decoder.layers.{layer}", 0
                elif kind in ("luong", "none"):
                    name, place = "decoder.recurrent", layer
                states[layer] = self.advance(name, place, value, states[layer])
                value = states[layer][0]
            if kind == "luong":
                context = attend(value, step)
                readout = torch.cat([value, context])
            else:
                readout = torch.cat([value, context, y])
            feed = self.affine("decoder.readout", readout).tanh()
            output = self.p.get("output.weight", self.p["target_embedding.weight"])
            logits.append(output @ feed + self.p["output_bias"])
        return torch.stack(logits), torch.stack(seen) if seen else torch.zeros(len(target), 0)


def check(**options: Any) -> None:
    """Logits and weights of a batch of unequal pairs are the paper's of each."""
    network = model(**options)
    paper = Paper(network)
    with torch.no_grad():
        found = network(SOURCE, LENGTHS, TARGET)
    assert (found.weights is None) == (options.get("attention") == "none")
    for row, length in enumerate(LENGTHS.tolist()):
        logits, weights = paper.write(SOURCE[:length, row].tolist(), TARGET[:, row].tolist())
        torch.testing.assert_close(found.logits[:, row], logits, rtol=1e-10, atol=1e-12)
        if found.weights is not None:
            torch.testing.assert_close(found.weights[:, row, :length], weights, rtol=1e-10, atol=1e-14)


def named(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(
        "options", cases, ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items())
    )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@named(
    [
        {"bidirectional": False},
        {"bidirectional": True},
        {"bidirectional": False, "reverse_source": True, "bridge": "copy"},
        {"bidirectional": True, "bridge": "mean"},
        {"bidirectional": False, "encoder_layers": 2, "decoder_layers": 2, "bridge": "copy"},
        {"bidirectional": True, "encoder_layers": 2, "decoder_layers": 3},
    ]
)
@pytest.mark.parametrize("context", ["initial", "every-step"])
def test_a_fixed_context_sets_the_first_state_or_enters_every_step(
    context: str, options: dict[str, Any], cell: str
) -> None:
    check(attention="none", fixed_context=context, cell=cell, **options)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@named(
    [
        {"bridge": "none", "bidirectional": True, "encoder_layers": 1, "decoder_layers": 1},
        {"bridge": "mean", "bidirectional": True, "encoder_layers": 2, "decoder_layers": 3},
        {"bridge": "mean", "bidirectional": False, "encoder_layers": 1, "decoder_layers": 1},
        {"bridge": "copy", "bidirectional": True, "encoder_layers": 1, "decoder_layers": 1},
        {"bridge": "copy", "bidirectional": True, "encoder_layers": 3, "decoder_layers": 3},
        {"bridge": "copy", "bidirectional": False, "encoder_layers": 2, "decoder_layers": 2},
        {"bridge": "dense", "bidirectional": True, "encoder_layers": 1, "decoder_layers": 1},
        {"bridge": "dense", "bidirectional": True, "encoder_layers": 2, "decoder_layers": 2},
        {"bridge": "dense", "bidirectional": True, "encoder_layers": 3, "decoder_layers": 2},
        {"bridge": "dense", "bidirectional": False, "encoder_layers": 1, "decoder_layers": 3},
    ]
)
def test_bridges_take_every_state_of_both_directions_to_its_layer(options: dict[str, Any], cell: str) -> None:
    check(cell=cell, **options)


def test_the_cell_state_of_a_dense_bridge_is_not_bounded() -> None:
    network = model(cell="lstm")
    bridge: Any = network.decoder.bridge
    with torch.no_grad():
        for each in bridge.maps:
            each.bias.fill_(3.0)
        h, c = bridge(network.encoder(torch.zeros(2, 1, E).double(), torch.tensor([2])))[0]
    assert (h.abs() < 1).all() and (c > 1).any()


@named(
    [
        {"decoder": "luong", "bidirectional": True},
        {"decoder": "luong", "bidirectional": False, "encoder_layers": 2},
        {"decoder": "stacked", "decoder_layers": 2, "cell": "lstm"},
        {"decoder": "bahdanau", "bridge": "mean"},
        {"decoder": "conditional", "coverage": True},
        {"decoder": "luong", "attention": "local-monotonic", "attention_window": 1},
    ]
)
def test_a_source_is_read_backwards_and_attended_to_in_the_order_of_its_text(options: dict[str, Any]) -> None:
    check(reverse_source=True, **options)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@named(
    [
        {"decoder": "luong"},
        {"decoder": "luong", "input_feeding": True},
        {"decoder": "bahdanau"},
        {"decoder": "conditional"},
        {"decoder": "stacked", "decoder_layers": 3},
    ]
)
def test_coverage_is_the_sum_of_all_weights_before(options: dict[str, Any], cell: str) -> None:
    check(coverage=True, cell=cell, **options)


def test_coverage_goes_on_from_call_to_call() -> None:
    network = model(decoder="stacked", decoder_layers=2, coverage=True)
    with torch.no_grad():
        whole = network(SOURCE, LENGTHS, TARGET)
        state = network.encode(SOURCE, LENGTHS)
        parts = []
        for tokens in (TARGET[:3], TARGET[3:]):
            output = network.step(tokens, state)
            state = output.state
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts), whole.logits, rtol=1e-11, atol=1e-12)
    assert whole.weights is not None and state.coverage is not None
    torch.testing.assert_close(state.coverage[0], whole.weights.sum(0), rtol=1e-12, atol=0)


@named(
    [
        {"attention": "additive", "attention_size": 7},
        {"attention": "concat", "attention_size": 2, "coverage": True},
        {"attention": "multi-head", "attention_heads": 1},
        {"attention": "multi-head", "attention_heads": 3},
        {"attention": "multi-head", "attention_size": 8, "attention_heads": 4},
        {"attention": "multi-head", "attention_size": 4, "attention_heads": 2, "decoder": "bahdanau"},
        {"attention": "local", "attention_window": 1},
        {"attention": "local", "attention_window": 2, "decoder": "conditional"},
        {"attention": "local-monotonic", "attention_window": 1},
        {"attention": "local-monotonic", "attention_window": 3, "decoder": "bahdanau"},
        {"attention": "general", "decoder": "stacked", "decoder_layers": 2},
    ]
)
def test_sizes_heads_and_windows_of_attention_are_those_asked_for(options: dict[str, Any]) -> None:
    check(**options)


@pytest.mark.parametrize("size", [3, 10])
def test_the_size_of_attention_is_that_of_its_energies(size: int) -> None:
    attention: Any = model(attention="additive", attention_size=size).decoder.attention
    assert attention.keys(torch.zeros(2, 1, 2 * H).double()).shape == (2, 1, size)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@named(
    [
        {"decoder": "luong"},
        {"decoder": "luong", "input_feeding": True},
        {"decoder": "bahdanau"},
        {"decoder": "conditional"},
        {"decoder": "stacked"},
        {"decoder": "luong", "attention": "none"},
        {"decoder": "stacked", "tied": "none", "bidirectional": False},
        {"decoder": "bahdanau", "tied": "decoder", "encoder_layers": 2},
    ]
)
def test_decoders_of_three_layers_are_those_of_the_equations(options: dict[str, Any], cell: str) -> None:
    check(decoder_layers=3, cell=cell, **options)


@pytest.mark.parametrize("bias", [None, 1.0, -2.5])
def test_forget_gates_of_every_layer_and_direction_begin_with_their_bias(bias: float | None) -> None:
    for options in ({"decoder": "conditional"}, {"decoder": "stacked"}, {"decoder": "luong", "input_feeding": True}):
        torch.manual_seed(2)
        config = TranslationModelConfig(
            cell="lstm",
            hidden_size=H,
            embedding_size=E,
            encoder_layers=2,
            decoder_layers=2,
            forget_bias=bias,
            **options,
        )
        parameters = dict(EncoderDecoder(V, V, config).named_parameters())
        found = [name for name in parameters if "bias_ih" in name]
        # Two layers of two directions, and the decoder's two layers; a conditional one has two cells in its first.
        assert len(found) == 4 + (3 if options["decoder"] == "conditional" else 2)
        for name in found:
            gates = (parameters[name] + parameters[name.replace("bias_ih", "bias_hh")]).detach().view(4, H)
            bound = 2 / H**0.5
            for gate, values in zip("ifgo", gates, strict=True):
                if gate == "f" and bias is not None:
                    assert (values == bias).all(), name
                else:
                    # As torch.nn does: two uniform numbers within H^-1/2.
                    assert (values.abs() <= bound).all() and len(values.unique()) == H, (name, gate)


def test_a_cell_without_a_forget_gate_has_no_forget_bias() -> None:
    config = TranslationModelConfig(cell="gru", hidden_size=H, embedding_size=E, decoder_layers=2, forget_bias=7.0)
    parameters = EncoderDecoder(V, V, config).named_parameters()
    biases = [value for name, value in parameters if "bias_ih" in name or "bias_hh" in name]
    assert biases and all((value.abs() <= H**-0.5).all() for value in biases)


def test_copies_are_mixed_in_single_precision_in_a_model_of_bfloat16() -> None:
    torch.manual_seed(4)
    settings = {"embedding_size": 8, "hidden_size": 8, "decoder": "luong"}
    plain = EncoderDecoder(50, 50, TranslationModelConfig(**settings)).bfloat16().eval()
    network = EncoderDecoder(50, 50, TranslationModelConfig(**settings, copy_source=True)).bfloat16().eval()
    network.load_state_dict(plain.state_dict(), strict=False)
    assert network.copy_gate is not None
    with torch.no_grad():
        # A gate of one: nothing is copied, and what is left is the softmax of the plain logits.
        network.copy_gate.weight.zero_()
        network.copy_gate.bias.fill_(100.0)
        mixed = network(SOURCE, LENGTHS, TARGET).logits
        logits = plain(SOURCE, LENGTHS, TARGET).logits
    assert logits.dtype == torch.bfloat16 and mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, logits.float().log_softmax(-1), rtol=0, atol=1e-6)
