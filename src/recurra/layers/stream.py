"""One step at a time through a stack of layers, for inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..kernels.stepping import stepping
from .states import join_layers

if TYPE_CHECKING:
    from .recurrent import Recurrent

__all__ = ["Stream"]


class Stream:
    """Steps through time with its own state; what it gives is what `forward` gives in evaluation, step by step.

    Weights are copied when the stream is made; make another after an update. No gradients.

    Args:
        layer: the layers; one direction.
        batch_size: B, sequences that run side by side.

    Raises:
        ValueError: if the layers are bidirectional: the backward direction would need the future.
    """

    def __init__(self, layer: Recurrent, batch_size: int = 1) -> None:
        if layer.bidirectional:
            raise ValueError("a bidirectional layer cannot stream: its backward direction needs the future")
        if batch_size < 0:
            raise ValueError(f"batch_size must not be negative, but is {batch_size}")
        self._layer = layer
        self.batch_size = batch_size
        with torch.no_grad(), _evaluating(layer):
            weights = [
                {name: weight.detach() for name, weight in layer.layer_weights(index)[0].items()}
                for index in range(layer.num_layers)
            ]
            self._initial = [
                tuple(state.clone() for state in states)
                for states in layer.initial_states(batch_size, weights[0]["weight_ih"])
            ]
            highways = [layer.highway_weights(index) for index in range(layer.num_layers)]
            self._highways = [None if pair is None else (pair[0].clone(), pair[1].clone()) for pair in highways]
            self._layers = [
                stepping(layer.cell, by_name, tuple(state[0] for state in states), layer.zoneout)
                for by_name, states in zip(weights, self._initial, strict=True)
            ]
        self._output_is_state = self._layers[-1].output_is_state

    def step(self, x: Tensor) -> Tensor:
        """Take one step: input (B, I) to output (B, P).

        Raises:
            ValueError: if the input has another shape.
            RuntimeError: inside a function transform, a trace or a tensor mode of torch, and for a tensor subclass: the
                stream's state would not take part. While torch compiles, the graph breaks at a step.
        """
        if torch.compiler.is_compiling():
            # Imported here because it imports torch's compiler. An export that does not compile calls it too, and
            # `_step` then refuses the input.
            from .graph_break import call_outside_of_graphs

            output: Tensor = call_outside_of_graphs(self._step, x)
            return output
        return self._step(x)

    def _step(self, x: Tensor) -> Tensor:
        _check_plain(x)
        layer = self._layer
        if x.shape != (self.batch_size, layer.input_size):
            raise ValueError(f"a step takes ({self.batch_size}, {layer.input_size}), not {tuple(x.shape)}")
        if x.requires_grad:
            x = x.detach()
        bypasses = layer.residual != "none"
        for index, stepper in enumerate(self._layers):
            output = stepper.step(x)
            x = layer.bypass(index, x, output, self._highways[index]) if bypasses else output
        return x.clone() if self._output_is_state else x

    @torch.no_grad()
    def reset(self, rows: Tensor | Sequence[int] | None = None) -> None:
        """Return to the initial state: all rows, or only those named by index or by a mask (B,)."""
        for stepper, initial in zip(self._layers, self._initial, strict=True):
            first = tuple(state[0] for state in initial)
            if rows is None:
                stepper.states = first
                continue
            chosen = torch.as_tensor(rows, device=first[0].device)
            if chosen.numel() == 0:
                return
            # Copies, since a caller may still hold the state.
            states = tuple(state.clone() for state in stepper.states)
            for state, start in zip(states, first, strict=True):
                state[chosen] = start[chosen]
            stepper.states = states

    @property
    def state(self) -> Any:
        """The present state in the form of `forward`'s hx; may be set."""
        layers = [tuple(state.unsqueeze(0).clone() for state in stepper.states) for stepper in self._layers]
        return join_layers(layers, self._layer.uniform, True)

    @state.setter
    def state(self, hx: Any) -> None:
        like = self._initial[0][0]
        layers = self._layer.layer_states(hx, self.batch_size, like)
        for stepper, states in zip(self._layers, layers, strict=True):
            stepper.states = tuple(state[0].detach().to(like.device, copy=True) for state in states)


@contextmanager
def _evaluating(layer: Recurrent) -> Iterator[None]:
    """The layer and all modules in it, such as parametrizations, in evaluation; afterwards each as it was."""
    flags = {module: module.training for module in layer.modules()}
    layer.eval()
    try:
        # These write the weight that they compute only when the layer is called.
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                hook(layer, ())
        yield
    finally:
        for module, training in flags.items():
            module.training = training


# Bound once, for a step takes a few microseconds.
_transform, _dispatch_modes, _is_tracing = (
    torch._C._functorch.peek_interpreter_stack,
    torch._C._len_torch_dispatch_stack,
    torch._C._is_tracing,
)


def _check_plain(x: Tensor) -> None:
    """Raise RuntimeError for a tensor on which torch would want to follow what is done to it."""
    if (
        (type(x) is Tensor or type(x) is Parameter)
        and _transform() is None
        and forward_ad._current_level < 0
        and not _dispatch_modes()
        and not _is_tracing()
    ):
        return
    raise RuntimeError(
        "a stream takes plain tensors outside of vmap, jvp, grad, tracing and fake tensors, for it holds its own "
        "state; call the layer itself there"
    )
