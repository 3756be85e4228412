"""Labels' rules as masks, what is refused, and long sequences of the conditional random field."""

from __future__ import annotations

import itertools
import math
import resource
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from recurra.models.crf import CRF, legal_moves

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BIOES = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "E-LOC", "B", "I", "E", "S"]


def is_legal(labels: list[str], scheme: str) -> bool:
    """Read from left to right, with the chunk that is open."""
    inside: str | None = None
    for label in labels:
        letter, _, kind = label.partition("-")
        if scheme == "bio":
            if letter == "I" and kind != inside:
                return False
            inside = None if letter == "O" else kind
            continue
        if (letter in ("I", "E")) != (inside is not None) or (letter in ("I", "E") and kind != inside):
            return False
        inside = kind if letter in ("B", "I") else None
    return scheme == "bio" or inside is None


@pytest.mark.parametrize(
    ("labels", "scheme"), [(BIO, "bio"), (BIOES, "bioes"), (["I", "O", "B", "I-x-y", "B-x-y", "B-x"], "bio")]
)
def test_moves_are_legal_where_the_scheme_has_them(labels: list[str], scheme: Literal["bio", "bioes"]) -> None:
    allowed, start, end = legal_moves(labels, scheme)
    assert allowed.dtype == start.dtype == end.dtype == torch.bool
    for length in (1, 2, 3):
        for path in itertools.product(range(len(labels)), repeat=length):
            found = bool(start[path[0]] and end[path[-1]] and all(allowed[pair] for pair in itertools.pairwise(path)))
            assert found == is_legal([labels[tag] for tag in path], scheme), [labels[tag] for tag in path]


@pytest.mark.parametrize("label", ["_", "NOUN", "", "o", "O-PER", "B-", "BPER", "-PER", "X-PER", "b-PER", "BI-PER"])
def test_a_label_of_no_scheme_is_named(label: str) -> None:
    for scheme in ("bio", "bioes"):
        with pytest.raises(ValueError, match=f"'{label}' is no label of the scheme {scheme}"):
            legal_moves(["O", label], scheme)  # type: ignore[arg-type]


def test_labels_of_one_scheme_are_none_of_another() -> None:
    legal_moves(["E-PER", "S"], "bioes")
    for label in ("E-PER", "S"):
        with pytest.raises(ValueError, match=label):
            legal_moves([label], "bio")
    with pytest.raises(ValueError, match="no scheme iob"):
        legal_moves(["O"], "iob")  # type: ignore[arg-type]


@pytest.mark.parametrize(("labels", "scheme"), [(BIO, "bio"), (BIOES, "bioes")])
def test_what_is_decoded_keeps_the_rules(labels: list[str], scheme: Literal["bio", "bioes"]) -> None:
    """At the start and at the end too, however much the emissions are against it (allennlp#4429)."""
    crf = CRF(len(labels), *legal_moves(labels, scheme))
    against = torch.tensor([100.0 if label[0] in "IE" else 0.0 for label in labels])
    for last in (labels.index("B-PER"), labels.index("I-PER")):
        emissions = torch.randn(9, 20, len(labels)) + against
        emissions[-1, :, last] += 1000
        lengths = torch.randint(1, 10, (20,))
        for paths in crf.n_best(emissions, lengths, 4):
            assert len({tuple(path) for path, _ in paths}) == len(paths)
            for path, _ in paths:
                assert is_legal([labels[tag] for tag in path], scheme)
        marginals = crf.marginals(emissions, lengths)
        opened = torch.tensor([label[0] in "IE" for label in labels])
        assert not marginals[0][:, opened].any()


def test_start_and_end_hold_without_transitions() -> None:
    """The example of allennlp#4429: what must not start or end a sequence did where it scored most."""
    crf = CRF(2, None, torch.tensor([True, False]), torch.tensor([False, True]))
    emissions = torch.tensor([[[0.0, 100.0]], [[100.0, 0.0]]])
    assert crf.decode(emissions, torch.tensor([2]))[0][0] == [0, 1]
    assert torch.equal(crf.marginals(emissions, torch.tensor([2])), torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    with pytest.raises(ValueError, match="row 1 has no allowed path of 1 steps"):
        crf.decode(emissions.expand(2, 3, 2), torch.tensor([2, 1, 1]))


def test_masks_move_with_the_field_and_are_not_stored() -> None:
    crf = CRF(3, torch.ones(3, 3, dtype=torch.bool), end_allowed=torch.ones(3, dtype=torch.bool))
    assert set(crf.state_dict()) == {"transitions", "start", "end"}
    assert {name for name, _ in crf.named_buffers()} == {"allowed", "end_allowed"}
    assert all(0 < parameter.abs().max() <= 0.1 for parameter in crf.parameters())
    assert repr(crf) == "CRF(tags=3)"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tags": 0}, "at least one tag"),
        ({"allowed": torch.ones(3, 2, dtype=torch.bool)}, r"allowed must be bool of the shape \(3, 3\)"),
        ({"start_allowed": torch.ones(3)}, r"start_allowed must be bool"),
        ({"end_allowed": torch.ones(2, dtype=torch.bool)}, r"end_allowed must be bool of the shape \(3,\)"),
    ],
)
def test_a_field_that_is_none_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        CRF(**{"tags": 3, **given})


