"""Train a language model on the text that ships with CPython, then ask it; each step is a command to type yourself.

Usage: python examples/demo.py [FOLDER]      (FOLDER: runs/demo; about four minutes on two cores)
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

RECURRA = Path(sys.executable).with_name("recurra")

SETTINGS = [
    "tokenizer.kind=bpe",
    "tokenizer.vocab_size=2000",
    "model.hidden_size=256",
    "model.input_dropout=0.3",
    "model.dropout=0.3",
    "model.output_dropout=0.3",
    "model.weight_dropout=0.2",
    "training.batch_size=16",
    "training.learning_rate=0.004",
    "training.weight_decay=0.01",
    "training.max_epochs=20",
]


def run(*arguments: str | Path) -> None:
    """Run a recurra command; a Ctrl-C is for the command, which saves before it ends."""
    command = [str(argument) for argument in arguments]
    print(f"\n$ recurra {shlex.join(command)}", flush=True)
    with subprocess.Popen([str(RECURRA), *command]) as process:
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
    if process.returncode:
        sys.exit(process.returncode)


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    model = folder / "model"
    if (model / "config.yaml").exists():
        print(f"{model} exists already: going on with it. Delete it to train anew.")
        run("train", "--run", model, "--resume")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        text = folder / "language-reference.txt"
        text.write_text("\n".join(topics.values()), encoding="utf-8")
        print(f"The Python language reference, {text.stat().st_size:,} bytes, is in {text}.")
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        run("train", "language-model", "--data", text, "--run", model, *settings)
    run("info", model)
    run("next", model, "The value of the", "--top", "8")
    run("score", model, "--text", "The function returns a new object.", "--text", "The function returns a knew object.")
    run("generate", model, "--prompt", "An exception is", "--length", "60", "--temperature", "0.7", "--seed", "2")
    print(f"\nThe learning curve is in {model / 'learning_curve.png'}; everything about the run is in {model}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
