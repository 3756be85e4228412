"""Which cell is the best language model at equal weights: several cells and seeds, and an n-gram model as baseline.

    python experiments/compare_cells.py WORK TEXT [--cells lstm gru mgu] [--seeds 3] [--weights 200000 | --width 128]
                                        [--tokenizer character] [--layers 1] [--epochs 4] [--workers 2]

The lines of the text are cut into training (eight tenths), validation (one tenth) and held-out text (the last tenth),
in this order. Every cell gets the width at which it has the wanted number of weights (with --width: the same width).
The weights that were best on the validation text are judged on each held-out line. The baseline is an n-gram model of
the same tokens, its order chosen on the validation text too. Results go to WORK/results.jsonl as they end, and after a
break the same command goes on; then come WORK/table.md and table.json. Neighbouring lines depend on one another, so the
paired test draws blocks of lines.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recurra import cells
from recurra.comparison.ngram import best_order
from recurra.comparison.runs import Measurement, case_name, finish, train, with_seeds
from recurra.comparison.sizes import equal_weights, equal_widths, system_weights
from recurra.comparison.table import Column, Row, compare

MEASURES = [Column("nats", "nats per token", "{:.4f}", higher=False)]


def configuration(case: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": "language-model",
        "tokenizer": {"kind": case["tokenizer"]},
        "model": {"cell": case["cell"], "hidden_size": case["width"], "num_layers": case["layers"]},
        "training": {"max_epochs": case["epochs"], "seed": case["seed"], "num_threads": 1, "device": "cpu"},
        "logging": {"tensorboard": False, "picture": False, "progress": False},
    }


def parts(work: Path, text: Path) -> dict[str, list[str]]:
    """Training, validation and held-out lines, each also in a file of its own."""
    lines = text.read_text(encoding="utf-8").splitlines()
    cuts = [len(lines) * 8 // 10, len(lines) * 9 // 10]
    found = {"train": lines[: cuts[0]], "valid": lines[cuts[0] : cuts[1]], "held": lines[cuts[1] :]}
    for name, part in found.items():
        (work / f"{name}.txt").write_text("".join(line + "\n" for line in part), encoding="utf-8")
    return found


def measure(work: Path, case: Mapping[str, Any]) -> Measurement:
    """Train one cell with one seed; nats and tokens of each held-out line."""
    run = work / "runs" / case_name(case)
    train(run, configuration(case), "--data", str(work / "train.txt"), "--valid", str(work / "valid.txt"))
    # Only here, in the process of this case, whose threads are few.
    import torch

    import recurra
    from recurra.run.metrics import read_metrics

    torch.set_num_threads(1)
    predictor = recurra.load(run, device="cpu")
    scores = predictor.score((work / "held.txt").read_text(encoding="utf-8").splitlines())
    values = {
        "weights": sum(weight.numel() for weight in predictor.model.parameters()),
        "tokenizer_fingerprint": predictor.tokenizer.fingerprint,
        "seconds": read_metrics(run / "metrics.jsonl")[-1]["seconds"],
    }
    return Measurement(values, {"nats": np.array([[-score.log_probability, score.tokens] for score in scores])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--cells", nargs="+", choices=cells.names(), default=["lstm", "gru", "mgu"])
    parser.add_argument("--seeds", type=int, default=3)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--weights", type=int, default=200_000)
    size.add_argument("--width", type=int)
    parser.add_argument("--tokenizer", choices=["character", "word", "whitespace", "bpe"], default="character")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", type=int, default=20, help="lines that are drawn together in the paired test (20)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = parts(options.work, options.text)

    from recurra.config.sections import TokenizerConfig
    from recurra.data.text import read_text
    from recurra.data.tokenizer import Tokenizer

    # The training makes the same one of the same text.
    tokenizer = Tokenizer.train(read_text([options.work / "train.txt"]), TokenizerConfig(kind=options.tokenizer))
    settings = {name: getattr(options, name) for name in ("tokenizer", "layers", "epochs")}

    def weights(cell: str, width: int) -> int:
        config = configuration({"cell": cell, "width": width, "seed": 1, **settings})
        return system_weights(config, cell, width, tokenizer.vocab_size)

    if options.width is None:
        sizes = equal_weights(options.cells, options.weights, weights)
    else:
        sizes = equal_widths(options.cells, options.width, weights)
    for each in sizes:
        print(f"{each.cell}: {each.width} units, {each.weights:,} weights", flush=True)

    kept = options.work / "results.jsonl"
    checksum = f"{zlib.crc32(options.text.read_bytes()):08x}"
    cases = [{"cell": each.cell, "width": each.width, "text": checksum, **settings} for each in sizes]
    cases = with_seeds(cases, range(1, options.seeds + 1))
    report = partial(print, flush=True)
    results = finish(kept, cases, partial(measure, options.work), workers=options.workers, report=report)
    assert {result["tokenizer_fingerprint"] for result in results} == {tokenizer.fingerprint}

    begun = time.perf_counter()
    ids = {name: [tokenizer.encode(line) for line in part] for name, part in lines.items()}
    ngram = best_order(ids["train"], ids["valid"], tokenizer.vocab_size, tokenizer.eos_id)
    seconds = time.perf_counter() - begun
    nats = np.array([[each.sum(), len(each)] for each in ngram.nats(ids["held"])])
    name = f"{ngram.order}-gram (Witten-Bell)"
    rows = [Row(name, {"nats": nats}, seconds=[seconds], baseline=True, deterministic=True)]
    for each in sizes:
        of_cell = [result for result in results if result["cell"] == each.cell]
        rows.append(Row.of_runs(f"{each.cell} ({each.width} units)", kept, of_cell, outcomes=["nats"]))
        assert np.array_equal(np.asarray(rows[-1].outcomes["nats"])[0, :, 1], nats[:, 1]), "scored on other tokens"
    table = compare(rows, MEASURES, groups=np.arange(len(nats)) // options.block)
    (options.work / "table.md").write_text(table.markdown(), encoding="utf-8")
    (options.work / "table.json").write_text(table.json() + "\n", encoding="utf-8")
    print(table.text())


if __name__ == "__main__":
    main()
