"""Install what `make wheel` made where there is no compiler, and train with it: python -m tests.installed, on Linux.

Needs the wheel in dist/, and downloads what it depends on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from pydoc_data.topics import topics

ROOT = Path(__file__).parents[1]
VENV = ROOT / "build" / "installed"
SETTINGS = ["tokenizer.kind=character", "model.hidden_size=32", "training.max_steps=20"]
# Trains as the command does, and tells which backends ran the layers.
TRAIN = """
import sys
from recurra.cli.main import main
from recurra.kernels.dispatch import record_backends
with record_backends() as ran:
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
assert set(ran) == {"cpu"}, f"The layers ran on {set(ran) or 'nothing'}, not on the engine alone."
"""


def wheel() -> Path:
    """The newest wheel for this Python, with nothing but the package in it."""
    tag = "abi3" if sys.version_info >= (3, 12) else "cp311"
    found = list((ROOT / "dist").glob(f"recurra-*-{tag}-manylinux*.whl"))
    if not found:
        sys.exit("dist/ has no wheel for this Python: make wheel.")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(newest) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    # auditwheel puts copies of libraries in a folder recurra.libs; a copy of OpenMP would have threads of its own.
    if any(not (top == "recurra" or top.endswith(".dist-info")) for top in tops):
        sys.exit(f"{newest.name} holds {', '.join(sorted(tops))}, and should hold nothing but recurra.")
    return newest


def main() -> None:
    made = wheel()
    venv.create(VENV, clear=True, with_pip=True)
    commands = VENV / "bin"
    # Nothing of the system's is on the path, so no compiler.
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "PYTHONPATH")}
    environment["PATH"] = str(commands)

    def run(*command: str | Path, folder: str | None = None) -> str:
        print("$", *(word if "\n" not in str(word) else "..." for word in command), flush=True)
        # Not in the project's folder, whose sources would be imported.
        done = subprocess.run(
            [commands / command[0], *command[1:]], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"{done.stdout}\nIt ended with {done.returncode}.")
        return done.stdout

    install = ["python", "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--constraint"]
    run(*install, ROOT / "constraints.txt", made)
    with tempfile.TemporaryDirectory() as folder:
        if "Usage" not in run("recurra", "--help", folder=folder):
            sys.exit("recurra --help shows no usage.")
        facts = json.loads(run("recurra", "info", "--json", folder=folder))
        if facts["engine"] == "not built":
            sys.exit("The wheel's engine does not run.")
        text = Path(folder) / "text.txt"
        text.write_text("\n".join(list(topics.values())[:10]))
        train = ["train", "language-model", "--data", text, "--run", "model", "--set", *SETTINGS]
        run("python", "-c", TRAIN, *train, folder=folder)
        trained = json.loads(run("recurra", "info", "model", "--json", folder=folder))
        if trained["last"]["step"] != 20:
            sys.exit(f"The training ended at step {trained['last']['step']} of 20.")
    print(f"{made.name} works without a compiler; its engine runs on {facts['engine']}.")


if __name__ == "__main__":
    main()
