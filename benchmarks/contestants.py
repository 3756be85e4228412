"""The contestants of peers.py, each with the settings that its own documentation gives as the fastest.

peers.py starts one process for each, so that no pool of threads disturbs another. A contestant offers one runner or
more for a case: where its documentation leaves a choice (number of threads, unrolling), each is tried and the fastest
goes into the contest. Each library is imported by its own contestant alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CONTESTANTS", "Case", "rest", "serve"]

# A contestant's turn, and the calls before it that wake its threads and fill its caches.
TURN, WARMING = 0.1, 0.03
TOLERANCE = 1e-4
# A turn ends when the process has used no more than this share of a core for so long.
QUIET, WINDOW = 0.05, 0.02
# ONNX's name of each cell, its order of torch's gates, and its states.
ONNX = {
    "lstm": ("LSTM", (0, 3, 1, 2), ("h", "c")),
    "gru": ("GRU", (1, 0, 2), ("h",)),
    "rnn_tanh": ("RNN", (0,), ("h",)),
}
UNROLLED = (1, 4)


class Case(NamedTuple):
    """One layer as wide as its input x (T, B, H); `expected` is torch.nn's output, the weights have its names."""

    cell: str
    streaming: bool
    weights: Mapping[str, np.ndarray]
    x: np.ndarray
    expected: np.ndarray


@dataclass
class Runner:
    """A call to be timed, and its inputs: one for inference, one a step for streaming; the call keeps the state."""

    call: Callable[[Any], Any]
    inputs: list[Any]

    def run(self) -> None:
        call = self.call
        for x in self.inputs:
            call(x)

    def check(self, expected: np.ndarray) -> None:
        """Raise ValueError if the first outputs are not those expected."""
        output = np.stack([np.array(self.call(x)) for x in self.inputs]).reshape(expected.shape)
        error = float(np.abs(output - expected).max())
        # Not `error > TOLERANCE`, which a nan would pass.
        if not error <= TOLERANCE:
            raise ValueError(f"the output is wrong by {error:.1e}")


Offers = Iterator[tuple[str, Runner]]


