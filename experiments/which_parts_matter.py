"""Which parts of an LSTM matter: vanilla LSTM, its eight variants, GRU and RNN on three problems, each with a search.

    python experiments/which_parts_matter.py WORK --shakespeare input.txt --ewt FOLDER [--seconds 90] [--workers 1]
                                             [--problems language tagging adding] [--cells lstm_peephole lstm ...]

The question and the variants are those of Greff, Srivastava, Koutnik, Steunebrink & Schmidhuber 2017, "LSTM: A search
space odyssey", IEEE Transactions on Neural Networks and Learning Systems 28(10). Every cell gets the width at which its
network has about as many weights as vanilla LSTM's, the same trials of a search with the same draws, and the same
seconds for each training; then its best trial is trained with new seeds, and tested once. Greff et al. compared 200
trials of each variant; this is the same question at a small scale, where a cell that is slow is also judged for being
slow. On a machine that others use at the same time, give --steps in place of --seconds: all trainings then have as many
steps, whatever the others do.

Everything is kept in WORK as it ends, so that the same command goes on after a break. Then the results folder gets
README.md, table.md, results.jsonl and pictures/.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from adding_problem import adding_weights, error_without_memory, measure_adding

import recurra
from recurra.comparison.contestants import parse_contestants, sized
from recurra.comparison.findings import Findings, Searched, findings
from recurra.comparison.runs import finish, outcomes_of
from recurra.comparison.search import Dimension, draw
from recurra.comparison.shared_results import read_result
from recurra.comparison.side_by_side import finish_trainings
from recurra.comparison.sizes import equal_weights
from recurra.comparison.study import STUDY, Study, Training
from recurra.comparison.study_findings import study_findings
from recurra.comparison.table import Column, Row
from recurra.config.load import load_config

RESULTS = Path(__file__).parent / "results" / "which-parts-matter"

CELLS = {
    "lstm_peephole": "vanilla LSTM, with peepholes",
    "lstm_nig": "no input gate (NIG)",
    "lstm_nfg": "no forget gate (NFG)",
    "lstm_nog": "no output gate (NOG)",
    "lstm_niaf": "no input activation (NIAF)",
    "lstm_noaf": "no output activation (NOAF)",
    "lstm": "no peepholes (NP)",
    "lstm_cifg": "coupled input and forget gates (CIFG)",
    "lstm_fgr": "full gate recurrence (FGR)",
    "gru": "GRU",
    "rnn_tanh": "simple RNN",
}
# Trials draw these for all three problems; the adding problem needs no dropout, because no sequence comes twice.
RATE = Dimension("training.learning_rate", (5e-4, 2e-2), "log")
SPACES = {
    "language": [RATE, Dimension("model.output_dropout", (0.0, 0.4), "linear")],
    "tagging": [RATE, Dimension("model.input_dropout", (0.0, 0.6), "linear"),
                Dimension("model.output_dropout", (0.0, 0.6), "linear")],
    "adding": [Dimension("learning_rate", (2e-4, 2e-2), "log"), Dimension("clip_norm", (0.1, 10.0), "log")],
}  # fmt: skip
# The networks whose numbers of weights all cells get.
SYSTEMS: dict[str, dict[str, Any]] = {
    "language": {
        "task": "language-model",
        "tokenizer": {"kind": "character"},
        "model": {"cell": "lstm_peephole", "hidden_size": 128, "num_layers": 1},
        "training": {"batch_size": 32, "sequence_length": 64, "evaluate_every": 200},
    },
    "tagging": {
        "task": "tagging",
        "model": {"cell": "lstm_peephole", "hidden_size": 96, "num_layers": 1, "embedding_size": 50,
                  "characters": "convolution", "character_embedding_size": 25, "character_size": 50,
                  "output": "softmax"},
        "training": {"batch_tokens": 512, "evaluate_every": 100, "select_by": "accuracy", "samples": 0},
    },
}  # fmt: skip
ADDING_WIDTH, ADDING_LENGTH = 64, 50
TEST_LINES, BLOCK = 1500, 20
"""Lines of the held-out play that are scored one by one, and lines that a paired test draws together."""


def data_of(problem: str, work: Path, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The `data` section of a problem, and its file of test examples."""
    if problem == "tagging":
        files = {part: str((options.ewt / f"en_ewt-ud-{part}.conllu").absolute()) for part in ("train", "dev", "test")}
        return {"train": [files["train"]], "valid": [files["dev"]]}, files["test"]
    lines = options.shakespeare.read_text(encoding="utf-8").splitlines()
    cuts = [len(lines) * 8 // 10, len(lines) * 9 // 10]
    parts = {"train": lines[: cuts[0]], "valid": lines[cuts[0] : cuts[1]], "test": lines[cuts[1] :][:TEST_LINES]}
    work.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        (work / f"{name}.txt").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
    names = {name: str((work / f"{name}.txt").absolute()) for name in parts}
    return {"train": [names["train"]], "valid": [names["valid"]]}, names["test"]


def of_system(problem: str, work: Path, options: argparse.Namespace, report: Callable[[str], None]) -> Findings:
    """The study of a system."""
    data, test = data_of(problem, work, options)
    limit = {"max_minutes": options.seconds / 60} if options.steps is None else {"max_steps": options.steps}
    bounds = {**limit, "max_epochs": None, "device": "cpu"}
    config = load_config(overrides=[SYSTEMS[problem], {"data": data, "training": bounds}])
    folder = work / problem
    contestants = parse_contestants(options.cells)
    if (folder / STUDY).exists():
        contestants = list(Study.load(folder).contestants)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        contestants = sized(contestants, config, "weights", folder / ".sizes", SPACES[problem])
    study = Study(
        config.model_dump(mode="json"), tuple(contestants), tuple(SPACES[problem]), options.search, options.seeds,
        test=(test,), block=BLOCK if problem == "language" else 1,
    )  # fmt: skip
    study.opened_in(folder)

    def told(training: Training, result: Mapping[str, Any]) -> None:
        value = result.get("failed") or result["valid"][study.measure.name]
        report(f"{problem}: {training.kind} {training.number}, {result['contestant']}: {value}")

    finish_trainings(study, folder, study.search_trainings(), workers=options.workers, report=told)
    finish_trainings(study, folder, study.final_trainings(folder), workers=options.workers, report=told)
    return study_findings(study, folder, with_baseline=False)


def of_adding(work: Path, options: argparse.Namespace, report: Callable[[str], None]) -> Findings:
    """The study of the adding problem, which no system is for."""
    sizes = equal_weights(options.cells, adding_weights("lstm_peephole", ADDING_WIDTH), adding_weights)
    kept, space = work / "adding.jsonl", SPACES["adding"]
    valid = Column("valid", "squared error (validation)", "{:.5f}", higher=False)
    columns = [Column("squared_error", "squared error", "{:.5f}", higher=False), Column("right", "right", "{:.1%}")]

    def case(cell: str, width: int, trial: int, seed: int) -> dict[str, Any]:
        own = {"problem": "adding", "cell": cell, "width": width, "trial": trial + 1, "seed": seed}
        budget = {"seconds": options.seconds} if options.steps is None else {"steps": options.steps}
        return {**own, "length": ADDING_LENGTH, **budget, **draw(space, 1, trial)}

    told = partial(_told, report)
    run = partial(finish, kept, measure=measure_adding, workers=options.workers, report=told)
    trials = run(cases=[case(*each[:2], trial, 1) for trial in range(options.search) for each in sizes])
    best: dict[str, int] = {}
    for each in sizes:
        succeeded = [one for one in trials if one["cell"] == each.cell and "failed" not in one]
        if succeeded:
            best[each.cell] = min(succeeded, key=lambda one: one["valid"])["trial"] - 1
    finals = run(cases=[
        case(each.cell, each.width, best[each.cell], 2 + repeat)
        for repeat in range(options.seeds) for each in sizes if each.cell in best
    ])  # fmt: skip
    searched = []
    for each in sizes:
        own = [[one for one in lines if one["cell"] == each.cell] for lines in (trials, finals)]
        done = [one for one in own[1] if "failed" not in one]
        row = None
        if done:
            outcomes = {column.name: outcomes_of(kept, done, column.name) for column in columns}
            row = Row(each.cell, outcomes, weights=each.weights, seconds=[one["seconds_taken"] for one in done])
        failures = [
            f"{each.cell}, trial {one['trial']}, seed {one['seed']}: {one['failed']}"
            for one in [*own[0], *own[1]]
            if "failed" in one
        ]
        searched.append(
            Searched(
                each.cell, [one.get("valid") for one in own[0]], [one["valid"] for one in done], row,
                draw(space, 1, best[each.cell]) if each.cell in best else {}, each.width, each.weights, failures,
            )
        )  # fmt: skip
    note = (
        f"The figures are those of test sequences of {ADDING_LENGTH} to {ADDING_LENGTH * 11 // 10} steps. Always "
        f"telling 0.5 has a squared error of {error_without_memory(ADDING_LENGTH):.5f}."
    )
    return findings(searched, valid, columns, notes=[note])


def _told(report: Callable[[str], None], line: str) -> None:
    result = json.loads(line)
    report(f"adding: {result['cell']}, trial {result['trial']}, seed {result['seed']}: "
           f"{result.get('failed') or result['valid']}")  # fmt: skip


def overview(found: Mapping[str, Findings], cells: Sequence[str]) -> str:
    """For each cell the median of its seeds on each problem, from the worst to the best seed, and what is real."""
    head = ["", "cell", *(f"{problem}: {each.column.label}" for problem, each in found.items())]
    lines = [head, ["---"] * len(head)]
    for cell in cells:
        line = [CELLS.get(cell, ""), f"`{cell}`"]
        for each in found.values():
            values = sorted(each.medians.get(cell, []), reverse=not each.column.higher)
            if not values:
                line.append("failed")
                continue
            form = each.column.form
            text = f"{form.format(median(values))} ({form.format(values[0])} to {form.format(values[-1])})"
            entry = each.table.entries[each.column.name, cell]
            if entry.p is not None and entry.difference is not None and entry.p < 0.05:
                better = (entry.difference.difference > 0) == each.column.higher
                text += " better" if better else " worse"
            line.append(text)
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def results_of(work: Path, problems: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each training that ended, whatever the problem."""
    found: list[dict[str, Any]] = []
    for problem in problems:
        if problem == "adding":
            lines = [json.loads(line) for line in (work / "adding.jsonl").read_text(encoding="utf-8").splitlines()]
            found += [{key: value for key, value in line.items() if key != "outcomes"} for line in lines]
            continue
        for kind in ("trials", "finals"):
            for path in sorted((work / problem / kind).glob("*-trial-*.json")):
                result = read_result(path.parent, path.stem) or {}
                result.pop("outcomes", None)
                found.append({"problem": problem, "kind": kind.removesuffix("s"), **result})
    return found


def write(found: Mapping[str, Findings], work: Path, options: argparse.Namespace) -> None:
    folder = options.results
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Which parts of an LSTM matter", overview(found, options.cells)]
    parts.append("Better and worse are differences to the first row with p < 0.05 (Holm over the rows of a column).")
    for problem, each in found.items():
        each.draw(folder / "pictures" / problem)
        body = each.markdown(f"pictures/{problem}").replace("## ", "### ")
        parts.append(f"## {problem.capitalize()}\n\n{body}")
    (folder / "table.md").write_text("\n\n".join(parts), encoding="utf-8")
    lines = [json.dumps(each) + "\n" for each in results_of(work, list(found))]
    (folder / "results.jsonl").write_text("".join(lines), encoding="utf-8")
    asked = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    budget = f"{options.seconds:g} seconds" if options.steps is None else f"{options.steps:,} steps"
    readme = f"""# Which parts of an LSTM matter

    python experiments/which_parts_matter.py {shlex.join(asked)}

{overview(found, options.cells)}

Median of {options.seeds} seeds, and from the worst to the best. Better and worse are differences to the first row with
p < 0.05, corrected for the rows of a column (Holm). Each cell had {options.search} trials of a search and
{budget} for each training, on one thread; all networks of a column have about as many weights.
[table.md](table.md) has the tests, the widths, the best settings and the curves of the searches, and results.jsonl has
a line for each training. The variants are those of Greff et al. 2017, and the adding problem is experiment 4 of
Hochreiter & Schmidhuber 1997.

recurra {recurra.__version__}, Python {platform.python_version()}, {platform.machine()}.
Trainings at a time: {options.workers}.
"""
    (folder / "README.md").write_text(readme, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shakespeare", type=Path, help="input.txt of Tiny Shakespeare; for the language problem")
    parser.add_argument("--ewt", type=Path, help="folder of UD English EWT; for the tagging problem")
    parser.add_argument("--problems", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--cells", nargs="+", choices=recurra.cells.names(), default=list(CELLS))
    parser.add_argument("--seconds", type=float, default=90.0, help="of each training (90)")
    parser.add_argument("--steps", type=int, help="of each training, in place of seconds (none)")
    parser.add_argument("--search", type=int, default=8, help="trials of each cell (8)")
    parser.add_argument("--seeds", type=int, default=3, help="of each cell's best trial (3)")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time (1)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    for problem, needed in (("language", "shakespeare"), ("tagging", "ewt")):
        if problem in options.problems and getattr(options, needed) is None:
            parser.error(f"the problem {problem} needs --{needed}")
    report = partial(print, flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    found = {}
    for problem in options.problems:
        if problem == "adding":
            found[problem] = of_adding(options.work, options, report)
        else:
            found[problem] = of_system(problem, options.work, options, report)
        # What is known so far is worth reading.
        write(found, options.work, options)


if __name__ == "__main__":
    main()
