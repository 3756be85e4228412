"""A pipe in place of a file of a run is refused, and folders to work in go when they should."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recurra import registry
from recurra.data.pair_corpus import ParallelCorpus
from recurra.data.pair_store import PairStore
from recurra.data.token_stream import TokenStream
from recurra.data.tokenizer import Tokenizer
from recurra.errors import RunError
from recurra.files import written_whole
from recurra.run.checkpoint import load_checkpoint
from recurra.run.directory import Run, read_run
from recurra.run.metrics import read_metrics
from recurra.run.weights import read_weights
from recurra.systems.translation.config import TranslationConfig
from recurra.systems.translation.data import open_pairs

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def opened(folder: Path) -> Run:
    return Run(folder, TranslationConfig(), registry.find("translation"))


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "configuration": ("config.yaml", read_run),
    "log": ("metrics.jsonl", lambda run: read_metrics(run / "metrics.jsonl")),
    "tokenizer": ("tokenizer.json", lambda run: Tokenizer.load(run / "tokenizer.json")),
    "weights": ("model.safetensors", lambda run: read_weights(opened(run))),
    "checkpoint": ("checkpoints/last/manifest.json", lambda run: load_checkpoint(run / "checkpoints", ("last",))),
    "step of the best": ("checkpoints/best/state.json", lambda run: read_weights(opened(run))),
    "pairs": ("data/train.npz", lambda run: ParallelCorpus.open(run / "data" / "train.npz")),
    "validation pairs": ("data/train.npz", lambda run: open_pairs(opened(run))),
    "store": ("data/train.json", lambda run: PairStore(run / "data" / "train")),
    "examples": ("data/train.arrow", lambda run: open_pairs(opened(run))),
    "stream": ("data/train.json", lambda run: TokenStream.open(run / "data" / "train")),
}


@pytest.fixture(autouse=True)
def no_waiting() -> Any:
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_no_file_of_a_run(name: str, tmp_path: Path) -> None:
    file, read = FILES[name]
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(RunError):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_scratch_folder_outlives_forked_processes_and_goes_in_the_end(tmp_path: Path) -> None:
    program = (
        "import atexit, os, sys\n"
        "from pathlib import Path\n"
        "from recurra.files import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as folder:\n"
        "    if os.fork() == 0:\n"
        "        atexit._run_exitfuncs()\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    assert Path(folder).is_dir()\n"
        "assert not Path(folder).exists()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old" and aside.suffix == ".md"
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with written_whole(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