def recurra_runners(case: Case, threads: int) -> Offers:
    import torch

    import recurra

    torch.set_num_threads(threads)
    size = case.x.shape[2]
    layer = recurra.Recurrent(case.cell, size, size).eval()
    layer.load_state_dict({name: torch.from_numpy(weight) for name, weight in case.weights.items()})
    x = torch.from_numpy(case.x)
    if case.streaming:
        yield "", Runner(layer.stream(case.x.shape[1]).step, list(x))
        return

    def infer(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return layer(x)[0]

    yield "", Runner(infer, [x])


def onnx_model(case: Case) -> bytes:
    """The layer as one ONNX node: over all steps, or over one with the states h0 (and c0) in, h (and c) out."""
    from onnx import TensorProto, helper, numpy_helper

    kind, order, states = ONNX[case.cell]
    steps, batch, size = case.x.shape

    def reordered(name: str) -> np.ndarray:
        gates = np.split(case.weights[name], len(order))
        return np.concatenate([gates[gate] for gate in order])

    def infos(shapes: Mapping[str, tuple[int, ...]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    constants = {
        "W": reordered("weight_ih_l0")[None],
        "R": reordered("weight_hh_l0")[None],
        "B": np.concatenate([reordered("bias_ih_l0"), reordered("bias_hh_l0")])[None],
    }
    inputs = {"X": (1 if case.streaming else steps, batch, size)}
    final = dict.fromkeys(states, (1, batch, size))
    initial = {f"{state}0": shape for state, shape in final.items()} if case.streaming else {}
    # Of one step, h is all that Y would be.
    outputs: dict[str, tuple[int, ...]] = {} if case.streaming else {"Y": (steps, 1, batch, size)}
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    ends = ["X", *constants, "", *initial], [*(outputs or [""]), *final]
    node = helper.make_node(kind, *ends, hidden_size=size, **attributes)
    weights = [numpy_helper.from_array(constant, name) for name, constant in constants.items()]
    graph = helper.make_graph([node], case.cell, infos(inputs | initial), infos({**outputs, **final}), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return model.SerializeToString()


# From arrays to read and arrays to write, by name, to a run on them.
Bind = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], Callable[[], Any]]


def bound_runner(case: Case, bind: Bind) -> Runner:
    """A runner on arrays of its own, which the contestant reads and writes in place."""
    names = ONNX[case.cell][2]
    steps, batch, size = case.x.shape

    def zeros() -> dict[str, np.ndarray]:
        return {name: np.zeros((1, batch, size), np.float32) for name in names}

    if not case.streaming:
        outputs = {"Y": np.zeros((steps, 1, batch, size), np.float32), **zeros()}
        whole = bind({"X": case.x}, outputs)

        def infer(_: np.ndarray) -> np.ndarray:
            whole()
            return outputs["Y"]

        return Runner(infer, [case.x])

    # Two sets of states, read and written by turns, so that none is copied.
    x, sets = np.zeros((1, batch, size), np.float32), (zeros(), zeros())
    runs = [bind({"X": x, **{f"{name}0": array for name, array in sets[1 - to].items()}}, sets[to]) for to in range(2)]
    to = 0

    def step(given: np.ndarray) -> np.ndarray:
        nonlocal to
        to = 1 - to
        x[...] = given
        runs[to]()
        return sets[to]["h"]

    return Runner(step, list(case.x))


def bound_runners(connect: Callable[[bytes, int], Bind], case: Case, threads: int) -> Offers:
    # Threads that meet at every step cost a small layer more than they bring.
    for count in sorted({1, threads}):
        yield f"{count} thr.", bound_runner(case, connect(onnx_model(case), count))


def connect_onnxruntime(model: bytes, threads: int) -> Bind:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def bind(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Callable[[], Any]:
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return partial(session.run_with_iobinding, binding)

    return bind


def connect_openvino(model: bytes, threads: int) -> Bind:
    import openvino

    # Left alone it may compute in bfloat16.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", settings)

    def bind(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Callable[[], Any]:
        request = compiled.create_infer_request()
        for name, array in (inputs | outputs).items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        # A shared tensor does not keep its array alive; that is for whoever bound it.
        return partial(request.infer, share_outputs=True)

    return bind


def jax_runners(case: Case, threads: int) -> Offers:
    """The number of threads comes by the environment, see peers.py."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    # Handing small programs to another thread costs more than running them.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # Transposed once: XLA does it at every call where it gets them as torch has them.
    into, across = (jnp.asarray(case.weights[f"weight_{name}_l0"].T.copy()) for name in ("ih", "hh"))
    into_bias, across_bias = (jnp.asarray(case.weights[f"bias_{name}_l0"]) for name in ("ih", "hh"))
    update = jax_update(case.cell)
    zeros = tuple(jnp.zeros(case.x.shape[1:]) for _ in ONNX[case.cell][2])

    def advance(across: Any, states: Any, product: Any) -> Any:
        states = update(states, product, states[0] @ across + across_bias)
        return states, states[0]

    def infer(unroll: int, into: Any, across: Any, x: Any) -> Any:
        # The input's product over all steps at once, as the others have it.
        return lax.scan(partial(advance, across), zeros, x @ into + into_bias, unroll=unroll)

    if case.streaming:
        one = jax.jit(lambda states, x: advance(across, states, x @ into + into_bias)[0], donate_argnums=0)
        states = zeros

        def step(x: Any) -> Any:
            nonlocal states
            states = one(states, x)
            return states[0].block_until_ready()

        yield "", Runner(step, list(jnp.asarray(case.x)))
        return

    for unroll in UNROLLED:
        whole = partial(jax.jit(partial(infer, unroll)), into, across)

        def call(x: Any, whole: Any = whole) -> Any:
            return whole(x)[1].block_until_ready()

        yield f"unroll {unroll}", Runner(call, [jnp.asarray(case.x)])


def jax_update(cell: str) -> Callable[[Any, Any, Any], Any]:
    """From the states and the products of input and h to the next states, by torch.nn's equations."""
    from jax import nn
    from jax import numpy as jnp

    def lstm(states: Any, from_input: Any, from_h: Any) -> Any:
        i, f, g, o = jnp.split(from_input + from_h, 4, axis=-1)
        c = nn.sigmoid(f) * states[1] + nn.sigmoid(i) * jnp.tanh(g)
        return nn.sigmoid(o) * jnp.tanh(c), c

    def gru(states: Any, from_input: Any, from_h: Any) -> Any:
        input_r, input_z, input_n = jnp.split(from_input, 3, axis=-1)
        h_r, h_z, h_n = jnp.split(from_h, 3, axis=-1)
        z = nn.sigmoid(input_z + h_z)
        n = jnp.tanh(input_n + nn.sigmoid(input_r + h_r) * h_n)
        return ((1 - z) * n + z * states[0],)

    def rnn_tanh(states: Any, from_input: Any, from_h: Any) -> Any:
        return (jnp.tanh(from_input + from_h),)

    return {"lstm": lstm, "gru": gru, "rnn_tanh": rnn_tanh}[cell]


CONTESTANTS: dict[str, Callable[[Case, int], Offers]] = {
    "recurra": recurra_runners,
    "onnxruntime": partial(bound_runners, connect_onnxruntime),
    "openvino": partial(bound_runners, connect_openvino),
    "jax": jax_runners,
}


def timed(runner: Runner) -> float:
    """Seconds a call."""
    began = before = time.perf_counter()
    once = 0.0
    while before - began < WARMING:
        runner.run()
        now = time.perf_counter()
        once, before = now - before, now
    repeats = max(1, int(TURN / once))
    began = time.perf_counter()
    for _ in range(repeats):
        runner.run()
    return (time.perf_counter() - began) / (repeats * len(runner.inputs))


def rest(limit: float = 10.0) -> None:
    """Wait until no thread of this process spins, which would take a core from whose turn comes next.

    Raises:
        RuntimeError: if they go on for longer than `limit` seconds.
    """
    deadline = time.perf_counter() + limit
    while time.perf_counter() < deadline:
        used = time.process_time()
        time.sleep(WINDOW)
        if time.process_time() - used < QUIET * WINDOW:
            return
    raise RuntimeError(f"threads still run {limit:.0f} seconds after their work")


def fastest(offers: Offers, expected: np.ndarray) -> tuple[str, Runner]:
    """The offer that is fastest, a short call by the best of three; all are checked."""
    best: tuple[float, str, Runner] | None = None
    for setting, runner in offers:
        runner.check(expected)
        seconds = timed(runner)
        # Long calls vary less.
        if seconds < TURN:
            seconds = min(seconds, timed(runner), timed(runner))
        rest()
        if best is None or seconds < best[0]:
            best = seconds, setting, runner
    assert best is not None
    return best[1:]


def serve(name: str, threads: int, connection: Connection) -> None:
    """Answer a case with the setting chosen for it and None with the seconds of a turn, until the other end closes."""
    runner: Runner | None = None
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message is None:
            assert runner is not None
            answer: Any = timed(runner)
        else:
            runner = None
            case = Case(*message)
            answer, runner = fastest(CONTESTANTS[name](case, threads), case.expected)
        rest()
        connection.send(answer)
