"""Each dropout of a translation model by itself: what it drops, for how long, and that evaluation knows none of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recurra.systems.translation.config import TranslationModelConfig
from recurra.systems.translation.network import EncoderDecoder

V, E, H, S, T, B = 30, 12, 12, 7, 6, 4
LENGTHS = torch.tensor([7, 6, 4, 1])
FORMS: dict[str, dict[str, Any]] = {
    "luong": {"decoder": "luong"},
    "input feeding": {"decoder": "luong", "input_feeding": True},
    "bahdanau": {"decoder": "bahdanau"},
    "conditional": {"decoder": "conditional"},
    "stacked": {"decoder": "stacked"},
    "none": {"attention": "none"},
}
KINDS = ("embedding_dropout", "input_dropout", "dropout", "annotation_dropout", "output_dropout", "weight_dropout")


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    source = torch.randint(V, (S, B), generator=generator)
    return source, LENGTHS, torch.randint(V, (T, B), generator=generator)


def model(**options: Any) -> EncoderDecoder:
    torch.manual_seed(17)
    settings = {"embedding_size": E, "hidden_size": H, "decoder_layers": 2, "decoder": "luong"} | options
    network = EncoderDecoder(V, V, TranslationModelConfig(**settings)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    return network


def inputs_of(module: nn.Module) -> list[Tensor]:
    """What enters a module as its first argument, call after call from now on."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    return seen


