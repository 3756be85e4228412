"""What was measured of a layer, in sentences and as values that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .clipping import ClippedGradient
from .layer_inspection import LayerInspection
from .log_norms import FLOAT32_NOTHING, Averaged, averaged
from .memory import MemoryLength, memory_length

__all__ = ["as_json", "float32_ends", "sentences"]

_TEN = math.log(10)


def float32_ends(inspection: LayerInspection) -> int | None:
    """The lag from which on |dL/dh| (geometric mean) is zero in float32; None: not within the lags."""
    logs = averaged(inspection.gradients["h"]).log_mean if "h" in inspection.gradients else np.zeros(1)
    held = np.flatnonzero(logs >= FLOAT32_NOTHING)
    lag = int(held[-1]) + 1 if len(held) else 0
    return lag if lag < len(logs) and not np.isnan(logs[lag]) else None


def sentences(inspection: LayerInspection) -> list[str]:
    """What is seen, each sentence computed from the numbers."""
    found = []
    if "h" in inspection.gradients:
        found.append(_flow(inspection))
    found.append(_memory(inspection))
    if inspection.exponents is not None:
        found.append(_exponent(inspection))
    if inspection.clipping is not None:
        found.append(_clipping(inspection.clipping))
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in found]


def _flow(inspection: LayerInspection) -> str:
    logs = averaged(inspection.gradients["h"]).log_mean
    shape = memory_length(logs)
    last, rate = shape.looked_at, shape.steps_per_factor_10
    gone = np.flatnonzero(np.isneginf(logs))
    if len(gone) and gone[0] <= 1:
        return "the gradient |dL/dh| is exactly zero " + ("one step back" if gone[0] else "at the last step")
    radius = max(each.radius for each in inspection.spectrum)
    level = rate is None or last / abs(rate) < 1
    if rate is None or level:
        said = f"the gradient |dL/dh| changes by less than a factor of 10 over {last:,} steps"
    else:
        verb = "falls" if rate > 0 else "grows"
        said = f"the gradient |dL/dh| {verb} by a factor of 10 every {_number(abs(rate))} steps"
    ends = float32_ends(inspection)
    if ends is not None:
        said += f"; {ends:,} steps back float32 holds nothing of it"
    else:
        said += f"; {last:,} steps back it is {_power((logs[last] - logs[0]) / _TEN)} times what it is at the last step"
    if radius > 1 and rate is not None and rate > 0 and not level:
        said += (
            f", although a recurrent matrix has the spectral radius {radius:.2f}: the squashing functions and "
            "the gates shrink it more than the matrices stretch it"
        )
    if radius < 1 and (level or (rate is not None and rate < 0)):
        said += (
            f", although no recurrent matrix has a spectral radius above {radius:.2f}: the state is carried past the "
            "matrices"
        )
    return said


def _memory(inspection: LayerInspection) -> str:
    said = f"its memory of h {_lengths(inspection.memory_h)}"
    if len(inspection.cell.states) > 1:
        whole = " and ".join([", ".join(inspection.cell.states[:-1]), inspection.cell.states[-1]])
        said += f", and that of {whole} together {_lengths(inspection.memory_state)}"
    return said


def _lengths(memory: MemoryLength) -> str:
    if memory.to_e is None:
        rate = memory.steps_per_factor_10
        grows = rate is not None and rate < 0
        return f"{'does not fade' if grows else 'lasts longer'} within the {memory.looked_at:,} steps looked at"
    if memory.to_hundredth is None:
        return f"is down to 1/e after {memory.to_e:,} steps and not to a hundredth after {memory.looked_at:,}"
    return f"is down to 1/e after {memory.to_e:,} steps and to a hundredth after {memory.to_hundredth:,}"


def _exponent(inspection: LayerInspection) -> str:
    assert inspection.exponents is not None
    value, steps = float(inspection.exponents[0].mean()), inspection.memory_h.looked_at
    if value == -math.inf:
        return "its largest Lyapunov exponent is minus infinity: its state is wiped out"
    if abs(value) * steps < _TEN:
        meaning = f"too near to zero to tell within {steps:,} steps whether it forgets how it began"
    else:
        meaning = "it forgets how it began" if value < 0 else "it is chaotic, and small changes of its state grow"
    return f"its largest Lyapunov exponent is {value:+.3f} nats a step: {meaning}"


def _clipping(clipped: ClippedGradient) -> str:
    if clipped.log_norm_before == -math.inf:
        return "the gradient dL/dW is zero, and clipping has nothing to do"
    norm = _power(clipped.log_norm_before / _TEN)
    latest = np.exp(clipped.log_contributions[:10] - clipped.log_norm_before).max()
    if clipped.log_factor == 0:
        said = f"the gradient dL/dW has the norm {norm}, which clipping to {clipped.max_norm:g} leaves as it is"
    else:
        factor = _power(clipped.log_factor / _TEN)
        said = f"clipping to {clipped.max_norm:g} multiplies dL/dW, of the norm {norm}, by {factor}"
    steps = "one step makes" if clipped.steps_of_half == 1 else f"{clipped.steps_of_half:,} steps make"
    return (
        f"{said}; before and after, {steps} up half of it, none of the ten latest has more than {latest:.2g} of its "
        f"norm, and {clipped.surviving:.0%} of all steps are more than float32's rounding of the sum"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _power(exponent: float) -> str:
    """A number by its decimal logarithm, which may be out of floating point's reach."""
    if exponent == -math.inf:
        return "0"
    if -3 < exponent < 4:
        return f"{10**exponent:.3g}"
    whole = math.floor(exponent)
    return f"{10 ** (exponent - whole):.1f}e{whole:+d}"


