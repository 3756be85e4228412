"""`recurra info` and `recurra cells`: what a run is, what this installation is, and the cells' equations."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .frame import UsageError, import_torch, unknown_name
from .output import measured, print_json, print_pairs, print_table, show

__all__ = ["cells", "info"]

_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "accelerate", "huggingface_hub", "pydantic")


def info(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Run directory (default: this installation and machine).", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON (default: two columns).")] = False,
) -> None:
    """What was trained in a run directory; without one, versions and machine."""
    facts = _machine() if directory is None else _run(directory)
    if as_json:
        print_json(facts)
    else:
        print_pairs(_rows(facts) if directory is None else _summary(facts))


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
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run(directory: Path) -> dict[str, Any]:
    from ..training.logging import best_evaluation, read_metrics
    from ..training.run_directory import METRICS, read_run

    config = read_run(directory)
    facts: dict[str, Any] = {"run": str(directory), "task": config.task}
    facts |= _sizes(directory, config)
    # A line that was damaged or written by somebody else may lack anything else.
    records = [record for record in read_metrics(directory / METRICS) if record.get("seconds") is not None]
    facts["best"] = best_evaluation(records) or {}
    facts["last"] = records[-1] if records else {}
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    facts["bytes"] = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    facts["config"] = config.model_dump(mode="json", exclude={"task"})
    facts["installation"] = _machine()
    return facts


def _sizes(directory: Path, config: Any) -> dict[str, Any]:
    """Vocabulary and number of parameters, as soon as the run has its tokenizer."""
    import_torch()
    import torch

    from ..errors import RunError
    from ..tasks.own_cell import is_own, model_settings

    model: torch.nn.Module | None = None
    # A cell that came with the run is a program, and to look at a run shall run nothing.
    own = is_own(config)
    # Without storage: only the shapes are counted.
    if config.task == "translation":
        from ..models.encoder_decoder import EncoderDecoder
        from ..tasks.translation_files import load_tokenizers

        try:
            source, target = load_tokenizers(directory)
        except RunError:
            return {}
        if not own:
            with torch.device("meta"):
                model = EncoderDecoder(source.vocab_size, target.vocab_size, model_settings(config, directory))
        vocabulary = target.vocab_size
    else:
        from ..data.tokenizer import Tokenizer
        from ..models.language_model import LanguageModel

        path = directory / "tokenizer.json"
        if not path.is_file():
            return {}
        vocabulary = Tokenizer.load(path).vocab_size
        if not own:
            with torch.device("meta"):
                model = LanguageModel(vocabulary, model_settings(config, directory))
    if model is not None:
        return {"vocabulary": vocabulary, "parameters": sum(parameter.numel() for parameter in model.parameters())}
    return {"vocabulary": vocabulary, **_stored_parameters(directory)}


def _stored_parameters(directory: Path) -> dict[str, int]:
    """The number of parameters in the weights' file, if it is there."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    from ..training.run_directory import WEIGHTS

    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            return {"parameters": sum(prod(file.get_slice(name).get_shape()) for name in file.keys())}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def _shape(task: str, model: dict[str, Any]) -> str:
    sizes = model["hidden_size"]
    if task == "translation":
        layers = f"{model['encoder_layers']} + {model['decoder_layers']} layers of {sizes} units"
        if model["attention"] == "none":
            return f"{layers}, fixed context {model['fixed_context']}"
        return f"{layers}, attention {model['attention']}, decoder {model['decoder']}"
    return (
        f"{model['num_layers']} x {sizes} units" if isinstance(sizes, int) else " + ".join(map(str, sizes)) + " units"
    )


def _data(task: str, data: dict[str, Any]) -> str:
    if task != "translation":
        return _text(data["train"])
    if data["toy"] != "none":
        return f"made up: {data['toy']}"
    return data["pairs"] or f"{data['source']}, {data['target']}"


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, _text(value)) for name, value in facts.items())


def _summary(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person asks of a run; --json and config.yaml have the rest."""
    model, training, tokenizer = (facts["config"][section] for section in ("model", "training", "tokenizer"))
    best, last = facts["best"], facts["last"]
    yield "run", facts["run"]
    yield "task", facts["task"]
    yield "cell", f"{model['cell']}, {_shape(facts['task'], model)}"
    if "parameters" in facts:
        yield "parameters", f"{facts['parameters']:,}"
    if "vocabulary" in facts:
        yield "vocabulary", f"{facts['vocabulary']:,} ({tokenizer['kind']})"
    yield "text", _data(facts["task"], facts["config"]["data"])
    yield "optimiser", f"{training['optimizer']}, learning rate {training['learning_rate']:g}, seed {training['seed']}"
    if best:
        said = f"{best['loss']:.4f} nats per token"
        if best.get("perplexity") is not None:
            said += f", perplexity {best['perplexity']:.2f}"
        if best.get("bits_per_character") is not None:
            said += f", {best['bits_per_character']:.4f} bits per character"
        yield "best validation", said
        yield from measured(best)
        yield "at", f"step {best['step']:,} of {last['step']:,}, after {best['seconds']:.0f} of {last['seconds']:.0f} s"
    yield "size", f"{sum(facts['bytes'].values()) / 1e6:.1f} MB in {len(facts['bytes'])} files"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
