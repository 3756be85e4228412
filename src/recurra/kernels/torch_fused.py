"""torch's own fused kernels (oneDNN, cuDNN, MPS) for the cells that it has: tanh and relu RNN, LSTM, GRU."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..cells import CELLS, Cell
from .call import LayerCall, LayerResult, check_operands, check_range
from .known_cells import key_of
from .surroundings import transformed

__all__ = [
    "flatten",
    "has_step",
    "kind_of",
    "name",
    "packs",
    "refusal",
    "run",
    "run_stack",
    "run_step",
    "widens_autocast",
]

name = "torch"

# The names of torch's kernels in torch._VF; in upper case they are cuDNN's names.
_KINDS = {CELLS["rnn_tanh"]: "rnn_tanh", CELLS["rnn_relu"]: "rnn_relu", CELLS["lstm"]: "lstm", CELLS["gru"]: "gru"}
# torch's single steps by the cells' keys, which torch.compile can look up.
_STEPS = {key_of(cell): getattr(torch._VF, f"{kind}_cell") for cell, kind in _KINDS.items()}


def kind_of(cell: Cell) -> str | None:
    """The name of torch's kernel for a cell, or None."""
    return _KINDS.get(cell)


def refusal(call: LayerCall) -> str | None:
    """Why torch's kernels cannot run this layer, or None when they can."""
    if kind_of(call.cell) is None:
        return f"torch has no kernel for {call.cell!r}"
    if call.recurrent_mask is not None or call.zoneout:
        return "torch has no recurrent dropout or zoneout"
    if call.all_states and len(call.cell.states) > 1:
        return "torch returns only h of each step"
    if call.resets is not None:
        return "torch's kernels never return to an initial state"
    if call.input.shape[0] == 0:
        return "torch needs at least one step"
    if call.lengths is not None and not packs(call.input):
        return "torch packs plain tensors alone"
    if call.projection and call.input.device.type == "mps":
        return "torch has no projection on MPS"
    if transformed():
        return "torch's kernels have no batching or forward-mode rule"
    return None


def packs(input: Tensor) -> bool:
    """Whether torch can pack the rows of an input by their lengths; it cannot for subclasses and meta tensors."""
    return type(input) in (Tensor, torch.nn.Parameter) and input.device.type != "meta"


def widens_autocast(call: LayerCall) -> bool:
    """Whether torch gives this layer's results in full precision under autocast, as its CPU loop of the GRU does."""
    on_cpu_loop = call.input.device.type == "cpu" and kind_of(call.cell) == "gru"
    return on_cpu_loop and not call.zoneout and call.recurrent_mask is None


def run(call: LayerCall) -> LayerResult:
    """Run one layer; see `refusal` for the layers that cannot be run."""
    output, final = run_stack(
        call.cell,
        call.input,
        call.states,
        [tensor for direction in call.weights for tensor in direction.values()],
        bias=call.bias,
        bidirectional=len(call.weights) == 2,
        lengths=call.lengths,
    )
    return LayerResult((output,), final)


