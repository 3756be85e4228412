"""A cell's step means the same on symbols as on tensors, and prints as what it means."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from recurra import cells
from recurra.cells.algebra import Gate, State, clamp, exp, sigmoid
from recurra.cells.trace import Node, trace

B, H = 3, 5


class Exotic(cells.Cell):
    """Uses every operation that a step may use."""

    states = ("h", "m")
    gates = ("a", "b")
    vectors = ("v",)
    matrices = ("q",)

    def step(self, gate, state, weight):
        m = clamp(-state.m / 2 + 1 / (1 + exp(gate.a)), -0.5, 0.5) - gate.b
        h = sigmoid(gate.a.on(m * 2) - gate.b.h) * weight.v + 3 - weight.q @ (state.m - 1)
        return State(h=h, m=m)


ALL = [pytest.param(cell, id=name) for name, cell in cells.CELLS.items()] + [pytest.param(Exotic(), id="exotic")]


def random_inputs(cell):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "input": {name: draw(B, H) for name in cell.gates},
        "state": {name: draw(B, H) for name in cell.states},
        "vector": {name: draw(H) for name in cell.vectors},
        "matrix": {name: draw(H, H) for name in (*cell.matrices, *(f"hh.{name}" for name in cell.gates))},
        "bias": {f"hh.{name}": draw(H) for name in cell.gates},
    }


def product(inputs, name, value):
    return value @ inputs["matrix"][name].T + inputs["bias"].get(name, 0)


def run_step(cell, inputs):
    class Matrix:
        def __init__(self, name):
            self.name = name

        def __matmul__(self, value):
            return product(inputs, self.name, value)

    state = SimpleNamespace(**inputs["state"])
    gates = {
        name: Gate(x, lambda value, name=name: product(inputs, f"hh.{name}", state.h if value is None else value))
        for name, x in inputs["input"].items()
    }
    weights = SimpleNamespace(**inputs["vector"], **{name: Matrix(name) for name in cell.matrices})
    new = cell.step(SimpleNamespace(**gates), state, weights)
    return {name: getattr(new, name) for name in cell.states}


def evaluate(traced, inputs):
    values = {}

    def value_of(node):
        arguments = [values[argument.order] for argument in node.args]
        match node.op:
            case "input" | "state" | "vector":
                return inputs[node.op][node.name]
            case "product":
                return product(inputs, node.name, arguments[0])
            case "constant":
                return torch.tensor(node.values[0], dtype=torch.float64)
            case "clamp":
                return arguments[0].clamp(*node.values)
            case op:
                return getattr(torch, op)(*arguments)

    for node in traced.nodes():
        values[node.order] = value_of(node)
    return {name: values[node.order] for name, node in traced.outputs.items()}


@pytest.mark.parametrize("cell", ALL)
def test_the_trace_computes_what_the_step_computes(cell):
    inputs = random_inputs(cell)
    expected = run_step(cell, inputs)
    for name, value in evaluate(trace(cell), inputs).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("cell", ALL)
def test_nodes_come_after_what_they_need(cell):
    seen = set()
    for node in trace(cell).nodes():
        assert all(argument.order in seen for argument in node.args)
        seen.add(node.order)


def test_products_that_can_share_one_call():
    on_h = {name: trace(cell).gates_on_h for name, cell in cells.CELLS.items()}
    assert on_h["lstm"] == ("i", "f", "g", "o")
    assert on_h["gru"] == ("r", "z", "n")
    assert on_h["gru_cho"] == ("r", "z")
    assert on_h["mgu"] == ("f",)


def test_only_cells_without_elementwise_h_can_project():
    projectable = {name for name, cell in cells.CELLS.items() if trace(cell).h_only_in_products}
    assert projectable == {name for name in cells.names() if name.startswith(("lstm", "rnn"))}


def test_printed_equations_are_the_published_ones():
    assert cells.get("lstm").equations() == [
        "i_t = σ(W_i x_t + U_i h_t-1 + b_i)",
        "f_t = σ(W_f x_t + U_f h_t-1 + b_f)",
        "g_t = tanh(W_g x_t + U_g h_t-1 + b_g)",
        "c_t = f_t ⊙ c_t-1 + i_t ⊙ g_t",
        "o_t = σ(W_o x_t + U_o h_t-1 + b_o)",
        "h_t = o_t ⊙ tanh(c_t)",
    ]
    assert cells.get("gru_cho").equations()[-2:] == [
        "n_t = tanh(W_n x_t + U_n (r_t ⊙ h_t-1) + b_n)",
        "h_t = (1 - z_t) ⊙ h_t-1 + z_t ⊙ n_t",
    ]
    # The recurrent bias stays visible where it is not simply added to the other.
    assert "n_t = tanh(W_n x_t + r_t ⊙ (U_n h_t-1 + b'_n) + b_n)" in cells.get("gru").equations()
    assert "o_t = σ(W_o x_t + U_o h_t-1 + w_co ⊙ c_t + b_o)" in cells.get("lstm_peephole").equations()


def test_latex_has_balanced_braces_and_one_line_an_equation():
    for name, cell in cells.CELLS.items():
        latex = cell.latex()
        assert latex.count("{") == latex.count("}"), name
        assert latex.count(r"\left(") == latex.count(r"\right)"), name
        assert latex.count("&=") == len(cell.equations()), name
    assert r"\tilde" not in latex


def test_a_step_that_forgets_a_state_is_named():
    class Forgetful(cells.Cell):
        states = ("h", "c")
        gates = ("a",)

        def step(self, gate, state, weight):
            return State(h=sigmoid(gate.a))

    with pytest.raises(ValueError, match="returns no c"):
        trace(Forgetful())


def test_a_step_may_not_smuggle_in_other_things():
    with pytest.raises(TypeError, match="not str"):
        Node("state", name="h") + "x"


def test_a_cell_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from recurra.cells import Cell\nfrom recurra.cells.algebra import State, tanh\n\n"
        "class Mine(Cell):\n    gates = ('a',)\n\n    def step(self, gate, state, weight):\n"
        "        return State(h=state.h + tanh(gate.a))\n"
    )
    cell = cells.get(f"{path}:Mine")
    assert cell.equations() == ["a_t = tanh(W_a x_t + U_a h_t-1 + b_a)", "h_t = h_t-1 + a_t"]
    assert type(cells.get(f"{path}:Mine")) is type(cell)
    with pytest.raises(ValueError, match="has no class Other"):
        cells.get(f"{path}:Other")
    with pytest.raises(ValueError, match="no such file"):
        cells.get(f"{tmp_path}/none.py:Mine")


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean lstm_peephole"):
        cells.get("lstm_peepholes")


def test_cells_are_values():
    assert cells.LSTM() == cells.get("lstm") and hash(cells.LSTM()) == hash(cells.get("lstm"))
    assert cells.LSTM(peephole=True) != cells.LSTM()
    assert repr(cells.LSTM(peephole=True)) == "LSTM(peephole=True)"
    assert Exotic() == Exotic()
    with pytest.raises(ValueError, match="need both gates"):
        cells.LSTM(coupled=True, forget_gate=False)


def test_cells_import_no_torch():
    code = "import sys, recurra.cells, recurra.cells.formulas; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
