"""Keep what translation runs show on a test set in experiments/results: measures, curves, BLEU by source length.

    python experiments/record_translation.py NAME --run RUN... [--contrast RUN...] --source F --target F \\
        --title TITLE --command COMMAND --sentence SENTENCE

Runs of different seeds are measured one by one, and so are runs that they are contrasted with; BLEU by source length is
the mean of each kind. Each run translates the test set once. Data paths are shown by file name only, weights stay where
they are, and the attention that is shown is that over a sentence which is not from the data.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import recurra
from recurra.data.parallel import read_pairs
from recurra.measures.translation import measure
from recurra.pictures.attention import draw_attention

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from machine import describe

RESULTS = Path(__file__).parent / "results"
BOUNDS = ((1, 8), (9, 11), (12, 14), (15, 18), (19, 1000))
MEASURES = {"bleu_tokenized": "BLEU, tokenised, lower case", "bleu": "sacreBLEU", "chrf": "chrF"}


def by_length(sources: list[str], texts: list[str], references: list[str], words: Callable[[str], str]) -> list[float]:
    """Tokenised BLEU of the sentences whose source has a number of words within each of `BOUNDS`; NaN of none."""
    scores = []
    for low, high in BOUNDS:
        chosen = [index for index, source in enumerate(sources) if low <= len(source.split()) <= high]
        parts = [[side[index] for index in chosen] for side in (texts, references)]
        scores.append(measure(*parts, words).bleu_tokenized if chosen else math.nan)
    return scores


def draw(path: Path, curves: dict[str, list[list[float]]], sources: list[str]) -> None:
    """One line a kind of run, the mean of its seeds, with their range."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    places = range(len(BOUNDS))
    for name, runs in curves.items():
        means = [statistics.mean(scores) for scores in zip(*runs, strict=True)]
        axes.plot(places, means, marker="o", label=f"{name} ({len(runs)} seed{'s' if len(runs) > 1 else ''})")
        bounds = [[pick(scores) for scores in zip(*runs, strict=True)] for pick in (min, max)]
        axes.fill_between(places, *bounds, alpha=0.2)
    counts = [sum(low <= len(source.split()) <= high for source in sources) for low, high in BOUNDS]
    names = [f"{low}-{high}" if high < 1000 else f"{low}+" for low, high in BOUNDS]
    axes.set_xticks(places, [f"{name}\n({count})" for name, count in zip(names, counts, strict=True)])
    axes.set_xlabel("words in the source (sentences)")
    axes.set_ylabel("BLEU, tokenised")
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--contrast", type=Path, nargs="*", default=[])
    parser.add_argument("--average", type=int, default=0)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--sentence", required=True, help="whose attention is shown")
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    from recurra.systems.translation.predict import Translator

    folder = RESULTS / options.name
    folder.mkdir(parents=True, exist_ok=True)
    pairs, _ = read_pairs(options.source, options.target, None)
    sources = [pair.source for pair in pairs]
    found: list[dict[str, Any]] = []
    curves: dict[str, list[list[float]]] = {}
    for run in [*options.run, *options.contrast]:
        translator = Translator.from_runs([run], device="cpu", average=options.average)
        words = translator.target_tokenizer.words
        references = [translator.target_tokenizer.reference(pair.target) for pair in pairs]
        texts = [each.best for each in translator.translate(sources)]
        measures = measure(texts, references, words)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found.append(
            {
                **measures._asdict(),
                "seed": translator.config.training.seed,
                "minutes": records[-1]["seconds"] / 60,
                "weights": sum(parameter.numel() for parameter in translator.models[0].parameters()),
                "attention": translator.config.model.attention,
            }
        )
        kind = "fixed context" if translator.config.model.attention == "none" else "attention"
        curves.setdefault(kind, []).append(by_length(sources, texts, references, words))
        if run == options.run[0]:
            best = translator.translate([options.sentence])[0].alternatives[0]
            if best.weights is not None:
                draw_attention(folder / "attention.png", best.weights, best.source_pieces, best.target_pieces)
    draw(folder / "bleu_by_length.png", curves, sources)
    first = options.run[0]
    config = yaml.safe_load((first / "config.yaml").read_text())
    for key, value in config["data"].items():
        config["data"][key] = Path(value).name if isinstance(value, str) and "/" in value else value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    shutil.copyfile(first / "learning_curve.png", folder / "learning_curve.png")
    for run, each in zip([*options.run, *options.contrast], found, strict=True):
        shutil.copyfile(run / "metrics.jsonl", folder / f"metrics-{each['attention']}-{each['seed']}.jsonl")
    lines = [f"# {options.title}", "", "    " + options.command.replace("\n", "\n    "), ""]
    lines += ["| attention | seed | " + " | ".join(MEASURES.values()) + " | length ratio | minutes | weights |"]
    lines += ["|---|---|" + "---|" * len(MEASURES) + "---|---|---|"]
    for each in found:
        values = " | ".join(f"{each[name]:.2f}" for name in MEASURES)
        lines.append(
            f"| {each['attention']} | {each['seed']} | {values} | {each['length_ratio']:.3f} | {each['minutes']:.0f} | "
            f"{each['weights']:,} |"
        )
    for kind in dict.fromkeys(each["attention"] for each in found):
        scores = [each["bleu_tokenized"] for each in found if each["attention"] == kind]
        if len(scores) > 1:
            mean, deviation = statistics.mean(scores), statistics.stdev(scores)
            lines += ["", f"Tokenised BLEU of the seeds, attention {kind}: {mean:.2f} +- {deviation:.2f}."]
    lines += ["", "![BLEU by source length](bleu_by_length.png)", "", "![Learning curve](learning_curve.png)", ""]
    if (folder / "attention.png").is_file():
        lines += [f"Attention over `{options.sentence}`:", "", "![Attention](attention.png)", ""]
    lines += [f"- {name}: `{signature}`" for name, signature in found[0]["signatures"].items()]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "tokenizers", "sacrebleu"))
    lines += [
        f"- {describe().rpartition(',')[0]}",
        f"- recurra {recurra.__version__}, Python {platform.python_version()}, {packages}",
    ]
    if options.note:
        lines += ["", options.note]
    (folder / "README.md").write_text("\n".join([*lines, ""]))
    print(folder / "README.md")


if __name__ == "__main__":
    main()