def run_stack(
    cell: Cell,
    input: Tensor,
    states: Sequence[Tensor],
    weights: list[Tensor],
    *,
    bias: bool,
    bidirectional: bool,
    num_layers: int = 1,
    dropout: float = 0.0,
    training: bool = False,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one or more like layers in one call.

    Args:
        cell: one that `kind_of` knows.
        input: (T, B, I), or with `batch_sizes` the data of a PackedSequence, (N, I).
        states: each (num_layers*D, B, H).
        weights: the parameters of each direction of each layer, one layer after the other, in torch.nn's order.
        bias: whether there are biases.
        bidirectional: whether D is 2.
        num_layers: how many layers.
        dropout: ordinary dropout between the layers.
        training: whether dropout drops.
        lengths: (B,), steps that count in each row of a padded input. Moved to the CPU, where torch packs.
        batch_sizes: as in a PackedSequence.

    Returns:
        Outputs, padded or packed as the input is, (T, B, D*H) or (N, D*H); each final state (num_layers*D, B, H).
    """
    if lengths is not None:
        return _run_lengths(
            cell, input, states, weights, lengths, bias=bias, bidirectional=bidirectional, num_layers=num_layers,
            dropout=dropout, training=training,
        )  # fmt: skip
    check_operands(input, *states, *weights)
    # cuDNN takes contiguous states only; learnt initial states are expanded views.
    contiguous = [state.contiguous() for state in states]
    hx = contiguous if len(states) > 1 else contiguous[0]
    function = getattr(torch._VF, kind_of(cell) or "")
    if input.is_cuda and not dropout and torch.is_grad_enabled() and not torch.jit.is_tracing():
        # cuDNN keeps the values that its backward pass needs only if `training` is set, which changes nothing else when
        # there is no dropout. A trace would keep the flag for ever and is left alone.
        training = True
    options = (bias, num_layers, dropout, training, bidirectional)
    with warnings.catch_warnings():
        if input.is_cuda and not all(weight.is_leaf for weight in weights):
            # Weights that dropout or a parametrization computes in each call cannot lie in cuDNN's one flat buffer.
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        if batch_sizes is not None:
            output, *final = function(input, batch_sizes, hx, weights, *options)
        else:
            output, *final = function(input, hx, weights, *options, False)
    return output, tuple(final)


def has_step(key: str) -> bool:
    """Whether torch has a single step of the cell of a key; torch.compile can trace this."""
    return key in _STEPS


def run_step(key: str, input: Tensor, states: tuple[Tensor, ...], weights: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """One differentiable step from input (B, I) and states (B, H) to the new states, as torch.nn's LSTMCell takes it.

    Args:
        key: of a cell for which `has_step` holds.
        input: (B, I).
        states: each (B, H).
        weights: the cell's parameters by name.
    """
    hx = states if len(states) > 1 else states[0]
    biases = weights.get("bias_ih"), weights.get("bias_hh")
    new = _STEPS[key](input, hx, weights["weight_ih"], weights["weight_hh"], *biases)
    return tuple(new) if len(states) > 1 else (new,)


def _run_lengths(
    cell: Cell, input: Tensor, states: Sequence[Tensor], weights: list[Tensor], lengths: Tensor, **options: object
) -> tuple[Tensor, tuple[Tensor, ...]]:
    # A trace is run on other numbers later, so nothing that is recorded may depend on the present numbers.
    tracing = torch.jit.is_tracing()
    if not tracing and input.shape[1] == 0:
        return run_stack(cell, input, states, weights, **options)  # type: ignore[arg-type]
    on_cpu = lengths.detach().to("cpu", torch.int64)
    if not tracing:
        check_range(on_cpu, input.shape[0])
    # torch packs no empty rows. An empty row gets one step of zeros here, and its results are replaced below.
    empty = on_cpu == 0
    any_empty = tracing or bool(empty.any())
    if any_empty:
        rows = empty.to(input.device)[:, None]
        input = torch.where(rows, input.new_zeros(()), input)
    packed = pack_padded_sequence(input, on_cpu + empty, enforce_sorted=False)
    order, inverse = packed.sorted_indices, packed.unsorted_indices
    assert order is not None and inverse is not None
    sorted_states = [state.index_select(1, order) for state in states]
    data, final = run_stack(
        cell,
        packed.data,
        sorted_states,
        weights,
        batch_sizes=packed.batch_sizes,
        **options,  # type: ignore[arg-type]
    )
    output, _ = pad_packed_sequence(packed._replace(data=data), total_length=input.shape[0])
    final = tuple(state.index_select(1, inverse) for state in final)
    if any_empty:
        output = torch.where(rows, output.new_zeros(()), output)
        final = tuple(torch.where(rows, old.to(new.dtype), new) for old, new in zip(states, final, strict=True))
    return output, final


def flatten(
    cell: Cell,
    weights: Sequence[Tensor],
    *,
    bias: bool,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bidirectional: bool,
) -> None:
    """Move weights on CUDA into one buffer, so that cuDNN need not copy them in each call; do nothing elsewhere.

    Args:
        weights: the parameters of like layers, in torch's order.
    """
    kind = kind_of(cell)
    first = weights[0]
    if kind is None or not first.is_cuda or not torch.backends.cudnn.is_acceptable(first):
        return
    if not torch._use_cudnn_rnn_flatten_weight():
        return
    shared = len({weight.data_ptr() for weight in weights}) < len(weights)
    if shared or any(weight.dtype != first.dtype or not weight.is_cuda for weight in weights):
        return
    from torch.backends.cudnn import rnn

    per_direction = 2 + 2 * bias + (proj_size > 0)
    with torch.cuda.device_of(first), torch.no_grad():
        torch._cudnn_rnn_flatten_weight(
            list(weights), per_direction, input_size, rnn.get_cudnn_mode(kind.upper()), hidden_size, proj_size,
            num_layers, False, bidirectional,
        )  # fmt: skip
