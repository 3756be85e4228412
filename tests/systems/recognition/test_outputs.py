"""The two ends of a recogniser: what they lose, search and stream agrees."""

from __future__ import annotations

import pytest
import torch

from recurra.decoding.transducer import Transducer, transducer_beam_search
from recurra.models.transducer_loss import transducer_loss_reference
from recurra.systems.recognition.config import DecodingConfig, RecognitionModelConfig
from recurra.systems.recognition.outputs import TransducerOutput, frames_needed, output_of
from recurra.systems.recognition.searching import Search, score_labels

EVERYTHING = DecodingConfig(search="beam", beam=4000, least_probability=0.0, most_behind=1e6, labels_per_frame=6)


def made(output: str) -> tuple[RecognitionModelConfig, torch.Tensor]:
    torch.manual_seed(3)
    return RecognitionModelConfig(output=output, predictor_size=5, joint_size=6, cell="gru"), torch.randn(5, 7)


@pytest.mark.parametrize("output", ["ctc", "transducer"])
def test_a_text_scores_what_the_search_gives_it(output: str) -> None:
    config, encoded = made(output)
    end = output_of(7, 4, 2, config).eval()
    with torch.inference_mode():
        frames = end.frames(encoded)
        found = Search(EVERYTHING.model_copy(update={"label_bonus": 0.3}), 5)(frames, end)
        search = Search(EVERYTHING.model_copy(update={"label_bonus": 0.3}))
        for each in found[:5]:
            assert score_labels(frames, each.labels, search, end) == pytest.approx(each.score, abs=1e-3)
            assert each.score == pytest.approx(each.log_probability + 0.3 * len(each.labels))


@pytest.mark.parametrize("output", ["ctc", "transducer"])
def test_company_changes_no_loss(output: str) -> None:
    config, _ = made(output)
    end = output_of(7, 4, 2, config).eval()
    rows = [torch.randn(steps, 7) for steps in (5, 3, 4)]
    texts = [[0, 1, 1], [], [3]]
    frames = torch.nn.utils.rnn.pad_sequence([end.frames(row) for row in rows])
    together = end.nats(
        frames,
        torch.tensor([len(row) for row in rows]),
        torch.tensor([label for text in texts for label in text]),
        torch.tensor([len(text) for text in texts]),
    )
    for nats, row, text in zip(together.tolist(), rows, texts, strict=True):
        assert -end.log_likelihood(end.frames(row).detach(), text) == pytest.approx(nats, rel=1e-5)


def test_a_transducer_is_that_of_its_equations() -> None:
    config, encoded = made("transducer")
    end = output_of(7, 4, 2, config).eval()
    assert isinstance(end, TransducerOutput)
    model: Transducer = end
    labels = [3, 0, 0]
    row, state = model.begin()
    predicted = [row]
    for label in labels:
        row, state = model.advance(torch.tensor([label]), state)
        predicted.append(row)
    frames = end.frames(encoded)
    expected = transducer_loss_reference(
        frames[None],
        torch.cat(predicted)[None],
        end.joined.weight,
        end.joined.bias,
        torch.tensor([labels]),
        torch.tensor([5]),
        torch.tensor([3]),
        blank=2,
    )
    # The mean is over the three labels.
    assert -end.log_likelihood(frames.detach(), labels) == pytest.approx(3 * float(expected.detach()), rel=1e-5)
    (found,) = transducer_beam_search(model, [frames.detach()])
    assert found[0].log_probability <= 0


def test_frames_that_labels_need() -> None:
    ctc, transducer = (RecognitionModelConfig(output=output) for output in ("ctc", "transducer"))
    decoding = DecodingConfig(labels_per_frame=2)
    assert [frames_needed(labels, ctc, decoding) for labels in ([], [1, 1], [1, 2, 3])] == [0, 3, 3]
    assert [frames_needed(labels, transducer, decoding) for labels in ([], [1, 1], [1, 2, 3])] == [0, 1, 2]
