"""What the four systems say of how their layers read a text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import recurra
from recurra import registry
from recurra.analysis.recording import record
from recurra.run.directory import read_run
from recurra.systems.reading import Reader

from .tiny_runs import SYSTEMS, train_tiny

TEXTS = {
    "language-model": "And the\r\npear",
    "translation": "the  red apple",
    "classification": " the song is\tsweet",
    "tagging": "the  pear eats the pear .",
}
SIDES = {"translation": ["source", "translation"]}


@pytest.fixture(scope="module", params=SYSTEMS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, object, Reader]:
    folder = train_tiny(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, recurra.load(folder, device="cpu"), registry.resolve(read_run(folder).system.reader)


def test_tokens_are_those_of_the_text(asked: tuple[str, object, Reader]) -> None:
    system, predictor, reader = asked
    text = TEXTS[system]
    records = record([reader.read(predictor, text, 1000)])
    assert [each.name for each in records] == SIDES.get(system, ["text"])
    found = records[0]
    assert found.text == text
    shown = [found.text[start:stop] for start, stop in found.places]
    if system == "language-model":
        assert shown == ["A", "n", "d", " ", "t", "h", "e", "\r\n", "p", "e", "a", "r"]
    else:
        assert shown == text.split()
    directions = {each.place.direction for each in found.layers}
    assert directions == ({0, 1} if system != "language-model" else {0})
    for side in records:
        for layer in side.layers:
            for values in (*layer.states.values(), *layer.gates.values()):
                assert values.shape == (len(side.places), layer.place.units) and np.isfinite(values).all()


def test_recording_leaves_the_answer_as_it_is(asked: tuple[str, object, Reader]) -> None:
    system, predictor, reader = asked
    reading = reader.read(predictor, TEXTS[system], 1000)
    kept = []
    record([reading._replace(run=lambda: kept.append(reading.run()))])
    alone = reading.run()
    if system == "tagging":
        assert kept[0].tags == alone.tags
        for name, chances in kept[0].probabilities.items():
            np.testing.assert_allclose(chances, alone.probabilities[name], rtol=1e-6)
    else:
        # The same sums, perhaps in another order of float32.
        torch.testing.assert_close(kept[0], alone, rtol=1e-6, atol=1e-6)


def test_no_more_than_so_many_tokens_are_read(asked: tuple[str, object, Reader]) -> None:
    system, predictor, reader = asked
    records = record([reader.read(predictor, TEXTS[system], 2)])
    assert len(records[0].places) == 2


def test_a_text_without_tokens_is_no_error(asked: tuple[str, object, Reader]) -> None:
    _, predictor, reader = asked
    assert all(len(side.places) == 0 for side in reader.read(predictor, "", 10).sides)


def test_a_given_translation_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = train_tiny(
        "translation", tmp_path_factory.mktemp("given"), reverse_source=True, attention="none", decoder_layers=2,
        cell="gru",
    )  # fmt: skip
    predictor = recurra.load(folder, device="cpu")
    reader = registry.resolve(read_run(folder).system.reader)
    source, target = record([reader.read(predictor, "the red apple\tder Apfel", 100)])
    assert source.text == "the red apple" and target.text == "der Apfel" and len(target.places) == 2
    assert [each.place.number for each in source.layers] == [1, 1, 2, 2]
    assert [each.place.number for each in target.layers] == [3, 4]
    # A source that is read from its end on: what stands before the last word has not reached it forward in time.
    (other, _) = record([reader.read(predictor, "a red apple\tder Apfel", 100)])
    first = {(each.place.number, each.place.direction): each for each in other.layers}[1, 0]
    np.testing.assert_array_equal(first.states["h"][1:], source.layers[0].states["h"][1:])
    assert (first.states["h"][0] != source.layers[0].states["h"][0]).any()