def as_json(inspection: LayerInspection) -> dict[str, Any]:
    """All numbers; docs/inspecting-gradients.md has what each is. Minus infinity stands for the logarithm of zero."""
    jacobian, clipped, exponents = inspection.jacobian, inspection.clipping, inspection.exponents
    return {
        "name": inspection.name,
        "group": inspection.group,
        "cell": repr(inspection.cell),
        "units": inspection.units,
        "sequences": inspection.sequences,
        "gradients": {state: _curve(logs) for state, logs in inspection.gradients.items()},
        "float32_zero_from_lag": float32_ends(inspection),
        "jacobian": {
            "sequences": jacobian.h_frobenius.shape[1],
            "h_frobenius": _curve(jacobian.h_frobenius),
            "state_frobenius": _curve(jacobian.state_frobenius),
            "spectral_lags": list(jacobian.spectral_lags),
            "h_spectral": _curve(jacobian.h_spectral),
            "state_spectral": _curve(jacobian.state_spectral),
        },
        "memory": {"h": vars(inspection.memory_h), "state": vars(inspection.memory_state)},
        "spectrum": [
            {
                "name": each.name,
                "radius": each.radius,
                "norm": each.norm,
                "share_outside": each.outside,
                "eigenvalues": [[value.real, value.imag] for value in each.eigenvalues.tolist()],
            }
            for each in inspection.spectrum
        ],
        "lyapunov": None
        if exponents is None
        else [{"mean": float(row.mean()), "spread": _deviation(row)} for row in exponents],
        "clipping": None
        if clipped is None
        else {
            "max_norm": clipped.max_norm,
            "log10_norm_before": clipped.log_norm_before / _TEN,
            "norm_after": clipped.norm_after,
            "log10_factor": clipped.log_factor / _TEN,
            "log10_contributions": _tens(clipped.log_contributions),
            "surviving": clipped.surviving,
            "steps_of_half": clipped.steps_of_half,
        },
        "sentences": sentences(inspection),
    }


def _curve(logs: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    found: Averaged = averaged(logs)
    names = {"log10_mean": found.log_mean, "log10_spread": found.log_spread, "log10_median": found.log_median}
    return {name: _tens(values) for name, values in names.items()}


def _tens(logs: npt.NDArray[np.float64]) -> list[float]:
    return [round(value, 6) for value in (logs / _TEN).tolist()]


def _deviation(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
