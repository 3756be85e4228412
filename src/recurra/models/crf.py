"""A linear-chain conditional random field: it chooses the tags of a sequence together, not one by one.

A recurrent net gives each tag a number at each step, its emission. The field adds a number for each pair of
neighbouring tags, for the first tag and for the last (Lafferty, McCallum & Pereira 2001; over a recurrent net Huang,
Xu & Yu 2015 and Lample et al. 2016). The score of the path of tags y_1 ... y_T is

    s(x, y) = start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_T]

and its probability is p(y | x) = exp(s(x, y)) / Z(x) (Lample et al. 2016, section 2.2). Z(x), the partition, is the sum
of exp(s(x, y)) over all paths. Moves from tag to tag can be forbidden; a path with a forbidden move has the score minus
infinity and the probability zero.

T is steps, B rows, K tags. Padding stands after a row's last step and is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..layers.checks import check_lengths
from .crf_passes import LogPartition, Rows, backward_pass, best_paths, forward_pass, refuse_without_path, wide

__all__ = ["CRF", "legal_moves"]


class CRF(nn.Module):
    """The field over K tags.

    Sums are in float32, or in float64 where the emissions or the parameters are. Gradients can be taken once, not of
    gradients. Every method raises a ValueError where the shapes of its arguments do not fit, or a length is not one of
    1 to T.

    Args:
        tags: K.
        allowed: (K, K) bool, whether the tag of the column may follow the tag of the row; None: all may.
        start_allowed, end_allowed: (K,) bool, whether a sequence may start or end with a tag; None: with any.

    Attributes:
        transitions: (K, K), from the tag of the row to the tag of the column.
        start, end: (K,).

    Raises:
        ValueError: if there is no tag, or a mask has another shape or is not bool.
    """

    allowed: Tensor | None
    start_allowed: Tensor | None
    end_allowed: Tensor | None

    def __init__(
        self,
        tags: int,
        allowed: Tensor | None = None,
        start_allowed: Tensor | None = None,
        end_allowed: Tensor | None = None,
    ) -> None:
        super().__init__()
        if tags < 1:
            raise ValueError(f"a CRF needs at least one tag, not {tags}")
        self.tags = tags
        self.transitions = nn.Parameter(torch.empty(tags, tags).uniform_(-0.1, 0.1))
        self.start = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))
        masks = {"allowed": allowed, "start_allowed": start_allowed, "end_allowed": end_allowed}
        for name, mask in masks.items():
            shape = (tags, tags) if name == "allowed" else (tags,)
            if mask is not None and (tuple(mask.shape) != shape or mask.dtype != torch.bool):
                raise ValueError(f"{name} must be bool of the shape {shape}, not {mask.dtype} of {tuple(mask.shape)}")
            self.register_buffer(name, mask, persistent=False)

    def extra_repr(self) -> str:
        return f"tags={self.tags}"

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """log Z of each row (Lample et al. 2016, equation 1): (B,).

        Args:
            emissions: (T, B, K).
            lengths: (B,) int64 on the CPU, the steps of each row.

        Raises:
            ValueError: if all paths of a row are forbidden; it names the row.
        """
        steps, rows = self._read(emissions, lengths)
        return self._log_partition(steps, rows).to(steps.dtype)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """The score of one path a row, minus infinity where it is forbidden: (B,).

        Args:
            emissions: (T, B, K).
            tags: (T, B) int64, from 0 to K - 1; anything in the padding.
            lengths: (B,) int64 on the CPU, the steps of each row.
        """
        steps, rows = self._read(emissions, lengths)
        return self._score(emissions, tags, rows).to(steps.dtype)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """log p(y | x) of one path a row, minus infinity where it is forbidden: (B,).

        Args:
            emissions: (T, B, K).
            tags: (T, B) int64, from 0 to K - 1; anything in the padding.
            lengths: (B,) int64 on the CPU, the steps of each row.

        Raises:
            ValueError: if all paths of a row are forbidden; it names the row.
        """
        steps, rows = self._read(emissions, lengths)
        # For a long sequence both numbers are large and close to each other, so they are subtracted before they are
        # rounded to float32.
        return (self._score(emissions, tags, rows) - self._log_partition(steps, rows)).to(steps.dtype)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The probability of each tag at each step, the sum of those of all paths through it: (T, B, K).

        It is zero in the padding. These probabilities are the gradient of `log_partition`, and the same pass makes
        both. It is called here without autograd, so that it works in inference mode too; they have no gradients.

        Args:
            emissions: (T, B, K).
            lengths: (B,) int64 on the CPU, the steps of each row.

        Raises:
            ValueError: if all paths of a row are forbidden; it names the row.
        """
        steps, rows = self._read(emissions, lengths)
        transitions, start, end = self._moves(steps)
        alpha, total = forward_pass(steps, transitions, start, end, rows)
        refuse_without_path(total, rows)
        shares, _ = backward_pass(alpha, transitions, end, rows, torch.ones_like(total))
        found = shares.new_zeros(emissions.shape)
        found[: len(shares)] = shares.index_select(1, rows.places.to(shares.device))
        return found

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> list[tuple[list[int], float]]:
        """The best path of each row and its score, by Viterbi's algorithm in float64 on the CPU.

        Of paths with the same score, the one with the lower last tag is given; where they have the same last tag, the
        one with the lower tag before it, and so on.

        Args:
            emissions: (T, B, K).
            lengths: (B,) int64 on the CPU, the steps of each row.

        Raises:
            ValueError: if all paths of a row are forbidden; it names the row.
        """
        steps, rows = self._read_exactly(emissions, lengths)
        return [paths[0] for paths in best_paths(steps, *self._moves(steps), rows, 1)]

    @torch.no_grad()
    def n_best(self, emissions: Tensor, lengths: Tensor, n: int) -> list[list[tuple[list[int], float]]]:
        """The n best paths of each row and their log-probabilities, best first; fewer where fewer are allowed.

        The search is exact, and no path stands twice. Paths with the same score stand in the order that `decode`
        describes, so the first path is the one of `decode`.

        Args:
            emissions: (T, B, K).
            lengths: (B,) int64 on the CPU, the steps of each row.
            n: at least 1.

        Raises:
            ValueError: if n is below 1, or all paths of a row are forbidden; it names the row.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        steps, rows = self._read_exactly(emissions, lengths)
        found = best_paths(steps, *self._moves(steps), rows, n)
        totals = self._log_partition(steps, rows).tolist()
        return [[(path, score - total) for path, score in paths] for paths, total in zip(found, totals, strict=True)]

    def _read(self, emissions: Tensor, lengths: Tensor) -> tuple[Tensor, Rows]:
        """Emissions in the dtype of the sums, with the longest row first, without steps that no row has."""
        if emissions.dim() != 3 or emissions.shape[2] != self.tags or not emissions.numel():
            raise ValueError(f"emissions must have the shape (T, B, {self.tags}), not {tuple(emissions.shape)}")
        checked = check_lengths(lengths, emissions.shape[1], emissions.shape[0]).to("cpu", torch.int64)
        if int(checked.min()) < 1:
            raise ValueError(f"row {int(checked.argmin())} has no steps; every length must be at least 1")
        rows = Rows(checked)
        dtype = torch.promote_types(torch.promote_types(emissions.dtype, self.transitions.dtype), torch.float32)
        steps = emissions[: len(rows.active)].to(dtype)
        return steps.index_select(1, rows.order.to(emissions.device)), rows

    def _read_exactly(self, emissions: Tensor, lengths: Tensor) -> tuple[Tensor, Rows]:
        """As `_read`, in float64 on the CPU.

        In float64 the sum of float32 numbers of like size is all but exact, so paths that should have the same score do
        have it, and the last digits of long sums do not choose the path.
        """
        return self._read(emissions.detach().cpu().double(), lengths)

    def _moves(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions, start and end, minus infinity where forbidden, with the device and dtype of another tensor."""

        def masked(values: Tensor, mask: Tensor | None) -> Tensor:
            values = values if mask is None else values.masked_fill(~mask, -torch.inf)
            return values.to(like.device).to(like.dtype)

        return (
            masked(self.transitions, self.allowed),
            masked(self.start, self.start_allowed),
            masked(self.end, self.end_allowed),
        )

    def _log_partition(self, steps: Tensor, rows: Rows) -> Tensor:
        """log Z (B,) in the caller's order, in the dtype of `wide`."""
        total = cast(Tensor, LogPartition.apply(steps, *self._moves(steps), rows))
        refuse_without_path(total, rows)
        return total.index_select(0, rows.places.to(total.device))

    def _score(self, emissions: Tensor, tags: Tensor, rows: Rows) -> Tensor:
        """The score (B,) of emissions in the caller's order, in the dtype of `wide`."""
        shape = tuple(emissions.shape[:2])
        if tuple(tags.shape) != shape or tags.dtype != torch.int64:
            raise ValueError(f"tags must be int64 of the shape {shape}, not {tags.dtype} of {tuple(tags.shape)}")
        last = rows.last.index_select(0, rows.places).to(emissions.device).unsqueeze(0)
        tags = tags.masked_fill(torch.arange(len(tags), device=tags.device).unsqueeze(1) > last, 0)
        steps = emissions.gather(2, tags.unsqueeze(2)).squeeze(2).to(wide(emissions))
        transitions, start, end = self._moves(steps)
        steps = steps + torch.cat([start[tags[:1]], transitions[tags[:-1], tags[1:]]])
        # A running sum, so that the padding cannot change how a row's sum is rounded.
        return (steps.cumsum(0).gather(0, last) + end[tags.gather(0, last)]).squeeze(0)


