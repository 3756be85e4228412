"""Make one of the models that come with recurra: a trained run with its weights in half precision, and its card.

    python experiments/ship.py RUN NAME --test FILE --licence cc-by-sa-4.0

NAME.md in experiments/shipped says what the model is, of which data and under which licence it was made, and by which
command. The figures below it in the card are those of the weights that travel, on the test file.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from baselines import measured
from record_reading import answers
from safetensors.torch import load_file

import recurra
from recurra.run import hub
from recurra.run.checkpoint import save_tensors
from recurra.run.directory import WEIGHTS
from recurra.run.saving import without_places

FOLDER = Path(recurra.__file__).parent / "pretrained"
NOTES = Path(__file__).parent / "shipped"
MOST_BYTES = 3_000_000


def licensed(card: str, licence: str) -> str:
    """The card with the licence in the lines that the Hub reads."""
    return card.replace("library_name: recurra\n", f"library_name: recurra\nlicense: {licence}\n", 1)


def halve(path: Path) -> None:
    """Write weights anew in half precision, which is exact to three digits and a half."""
    weights = load_file(path)
    halved = {name: weight.half() for name, weight in weights.items()}
    if not all(bool(weight.isfinite().all()) for weight in halved.values()):
        raise SystemExit(f"{path}: holds numbers that half precision does not reach.")
    save_tensors(path, halved, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--test", required=True)
    parser.add_argument("--licence", required=True, help="of the data, as the Hub writes it, such as cc-by-sa-4.0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = FOLDER / options.name
    trained = recurra.load(options.run, device="cpu")
    bare = without_places(trained.config)
    free = bare.training.model_copy(update={"num_threads": None, "device": "auto"})
    trained.config = bare.model_copy(update={"training": free})
    shutil.rmtree(target, ignore_errors=True)
    trained.save(target)
    halve(target / WEIGHTS)
    shipped = recurra.load(target, device="cpu")
    found = list(answers(shipped, options.test))
    right = np.array([each.right == each.answer for each in found], float)
    of = "words" if len({each.group for each in found}) < len(found) else "texts"
    accuracy = measured(right, groups=[each.group for each in found])
    bytes_ = sum(path.stat().st_size for path in target.iterdir())
    card = hub.model_card(options.name, shipped.config) + (
        f"\n{(NOTES / f'{options.name}.md').read_text(encoding='utf-8').strip()}\n\n"
        f"Accuracy on {Path(options.test).name}: {100 * accuracy['value']:.2f}% of {len(found):,} {of} (95% interval "
        f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}).\n"
    )
    (target / "README.md").write_text(licensed(card, options.licence), encoding="utf-8")
    print(f"{target}: {bytes_:,} bytes; {100 * accuracy['value']:.2f}% of {len(found):,} {of}")
    if bytes_ >= MOST_BYTES:
        raise SystemExit(f"{target}: has {bytes_:,} bytes, and {MOST_BYTES:,} are the most.")


if __name__ == "__main__":
    main()
