"""How far gradients reach back in rnn_tanh, lstm and gru: untrained with small and large weights, and after learning.

    python experiments/gradient_flow.py [--lags 1000] [--length 100] [--steps 1000] [--seed 1] [--output FOLDER]

Untrained layers have orthogonal recurrent blocks of the spectral radii 0.8 and 1.5 and read noise. Then each cell
learns to recall the first symbol of a sequence: it is one of four, the others are drawn from four that mean nothing,
and the symbol is asked for after the last one. Training sequences have from 2 to `--length` symbols, drawn anew for
each batch. Before and after the training the layer is looked at over `--lags` symbols, many more than it was trained
on. The loss is a random projection of the last h everywhere, so that all curves can be compared.

Writes README.md, picture.png and results.json, whose curves have some 50 of the lags, those in `kept_lags`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import recurra
from recurra.analysis.findings import as_json, sentences
from recurra.analysis.inspection import LayerInspection, inspect_steps
from recurra.analysis.jacobians import looked_at
from recurra.analysis.layer_steps import steps_of
from recurra.analysis.panels import panels
from recurra.analysis.untrained import noise, untrained_layer
from recurra.pictures.gradient_flow import draw_gradient_flow

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from machine import describe

FOLDER = Path(__file__).parent / "results" / "gradient-flow"
CELLS = {"rnn_tanh": None, "lstm": 1.0, "gru": None}
"""The cells with their forget bias while they learn."""
MEANINGS = 4
AFTER = "recall, after training"
PACKAGES = ("torch", "numpy", "matplotlib")


class Recall(nn.Module):
    """A recurrent layer and an output for each symbol that can come first."""

    def __init__(self, cell: str, units: int) -> None:
        super().__init__()
        self.recurrent = recurra.Recurrent(cell, 2 * MEANINGS, units, forget_bias=CELLS[cell])
        self.output = nn.Linear(units, MEANINGS)

    def forward(self, symbols: Tensor) -> Tensor:
        """(T, B) symbols to (B, 4) logits after the last one."""
        logits: Tensor = self.output(self.recurrent(shown(symbols))[0][-1])
        return logits


def shown(symbols: Tensor) -> Tensor:
    """(T, B) symbols as vectors with a single one, (T, B, 8)."""
    return nn.functional.one_hot(symbols, 2 * MEANINGS).float()


def sequences(length: int, batch: int, generator: torch.Generator) -> Tensor:
    """(T, B): one of the first four symbols, then some of the other four."""
    first = torch.randint(MEANINGS, (1, batch), generator=generator)
    rest = torch.randint(MEANINGS, 2 * MEANINGS, (length - 1, batch), generator=generator)
    return torch.cat([first, rest])


def learn(model: Recall, length: int, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        drawn = int(torch.randint(2, length + 1, (), generator=generator))
        symbols = sequences(drawn, 32, generator)
        loss = nn.functional.cross_entropy(model(symbols), symbols[0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def right(model: Recall, length: int, seed: int) -> float:
    """The share of 400 new sequences whose first symbol is recalled."""
    symbols = sequences(length, 400, torch.Generator().manual_seed(seed + 1000))
    return float((model(symbols).argmax(-1) == symbols[0]).float().mean())


def untrained(options: argparse.Namespace) -> list[LayerInspection]:
    read, found = noise(options.lags, options.sequences, seed=options.seed + 1), []
    for scale in (0.8, 1.5):
        for cell in CELLS:
            steps = steps_of(untrained_layer(cell, options.units, scale=scale, seed=options.seed), read)
            found.append(inspect_steps(steps, cell, f"untrained, radius {scale:g}", clip_norm=1.0, seed=options.seed))
            tell(found[-1])
    return found


def trained(options: argparse.Namespace) -> tuple[list[LayerInspection], dict[str, Any]]:
    generator = torch.Generator().manual_seed(options.seed + 2)
    read = shown(sequences(options.lags, options.sequences, generator))
    before, after, accuracy = [], [], {}
    for cell in CELLS:
        torch.manual_seed(options.seed)
        model = Recall(cell, options.units)

        def look(group: str, cell: str = cell, model: Recall = model) -> LayerInspection:
            return inspect_steps(steps_of(model.recurrent, read), cell, group, seed=options.seed)

        before.append(look("recall, before training"))
        began = time.perf_counter()
        learn(model, options.length, options.steps, options.seed)
        accuracy[cell] = {
            "seconds": round(time.perf_counter() - began, 1),
            **{
                str(length): right(model, length, options.seed)
                for length in (options.length // 4, options.length, options.lags)
            },
        }
        after.append(look(AFTER))
        tell(before[-1])
        tell(after[-1])
    return before + after, accuracy


def tell(inspection: LayerInspection) -> None:
    print(f"{inspection.name}, {inspection.group}: {sentences(inspection)[0]}", flush=True)


def readme(results: dict[str, Any]) -> str:
    asked, accuracy = results["asked"], results["accuracy"]
    command = "python experiments/gradient_flow.py " + " ".join(f"--{name} {value}" for name, value in asked.items())
    lengths = [str(asked["length"] // 4), str(asked["length"]), str(asked["lags"])]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    training = f"{asked['steps']:,} steps of Adam, 32 sequences of 2 to {asked['length']} symbols, clipped to 1"
    lines = [
        "# How far gradients reach back", "", f"    {command}", "", "| | |", "|---|---|",
        f"| layers | {asked['units']} units, float64 for all that is measured |",
        f"| sequences | {asked['sequences']} of {asked['lags']:,} steps, geometric means |",
        f"| training | {training} |",
        f"| seed | {asked['seed']} |",
        f"| time | {results['seconds'] / 60:.1f} minutes |",
        f"| machine | {describe().rpartition(',')[0]} |",
        f"| versions | recurra {recurra.__version__}, Python {platform.python_version()}, {packages} |",
        "", "![Norms of gradients and Jacobians over the lags](picture.png)", "",
        "The share of first symbols that are recalled (by chance a quarter):", "",
        f"| cell | {' | '.join(f'{int(length):,} symbols' for length in lengths)} |", "|---|" + "---|" * len(lengths),
    ]  # fmt: skip
    lines += [f"| {cell} | {' | '.join(f'{shares[n]:.0%}' for n in lengths)} |" for cell, shares in accuracy.items()]
    after = {each["name"]: each for each in results["layers"] if each["group"] == AFTER}
    for cell in accuracy:
        if recalls_without_gradient(after[cell], accuracy[cell][lengths[-1]]):
            lines += ["", explained(cell, after[cell], asked["lags"])]
    lines += ["", "What is seen, each sentence computed from `results.json`:", ""]
    for each in results["layers"]:
        lines += [f"- **{each['name']}, {each['group']}.** {' '.join(each['sentences'])}"]
    return "\n".join([*lines, ""])


def recalls_without_gradient(layer: dict[str, Any], share: float) -> bool:
    """Whether a cell recalls nearly everything over all lags though less than a millionth of the gradient is left."""
    logs = layer["gradients"]["h"]["log10_mean"]
    return share > 0.95 and (logs[-1] is None or logs[-1] - logs[0] < -6)


def explained(cell: str, layer: dict[str, Any], lags: int) -> str:
    """Why a symbol can be recalled from where the gradient of the last h has all but vanished."""
    said = f"{cell} recalls the symbol after {lags:,} steps although next to nothing of |dL/dh| comes from there. "
    if layer["memory"]["state"]["to_hundredth"] is None:
        return (
            said
            + "Its state does carry it: the Jacobian of all states together has not fallen to a hundredth. But the "
            "last h hardly answers to small changes of what is carried, as where tanh(c) is saturated or a gate is "
            "closed."
        )
    return (
        said + "A state that holds a symbol against what comes later also undoes small changes of itself, and the "
        "gradient is the answer to small changes (Bengio, Simard and Frasconi 1994, IEEE Transactions on Neural "
        "Networks 5(2)). It learnt to hold the symbol from short sequences, where a gradient still came through."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lags", type=int, default=1000)
    parser.add_argument("--length", type=int, default=100, help="of the longest training sequences")
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    began = time.perf_counter()
    learnt, accuracy = trained(options)
    found = untrained(options) + learnt
    asked = {name: value for name, value in vars(options).items() if name != "output"}
    seconds = round(time.perf_counter() - began, 1)
    layers = [as_json(each) for each in found]
    kept = looked_at(options.lags)
    results = thinned(
        {"asked": asked, "seconds": seconds, "accuracy": accuracy, "kept_lags": kept, "layers": layers},
        kept,
        options.lags,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    draw_gradient_flow(options.output / "picture.png", panels(found), options.lags)
    text = json.dumps(results, ensure_ascii=False, allow_nan=False)
    (options.output / "results.json").write_text(text + "\n", encoding="utf-8")
    (options.output / "README.md").write_text(readme(results), encoding="utf-8")
    print(options.output / "README.md")


def thinned(value: Any, kept: list[int], lags: int) -> Any:
    """The value with null in place of the logarithm of zero, and of curves over all lags those that are kept alone."""
    if isinstance(value, float):
        return round(value, 4) if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: thinned(each, kept, lags) for key, each in value.items()}
    if isinstance(value, list | tuple):
        # The contributions of the steps end one lag earlier.
        chosen = [value[lag] for lag in kept if lag < len(value)] if len(value) in (lags, lags + 1) else value
        return [thinned(each, kept, lags) for each in chosen]
    return value


if __name__ == "__main__":
    main()
