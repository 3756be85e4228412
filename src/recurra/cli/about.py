"""`recurra info` and `recurra cells`: what a run is, what this installation is, and the cells' equations."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__, registry
from .frame import UsageError, import_torch, unknown_name
from .output import print_json, print_pairs, print_table, show

if TYPE_CHECKING:
    from ..run.directory import Run

__all__ = ["cells", "info"]

_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "accelerate", "huggingface_hub", "pydantic")


def info(
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR]",
            help="Run directory, or a model that comes with recurra (default: this installation and machine).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON (default: two columns).")] = False,
) -> None:
    """What was trained in a run directory; without one, versions and machine."""
    if directory is None:
        run, facts = None, _machine()
    else:
        from ..run.directory import read_run
        from ..run.shipped import shipped_model

        run = read_run(shipped_model(directory) or directory)
        facts = _run(run)
    if as_json:
        print_json(facts)
    else:
        print_pairs(_rows(facts) if run is None else _summary(run, facts))


def cells(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A cell, or FILE.py:CLASS for your own (default: list all).", show_default=False
        ),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX (default: plain text).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (default: text).")] = False,
) -> None:
    """The cells that layers and models can be built of; with a name, that cell's equations."""
    from .. import cells as registry

    if name is None:
        listed = [(each, registry.get(each).citation) for each in registry.names()]
        if as_json:
            print_json([{"name": each, "citation": citation} for each, citation in listed])
        else:
            print_table(["name", "source"], listed)
        return
    if name not in registry.names() and ":" not in name:
        raise UsageError(unknown_name("cell", name, registry.names()))
    try:
        cell = registry.get(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if as_json:
        described = {"name": name, "citation": cell.citation, "states": list(cell.states), "gates": list(cell.gates)}
        print_json({**described, "equations": cell.equations(), "latex": cell.latex()})
    elif latex:
        show(cell.latex())
    else:
        show(f"{name}: {cell.citation}\n")
        show("\n".join(f"  {equation}" for equation in cell.equations()))


def _machine() -> dict[str, Any]:
    import_torch()
    import torch

    from ..kernels.cpu.compiled import instruction_set
    from ..run.shipped import shipped_models

    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        accelerators.append("mps")
    return {
        "recurra": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "engine": instruction_set() or "not built",
        "accelerators": accelerators,
        "models": shipped_models(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run(run: Run) -> dict[str, Any]:
    from ..run.metrics import best_evaluation, read_metrics

    directory = run.path
    facts: dict[str, Any] = {"run": str(directory), "task": run.system.name}
    facts |= _sizes(run)
    # A line that was damaged or written by somebody else may lack anything else.
    records = [record for record in read_metrics(run.metrics) if record.get("seconds") is not None]
    facts["best"] = best_evaluation(records) or {}
    facts["last"] = records[-1] if records else {}
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    facts["bytes"] = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    facts["config"] = run.config.model_dump(mode="json", exclude={"task"})
    facts["installation"] = _machine()
    return facts


def _sizes(run: Run) -> dict[str, Any]:
    """Vocabulary and number of parameters, as soon as the run has what its model needs."""
    import_torch()
    import torch

    from ..data.tokenizer import Tokenizer
    from ..errors import RunError
    from ..run.own_cell import is_own

    try:
        files = run.files
    except RunError:
        return {}
    # Of two vocabularies the one that is written in.
    tokenizers = [name for name in files if name.startswith("tokenizer")]
    sizes = {"vocabulary": Tokenizer.load(run.path / tokenizers[-1]).vocab_size} if tokenizers else {}
    # A cell that came with the run is a program, and to look at a run shall run nothing.
    if is_own(run.config):
        return {**sizes, **_stored_parameters(run)}
    # Without storage: only the shapes are counted.
    with torch.device("meta"):
        network = registry.resolve(run.system.network)(run)
    return {**sizes, "parameters": sum(parameter.numel() for parameter in network.parameters())}


def _stored_parameters(run: Run) -> dict[str, int]:
    """The number of parameters in the weights' file, if it is there."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    from ..run.directory import WEIGHTS

    try:
        with safe_open(run.path / WEIGHTS, framework="pt") as file:
            return {"parameters": sum(prod(file.get_slice(name).get_shape()) for name in file.keys())}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, _text(value)) for name, value in facts.items())


def _summary(run: Run, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person asks of a run; --json and config.yaml have the rest."""
    system, training = run.system, run.config.training
    said = registry.resolve(system.describe)(run.config)
    best, last = facts["best"], facts["last"]
    yield "run", facts["run"]
    yield "task", facts["task"]
    yield "cell", f"{run.config.model.cell}, {said['network']}"
    if "parameters" in facts:
        yield "parameters", f"{facts['parameters']:,}"
    if "vocabulary" in facts:
        yield "vocabulary", f"{facts['vocabulary']:,} ({run.config.tokenizer.kind})"
    yield "data", said["data"]
    yield "optimiser", f"{training.optimizer}, learning rate {training.learning_rate:g}, seed {training.seed}"
    if best:
        yield from ((f"best validation {name}", value) for name, value in system.shown(best))
        yield "at", f"step {best['step']:,} of {last['step']:,}, after {best['seconds']:.0f} of {last['seconds']:.0f} s"
    yield "size", f"{sum(facts['bytes'].values()) / 1e6:.1f} MB in {len(facts['bytes'])} files"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