def legal_moves(labels: Sequence[str], scheme: Literal["bio", "bioes"]) -> tuple[Tensor, Tensor, Tensor]:
    """Which labels of chunks may follow one another, start and end a sequence: the three masks that `CRF` takes.

    A label is O, or a letter and the type of its chunk, as B-PER; a letter alone has the empty type. In bio (IOB2,
    Tjong Kim Sang & Veenstra 1999), I follows only B or I of its type. In bioes (IOBES, Lample et al. 2016, section
    2.4), B and I are followed by I or E of the same type and by nothing else, and I and E follow nothing else; S is a
    chunk of one word.

    Args:
        labels: the K labels in the order of the tags.
        scheme: bio or bioes.

    Raises:
        ValueError: for a label that the scheme does not have, which it names, or a scheme that is neither.
    """
    if scheme not in ("bio", "bioes"):
        raise ValueError(f"there is no scheme {scheme}, only bio and bioes")
    parts = [_parts(label, scheme) for label in labels]
    inside = torch.tensor([letter in ("I", "E") for letter, _ in parts], dtype=torch.bool, device="cpu")
    opened = torch.tensor([letter in ("B", "I") for letter, _ in parts], dtype=torch.bool, device="cpu")
    same = torch.tensor([[one == other for _, other in parts] for _, one in parts], dtype=torch.bool, device="cpu")
    goes_on = opened.unsqueeze(1) & inside & same
    if scheme == "bio":
        return goes_on | ~inside, ~inside, torch.ones_like(inside)
    return goes_on | ~(opened.unsqueeze(1) | inside), ~inside, ~opened


def _parts(label: str, scheme: str) -> tuple[str, str]:
    """The letter and the type of a label."""
    letter, hyphen, kind = label.partition("-")
    if letter not in tuple(scheme.upper()) or bool(hyphen) != bool(kind) or (letter == "O" and hyphen):
        raise ValueError(f"{label!r} is no label of the scheme {scheme}")
    return letter, kind
