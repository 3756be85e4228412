"""One module for every cell: stacked layers, directions, regularisation, variable lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from ..kernels import LayerCall, run_layer
from ..kernels.dispatch import keeps_packed, stack_runner
from ..kernels.packing import PackedRows
from .checks import check_hidden, check_input, check_lengths, check_resets
from .doors import JaggedRows, LeftPadding, as_one_node, proxy_in
from .parameters import RecurrentParameters
from .regularize import keep_mask, locked_mask
from .states import LayerStates, join_layers, split_layers
from .stream import Stream

__all__ = ["Recurrent"]


class Recurrent(RecurrentParameters):
    """Any recurrent cell as a stack of layers, with torch.nn.LSTM's arguments, shapes and parameter names.

    T is steps, B rows, I input_size, H hidden_size, P proj_size or else H, D directions (2 if bidirectional), L layers.

    Args:
        cell: a name of `recurra.cells`, FILE.py:CLASS, or a `Cell`.
        input_size: I.
        hidden_size: H, or one size for each layer.
        num_layers: L; may be left out where `hidden_size` lists sizes.
        bias: whether there are biases; both, as in torch.nn.
        batch_first: whether input and output are (B, T, ...) instead of (T, B, ...).
        dropout: probability of ordinary dropout on the output of each layer but the last.
        bidirectional: whether each layer also runs backwards in time.
        proj_size: if positive, h is projected to P units (Sak, Senior & Beaufays 2014); only for cells that use h
            in products alone.
        device, dtype: of the parameters.
        input_dropout: locked dropout on the input: one mask for all steps of a sequence (Gal & Ghahramani 2016).
        locked_dropout: locked dropout between layers.
        recurrent_dropout: locked dropout on what enters the product with `weight_hh`.
        zoneout: probability with which each unit of each state keeps its old value (Krueger et al. 2017); at
            evaluation old and new are mixed in that proportion.
        weight_dropout: dropout on `weight_hh`, drawn once a call (Merity, Keskar & Socher 2018).
        residual: "residual" adds each layer's input to its output, "highway" mixes them by a learnt gate (Srivastava
            et al. 2015); from the second layer on.
        merge: how the two directions become one output: "concat", "sum" or "mean".
        forget_bias: initial bias of the forget gate (Gers et al. 2000 and Jozefowicz et al. 2015: 1); None leaves it as
            torch.nn does.
        learn_initial_state: whether the state before the first step is a parameter, starting at zero.

    Raises:
        TypeError, ValueError: for a wrong argument, as torch.nn does.

    Differentiable twice, but not through cuDNN, which has no second derivative: on CUDA do that inside
    `recurra.backend("reference")`.

    Parameters are named and shaped as torch.nn's (`weight_ih_l0` ... `bias_hh_l1_reverse`), uniform in
    +-1/sqrt(H); a cell's own (such as `weight_ci_l0`, H) follow them.
    """

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | np.ndarray | Sequence[int] | None = None,
        padding: Literal["right", "left"] = "right",
        resets: Tensor | np.ndarray | None = None,
        return_all_states: bool = False,
    ) -> Any:
        """Run over whole sequences.

        Args:
            input: (T, B, I), or (B, T, I) if `batch_first`, or (T, I) for one sequence, or a PackedSequence, or a
                nested tensor of the layout torch.jagged, (B, j, I) whatever `batch_first` says.
            hx: states before the first step. A cell with the one state h: (L*D, B, P), without B if the input has
                none. A cell with more: a tuple of one such tensor a state (h, c: (L*D, B, P), (L*D, B, H)). With a size
                for each layer: in each tensor's place a list of L tensors (D, B, H_l). None: zeros, or what was learnt.
            lengths: (B,) integers in a tensor on any device, a NumPy array or a sequence: how many steps of each row
                count. Outputs beyond are zero, final states are those after the last step that counts; zero is
                allowed. torch's kernels need them on the CPU and wait for those that lie on another device; the
                reference does not.
            padding: with `lengths`, where the padding of each row lies: after its steps ("right") or before them
                ("left"). The outputs lie where the input lies; all numbers are the same for both.
            resets: booleans, one for each step of each row: (T, B), or as the input is, (B, T) or (T,). Where True, a
                new sequence begins with that step: the states of every layer return to what they are without hx, zeros
                or what was learnt, and no gradient goes back beyond. The same as a call for each piece, in one call:
                for episodes that end (`done`) and for many documents in one stream. The backward direction returns
                where it leaves a piece. Only for padded input.
            return_all_states: also return every state of every step.

        Returns:
            output: as the input, with D*P features (P if the directions are merged by sum or mean).
            hx: states after the last step, shaped as the argument.
            all_states: only if asked for: for each layer a named tuple with each state of the cell, (T, B, D*H), before
                residual connections and dropout; batch first, nested or without B as the output is.

        Raises:
            RuntimeError, ValueError: for a wrong shape, dtype or length, as torch.nn does.
        """
        # A plain tensor alone goes straight on.
        special = type(input) is not Tensor
        proxy = proxy_in(input, hx, lengths, resets) if special or not (hx is lengths is resets is None) else None
        if proxy is not None:
            given = {"hx": hx, "lengths": lengths, "padding": padding, "resets": resets}
            return as_one_node(self, proxy, input, {**given, "return_all_states": return_all_states})
        if padding not in ("right", "left"):
            raise ValueError(f"padding must be 'right' or 'left', not {padding!r}")
        if padding == "left" and lengths is None:
            raise ValueError("padding='left' needs lengths, which say how many steps of each row count")
        if isinstance(input, PackedSequence) or input.is_nested:
            if lengths is not None:
                raise ValueError(f"a {type(input).__name__} brings its own lengths; give lengths=None")
            if resets is not None:
                raise ValueError("resets are for padded input; pad the sequences and give their lengths")
            if isinstance(input, PackedSequence):
                return self._forward_packed(input, hx, return_all_states)
            return self._forward_nested(input, hx, return_all_states)
        if input.dim() not in (2, 3):
            raise ValueError(f"the input must have 2 or 3 dimensions, not {input.dim()}")
        batched = input.dim() == 3
        if resets is not None:
            resets = check_resets(resets, tuple(input.shape[:-1]), input.device)
        if not batched:
            if lengths is not None:
                raise ValueError("lengths are for batched input; cut a single sequence instead")
            input = input.unsqueeze(1)
            resets = None if resets is None else resets.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
            resets = None if resets is None else resets.transpose(0, 1)
        check_input(input, self.input_size, self.weight_dtype)
        steps, batch = input.shape[:2]
        states = self.layer_states(hx, batch, input, batched)
        checked = None if lengths is None else check_lengths(lengths, batch, steps)
        left = LeftPadding(checked, steps, input.device) if padding == "left" and checked is not None else None
        if left is not None:
            input = left.to_right(input)
            resets = None if resets is None else left.to_right(resets)
        output, final, all_states = self._run(input, states, checked, return_all_states, resets=resets)

        def shown(value: Tensor) -> Tensor:
            if left is not None:
                value = left.to_left(value)
            return value.squeeze(1) if not batched else value.transpose(0, 1) if self.batch_first else value

        return self._results(shown(output), final, all_states, return_all_states, shown, batched)

    def _results(
        self,
        output: Any,
        final: LayerStates,
        all_states: list[tuple[Tensor, ...]],
        return_all_states: bool,
        shown: Callable[[Tensor], Tensor],
        batched: bool = True,
    ) -> Any:
        """What `forward` returns, each state of every step as it is shown."""
        joined = join_layers(final, self.uniform, batched)
        if not return_all_states:
            return output, joined
        return output, joined, [self.state_tuple(*map(shown, layer)) for layer in all_states]

    def _forward_nested(self, nested: Tensor, hx: Any, return_all_states: bool) -> Any:
        rows = JaggedRows(nested)
        check_input(rows.padded, self.input_size, self.weight_dtype)
        states = self.layer_states(hx, rows.padded.shape[1], rows.padded)
        output, final, all_states = self._run(rows.padded, states, rows.lengths, return_all_states)
        return self._results(rows.nested(output), final, all_states, return_all_states, rows.nested)

    def layer_states(self, hx: Any, batch: int, like: Tensor, batched: bool = True) -> LayerStates:
        """The states that `forward` starts from, checked: those in hx, or the initial ones."""
        if hx is None:
            return self.initial_states(batch, like)
        layers = split_layers(hx, len(self.cell.states), self.num_layers, self.num_directions, self.uniform, batched)
        for layer, states in enumerate(layers):
            check_hidden(states, self.state_shapes(layer, batch))
        return layers

    def _forward_packed(self, packed: PackedSequence, hx: Any, return_all_states: bool) -> Any:
        check_input(packed.data, self.input_size, self.weight_dtype)
        if packed.data.dim() != 2:
            raise RuntimeError(f"a PackedSequence's data must have 2 dimensions, not {packed.data.dim()}")
        states = self.layer_states(hx, int(packed.batch_sizes[0]), packed.data)
        order, inverse = packed.sorted_indices, packed.unsorted_indices
        if keeps_packed(self, packed.data, return_all_states):
            if order is not None:
                states = [tuple(state.index_select(1, order) for state in layer) for layer in states]
            output, final, _ = self._run(packed.data, states, None, False, packed.batch_sizes)
            if inverse is not None:
                final = [tuple(state.index_select(1, inverse) for state in layer) for layer in final]
            return packed._replace(data=output), join_layers(final, self.uniform, True)
        rows = PackedRows(packed.batch_sizes, packed.data.device)
        if order is not None:
            states = [tuple(state.index_select(1, order) for state in layer) for layer in states]
        output, final, all_states = self._run(rows.padded(packed.data), states, rows.lengths, return_all_states)
        if inverse is not None:
            final = [tuple(state.index_select(1, inverse) for state in layer) for layer in final]

        def shown(state: Tensor) -> Tensor:
            return state if inverse is None else state.index_select(1, inverse)

        repacked = packed._replace(data=rows.packed(output))
        return self._results(repacked, final, all_states, return_all_states, shown)

    def _locked(self, value: Tensor, p: float, batch_sizes: Tensor | None) -> Tensor:
        """Locked dropout of (T, B, F), or of packed (N, F)."""
        if batch_sizes is None:
            return value * locked_mask(value, p, (1, *value.shape[1:]))
        mask = locked_mask(value, p, (int(batch_sizes[0]), value.shape[1]))
        return value * torch.cat([mask[: int(size)] for size in batch_sizes])

    @property
    def like_torch(self) -> bool:
        """Whether torch.nn has such layers: a plain stack without zoneout or, at present, recurrent dropout."""
        return self.stackable and not self.zoneout and not (self.recurrent_dropout and self.training)

    def _run_stack(
        self,
        run: Callable[..., tuple[Tensor, tuple[Tensor, ...]]],
        input: Tensor,
        states: LayerStates,
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
    ) -> tuple[Tensor, LayerStates]:
        """All layers in one call of a function that `stack_runner` returned."""
        weights = [w for layer in range(self.num_layers) for d in self.layer_weights(layer) for w in d.values()]
        joined = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*states, strict=True)]
        output, final = run(
            self.cell,
            input,
            joined,
            weights,
            bias=self.bias,
            bidirectional=self.bidirectional,
            num_layers=self.num_layers,
            dropout=self.dropout,
            # cuDNN's backward pass needs the flag; without dropout nothing else depends on it.
            training=self.training or (input.is_cuda and not self.dropout and torch.is_grad_enabled()),
            lengths=lengths,
            batch_sizes=batch_sizes,
        )
        if self.num_layers == 1:
            # Not split, because autograd lets nobody change in place what split returns.
            return output, [final]
        return output, list(zip(*[state.split(self.num_directions) for state in final], strict=True))

    def _run(
        self,
        input: Tensor,
        states: LayerStates,
        lengths: Tensor | None,
        all_states: bool,
        batch_sizes: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, LayerStates, list[tuple[Tensor, ...]]]:
        """Padded input, time first, or packed input with its batch_sizes, through all layers."""
        if self.input_dropout and self.training:
            input = self._locked(input, self.input_dropout, batch_sizes)
        # A single padded layer is the same call for a backend whether it is run as a stack or as a layer.
        if resets is None and (self.num_layers > 1 or batch_sizes is not None or torch.jit.is_tracing()):
            ragged = lengths is not None or batch_sizes is not None
            run = stack_runner(self, input, all_states, ragged)
            if run is not None:
                output, final = self._run_stack(run, input, states, lengths, batch_sizes)
                return output, final, []
        final, kept = [], []
        restart = None if resets is None else self.initial_states(1, input)
        for layer in range(self.num_layers):
            call = self._layer_call(layer, input, states[layer], lengths, all_states, batch_sizes)
            if restart is not None:
                call = replace(call, resets=resets, restart=restart[layer])
            result = run_layer(call)
            final.append(result.final)
            kept.append(result.outputs)
            input = self.after_layer(layer, input, result.outputs[0], batch_sizes)
        if all_states and input is kept[-1][0]:
            # Whoever changes the output in place leaves the states as they were.
            kept[-1] = (input.clone(), *kept[-1][1:])
        return input, final, kept

    def _layer_call(
        self,
        layer: int,
        input: Tensor,
        states: tuple[Tensor, ...],
        lengths: Tensor | None,
        all_states: bool,
        batch_sizes: Tensor | None,
    ) -> LayerCall:
        recurrent_mask = None
        masks: tuple[Tensor, ...] = ()
        if self.training and (self.recurrent_dropout or self.zoneout):
            shapes = self.state_shapes(layer, states[0].shape[1])
            if self.recurrent_dropout:
                recurrent_mask = locked_mask(input, self.recurrent_dropout, shapes[0])
            if self.zoneout:
                rows = input.shape[:-1]
                masks = tuple(keep_mask(input, self.zoneout, (*rows, d * width)) for d, _, width in shapes)
        return LayerCall(
            self.cell,
            input,
            states,
            self.layer_weights(layer),
            lengths,
            recurrent_mask,
            self.zoneout,
            masks,
            all_states,
            batch_sizes,
            key=self._key,
        )

    def after_layer(self, layer: int, input: Tensor, output: Tensor, batch_sizes: Tensor | None = None) -> Tensor:
        """What the next layer reads, or the output of the last one, of a layer's input and h of all its steps."""
        if self.bidirectional and self.merge != "concat":
            forward, backward = output.chunk(2, dim=-1)
            output = forward + backward
            if self.merge == "mean":
                output = output / 2
        output = self.bypass(layer, input, output)
        if layer < self.num_layers - 1:
            if self.dropout:
                output = F.dropout(output, self.dropout, self.training)
            if self.locked_dropout and self.training:
                output = self._locked(output, self.locked_dropout, batch_sizes)
        return output

    def stream(self, batch_size: int = 1) -> Stream:
        """A stepper through time that holds its own state; for one direction.

        Raises:
            ValueError: if the layers are bidirectional.
        """
        return Stream(self, batch_size)
