"""Inputs that once gave wrong numbers or ended the process; each runs in a fork of another process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .transforms import isolated
from .transforms.reports import REPORTS

# What may be an error that says in a sentence about the layer why not, instead of the right numbers.
MAY_REFUSE = {
    "a_weight_that_is_fake": "a number cannot come of what has none",
    "a_distributed_weight": "a distributed tensor and plain ones do not mix",
    "a_stream_of_a_wrapped_weight": "a tensor without memory of its own cannot reach a kernel",
    "a_sparse_weight": "torch.nn has no sparse weights either",
    "a_sparse_input": "torch.nn takes no sparse input either",
    "a_meta_weight": "there are no numbers to compute with",
    "a_freed_weight": "there are no numbers to compute with",
    "a_freed_weight_in_a_stream": "there are no numbers to compute with",
    "a_freed_input": "there are no numbers to compute with",
    "saved_tensors_in_another_dtype": "backward may want the type that forward saved",
    "a_weight_of_another_shape": "the equations have no such shape",
    "a_stream_of_a_weight_of_another_shape": "the equations have no such shape",
    "one_bfloat16_weight": "torch.nn takes no mixed weights either",
    "a_stream_of_one_bfloat16_weight": "torch.nn takes no mixed weights either",
}


# Each has a process of its own, which takes a second; the same faults are tried in the tests of each part too.
pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def verdict_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    chosen = [item.callspec.params["name"] for item in request.session.items if item.originalname == "test_report"]
    found = isolated.verdicts([(name,) for name in chosen])
    return lambda name: found[(name,)]


@pytest.mark.parametrize("name", REPORTS)
def test_report(name: str, verdict_of: Callable[[str], str]) -> None:
    verdict = verdict_of(name)
    if verdict != "right" and not (name in MAY_REFUSE and verdict.startswith("refused: ")):
        pytest.fail(f"{name}: {verdict}", pytrace=False)