def outputs_of(module: nn.Module) -> list[Tensor]:
    """What a module gives, the first part of it, call after call from now on."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _, arguments, output: seen.append(output[0].detach()))
    return seen


def mask_of(given: Tensor, whole: Tensor, rate: float) -> Tensor:
    """What `whole` was multiplied with, checked to be 0 or 1 / (1 - rate)."""
    assert whole.all(), "the mask of a zero cannot be read back"
    mask = given / whole
    dropped = given == 0
    assert dropped.any() and not dropped.all()
    torch.testing.assert_close(mask[~dropped], torch.full_like(mask[~dropped], 1 / (1 - rate)), rtol=1e-12, atol=0)
    return mask


def is_locked(mask: Tensor) -> bool:
    """Whether a mask (T, B, F) is the same in all steps, but not in all rows or units."""
    assert (mask[0, 0] != mask[0, 1]).any() and (mask[0, :, :1] != mask[0]).any()
    return bool(((mask == 0) == (mask[:1] == 0)).all())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_dropout_acts_in_training_and_not_in_evaluation(kind: str, form: str) -> None:
    # A bridge of the mean takes annotations also where nothing attends to them.
    options = FORMS[form] | {"bridge": "mean"}
    network, plain = model(**options, **{kind: 0.5}), model(**options)
    arguments = pairs()
    with torch.no_grad():
        expected = plain.eval()(*arguments).logits
        torch.testing.assert_close(network.eval()(*arguments).logits, expected, rtol=0, atol=0)
        torch.testing.assert_close(plain.train()(*arguments).logits, expected, rtol=1e-11, atol=1e-12)
        network.train()
        torch.manual_seed(1)
        one, other = network(*arguments).logits, network(*arguments).logits
        torch.manual_seed(1)
        again = network(*arguments).logits
    assert not torch.allclose(one, expected) and not torch.allclose(other, expected) and not torch.allclose(one, other)
    torch.testing.assert_close(again, one, rtol=1e-12, atol=0)


def passes_differ(network: EncoderDecoder, part: nn.Module) -> bool:
    """Whether two passes differ with this part alone in training."""
    network.eval()
    part.train()
    with torch.no_grad():
        return not torch.allclose(network(*pairs()).logits, network(*pairs()).logits)


@pytest.mark.parametrize("form", FORMS)
def test_recurrent_weights_are_dropped_in_both_halves(form: str) -> None:
    network = model(**FORMS[form], weight_dropout=0.5)
    assert passes_differ(network, network.encoder)
    # An input feeding decoder takes its layers step by step, and has none that run as one call.
    assert passes_differ(network, network.decoder) == (form != "input feeding")


@pytest.mark.parametrize("form", FORMS)
def test_dropout_between_layers_needs_two_layers_of_the_same_half(form: str) -> None:
    network = model(**FORMS[form], dropout=0.5)
    assert passes_differ(network, network.decoder) and not passes_differ(network, network.encoder)
    network = model(**FORMS[form], dropout=0.5, encoder_layers=2)
    assert passes_differ(network, network.encoder)
    if form != "stacked":
        network = model(**FORMS[form], dropout=0.5, decoder_layers=1)
        assert not passes_differ(network, network.decoder)


@pytest.mark.parametrize("form", ["luong", "stacked", "conditional", "none"])
def test_weight_dropout_touches_recurrent_weights_alone(form: str) -> None:
    network = model(**FORMS[form], weight_dropout=0.5, encoder_layers=2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "weight_hh" in name:
                parameter.zero_()
        expected = network.eval()(*pairs()).logits
        torch.testing.assert_close(network.train()(*pairs()).logits, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tied", ["all", "none"])
def test_embedding_dropout_drops_every_occurrence_of_a_word(tied: str) -> None:
    rate = 0.4
    network = model(tied=tied, embedding_dropout=rate)
    entering = {"source": inputs_of(network.encoder), "target": inputs_of(network.decoder)}
    generator = torch.Generator().manual_seed(3)
    # Many words over and over, in one row and across rows.
    source, target = (torch.randint(V, (80, B), generator=generator) for _ in range(2))
    lengths = torch.full((B,), 80)
    with torch.no_grad():
        network.eval()(source, lengths, target)
        torch.manual_seed(5)
        network.train()(source, lengths, target)
    for side, tokens in (("source", source), ("target", target)):
        whole, given = entering[side]
        mask = mask_of(given, whole, rate)
        kinds = [mask[tokens == token] for token in tokens.unique().tolist()]
        assert len(kinds) == V and all(len(each) > 1 for each in kinds)
        # All units of all occurrences share the fate of the word.
        fates = [(each == 0).all().item() for each in kinds]
        assert all((each == 0).all() or (each != 0).all() for each in kinds)
        assert 0.1 < sum(fates) / len(fates) < 0.7


def test_input_dropout_is_one_mask_for_all_words_of_a_sentence() -> None:
    rate = 0.3
    network = model(input_dropout=rate)
    entering = inputs_of(network.encoder), inputs_of(network.decoder)
    torch.manual_seed(5)
    with torch.no_grad():
        network.eval()(*pairs())
        network.train()(*pairs())
    for whole, given in entering:
        assert is_locked(mask_of(given, whole, rate))


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"reverse_source": True}], ids=str)
def test_annotation_dropout_is_one_mask_for_all_positions(options: dict[str, Any]) -> None:
    rate = 0.5
    network = model(annotation_dropout=rate, **options)
    annotations = outputs_of(network.encoder)
    torch.manual_seed(5)
    with torch.no_grad():
        network.eval()(*pairs())
        network.train()(*pairs())
    whole, given = annotations
    for row, length in enumerate(LENGTHS.tolist()):
        mask = mask_of(given[:length, row : row + 1], whole[:length, row : row + 1], rate)
        assert ((mask == 0) == (mask[:1] == 0)).all()
    assert ((given[0, 0] == 0) != (given[0, 1] == 0)).any()


@pytest.mark.parametrize("form", ["input feeding", "bahdanau", "conditional", "stacked"])
def test_dropout_between_stepped_layers_is_one_mask_for_all_steps(form: str) -> None:
    # Where a decoder's layers are one call, the layers themselves lock their masks.
    rate = 0.5
    network = model(**FORMS[form], dropout=rate)
    decoder: Any = network.decoder
    if form == "input feeding":
        below, above = decoder.layers
    else:
        below, above = decoder.second if form == "conditional" else decoder.recurrent, decoder.upper
    left, entered = outputs_of(below), inputs_of(above)
    torch.manual_seed(5)
    with torch.no_grad():
        network.train()(*pairs())
    # Of a stacked decoder the context enters too, behind the layer below.
    whole, given = torch.cat(left), torch.cat(entered)[..., :H]
    assert whole.shape == (T, B, H) and is_locked(mask_of(given, whole, rate))


@pytest.mark.parametrize("form", FORMS)
def test_output_dropout_is_one_mask_for_all_steps_before_the_output_layer(form: str) -> None:
    rate = 0.4
    network = model(**FORMS[form], output_dropout=rate, tied="none")
    assert network.output is not None
    with torch.no_grad():
        # A logit of each unit of the readout.
        network.output.weight.zero_()
        network.output.weight[:E] = torch.eye(E)
        network.output_bias.zero_()
        torch.manual_seed(5)
        whole = network.eval()(*pairs()).logits[..., :E]
        given = network.train()(*pairs()).logits[..., :E]
    assert is_locked(mask_of(given, whole, rate))
