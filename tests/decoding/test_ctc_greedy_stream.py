"""The greedy path of a stream against that of the whole input."""

from __future__ import annotations

import numpy as np
import pytest

from recurra.decoding.ctc import ctc_greedy
from recurra.decoding.ctc_greedy_stream import CTCGreedyStream


@pytest.mark.parametrize("piece", [1, 2, 7, 40])
@pytest.mark.parametrize("blank", [0, 2])
def test_every_cut_gives_the_whole(piece: int, blank: int) -> None:
    random = np.random.default_rng(piece)
    for frames in (0, 1, 5, 40):
        values = random.standard_normal((frames, 4)) * 2
        values -= np.log(np.exp(values).sum(1, keepdims=True))
        stream = CTCGreedyStream(4, blank)
        settled = []
        for start in range(0, frames, piece):
            partial = stream.feed(values[start : start + piece])
            settled += partial.settled
            so_far = ctc_greedy(values[: start + piece], blank)
            assert [span.label for span in [*settled, *partial.unsettled]] == so_far.labels
        (found,) = stream.finish()
        assert found._replace(spans=[*settled, *found.spans]) == ctc_greedy(values, blank)


def test_what_cannot_be_fed_is_refused() -> None:
    with pytest.raises(ValueError, match="blank must be one of the 3 labels"):
        CTCGreedyStream(3, 3)
    stream = CTCGreedyStream(3)
    with pytest.raises(ValueError, match="must be numbers up to 0"):
        stream.feed(np.full((1, 3), np.nan))
    stream.finish()
    with pytest.raises(ValueError, match="has ended"):
        stream.feed(np.zeros((0, 3)))
