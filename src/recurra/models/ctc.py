"""What must be known of targets before `torch.nn.functional.ctc_loss`, which is the loss of connectionist temporal
classification here (CTC; Graves et al. 2006).

torch's loss is right where it is asked the right thing. Its traps:

- **A target that does not fit into its frames has an infinite loss**, and NaN as gradients. A target needs a frame for
  each label, and one more for the blank between two equal labels. With `zero_infinity=True` loss and gradients of such
  a row are zero: the row teaches nothing, and nobody is told. So find such rows before the training, with
  `rows_without_alignment`, and name them.
- **An empty target is legal**: its loss is that of blanks alone.
- **reduction="mean"** divides each row's loss by the number of its labels, at least 1, and then takes the mean.
- **The gradient is right only behind a log_softmax.** torch gives exp(log_probs) less the shares of the labels, which
  is the gradient by the logits. Finite differences by `log_probs` alone do not agree with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["ctc_frames_needed", "rows_without_alignment"]


def ctc_frames_needed(target: Sequence[int]) -> int:
    """The fewest frames that a target fits into: one a label, and one for the blank between two equal labels."""
    return len(target) + sum(one == other for one, other in itertools.pairwise(target))


def rows_without_alignment(targets: Sequence[Sequence[int]], frames: Sequence[int]) -> list[int]:
    """The rows whose target does not fit into their frames, for which the loss is infinite.

    Args:
        targets: labels of each row, without blanks and padding.
        frames: of each row, as the loss is given them: after all subsampling.

    Raises:
        ValueError: if there are not as many targets as numbers of frames.
    """
    pairs = zip(targets, frames, strict=True)
    return [row for row, (target, count) in enumerate(pairs) if ctc_frames_needed(target) > count]