def test_arguments_that_do_not_fit_are_refused() -> None:
    crf, emissions, lengths = CRF(3), torch.zeros(4, 2, 3), torch.tensor([4, 2])
    for wrong in (torch.zeros(4, 2, 2), torch.zeros(4, 3), torch.zeros(0, 2, 3), torch.zeros(4, 0, 3)):
        with pytest.raises(ValueError, match="emissions must have the shape"):
            crf.log_partition(wrong, lengths)
    for bad in (torch.tensor([4]), torch.tensor([5, 2]), torch.tensor([4.0, 2.0]), torch.tensor([4, 0])):
        with pytest.raises(ValueError, match="length"):
            crf.decode(emissions, bad)
    for tags in (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 2)):
        with pytest.raises(ValueError, match="tags must be int64"):
            crf.score(emissions, tags, lengths)
    with pytest.raises(ValueError, match="n must be at least 1"):
        crf.n_best(emissions, lengths, 0)


def test_more_paths_than_a_byte_or_two_can_number() -> None:
    crf = CRF(300)
    emissions = torch.zeros(3, 1, 300)
    for step, tag in enumerate((299, 256, 299)):
        emissions[step, 0, tag] = 9.0
    for paths in (crf.n_best(emissions, torch.tensor([3]), 3), [crf.decode(emissions, torch.tensor([3]))]):
        assert paths[0][0][0] == [299, 256, 299]
    crf = CRF(200)
    torch.nn.init.zeros_(crf.start)
    torch.nn.init.zeros_(crf.transitions)
    found = crf.n_best(torch.arange(200.0).expand(2, 1, 200), torch.tensor([2]), 200)[0]
    assert found[0][0] == [199, 199] and len({tuple(path) for path, _ in found}) == 200
    assert {sum(path) for path, _ in found} == set(range(379, 399))
    for n in (255, 256):
        assert [path for path, _ in CRF(1).n_best(torch.zeros(2, 1, 1), torch.tensor([2]), n)[0]] == [[0, 0]]


def test_rounding_does_not_choose_the_path() -> None:
    """In float32 adding 1 to 2^24 changes nothing, and adding 1.5 adds 2."""
    crf = CRF(2, torch.eye(2, dtype=torch.bool))
    for parameter in crf.parameters():
        torch.nn.init.zeros_(parameter)
    emissions = torch.tensor([[[2.0**24, 2.0**24]], [[1.0, 1.5]], [[1.0, 0.0]]])
    assert crf.decode(emissions, torch.tensor([3])) == [([0, 0, 0], 2.0**24 + 2)]


def peak() -> int:
    """The most bytes that this process has had in memory; on Linux without what its parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
def test_a_long_sequence_is_decoded_in_little_memory() -> None:
    steps, tags = 100_000, 20
    crf, lengths = CRF(tags), torch.tensor([steps])
    emissions = torch.randn(steps, 1, tags, generator=torch.Generator().manual_seed(1))
    crf.decode(emissions[:2], torch.tensor([2]))
    before = peak()
    path, score = crf.decode(emissions, lengths)[0]
    # All moves of all steps in float32 would be 160 MB.
    assert peak() - before < 80e6
    assert len(path) == steps
    assert math.isclose(score, crf.score(emissions, torch.tensor(path).unsqueeze(1), lengths).item(), rel_tol=1e-6)


def test_a_long_sequence_keeps_its_digits() -> None:
    """In float32 as in float64, where the sums themselves are so great that float32 has two digits left."""
    steps, tags = 2_000, 6
    crf, lengths = CRF(tags), torch.tensor([steps])
    random = torch.Generator().manual_seed(1)
    emissions = torch.randn(steps, 1, tags, generator=random) + 100
    gold = torch.randint(tags, (steps, 1), generator=random)
    emissions.scatter_add_(2, gold.unsqueeze(2), torch.full((steps, 1, 1), 8.0))
    with torch.no_grad():
        marginals, likelihood = crf.marginals(emissions, lengths), crf.log_likelihood(emissions, gold, lengths)
        crf.double()
        torch.testing.assert_close(marginals.double(), crf.marginals(emissions, lengths), rtol=1e-3, atol=1e-6)
        expected = crf.log_likelihood(emissions.double(), gold, lengths)
        torch.testing.assert_close(likelihood.double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(marginals.sum(2), torch.ones(steps, 1), rtol=0, atol=1e-4)
