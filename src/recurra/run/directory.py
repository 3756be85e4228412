"""The folder of one training: made, refused, or taken up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..config.load import load_config, save_config
from ..config.sections import RunConfig
from ..errors import ConfigError, RunError
from ..files import unwritten
from ..names import nearest
from ..registry import System
from .shipped import shipped_models

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["CONFIG", "METRICS", "WEIGHTS", "Run", "begun_run", "discard_run", "hold_run", "open_run", "read_run"]

CONFIG = "config.yaml"
# Where it is written first: all that a training killed before its beginning can leave.
_ASIDE = f".{CONFIG}"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"

# What a resumed run may change: how long it goes on, how often it looks, shows and saves, where it runs, and what the
# guard against infinite losses advises to lower. Everything else would make it another run.
CHANGEABLE = frozenset(
    f"training.{key}"
    for key in (
        "max_steps",
        "max_epochs",
        "max_minutes",
        "patience",
        "save_every",
        "evaluate_every",
        "keep_evaluated",
        "samples",
        "device",
        "num_threads",
        "learning_rate",
        "clip_norm",
        "precision",
    )
)


@dataclass(frozen=True)
class Run:
    """A run directory whose configuration has been read; a training holds its lock besides.

    Attributes:
        path: of the directory.
        config: complete, in the schema of its system.
        system: the record of its system.
    """

    path: Path
    config: Any
    system: System

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        """The folder of its prepared data."""
        return self.path / "data"

    @property
    def metrics(self) -> Path:
        """Its log."""
        return self.path / METRICS

    def of(self, system: str) -> Run:
        """This run, if it is of a system.

        Raises:
            RunError: if it is of another one.
        """
        if self.system.name != system:
            raise RunError(f"{self.path}: is a run of the task {self.system.name}, not of {system}.")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The files that its model needs beside configuration and weights.

        Raises:
            RunError: if it has none of the sets of files with which its system can work.
        """
        for names in self.system.files:
            if all((self.path / name).is_file() for name in names):
                return names
        lacking = next(name for name in self.system.files[0] if not (self.path / name).is_file())
        raise RunError(f"{self.path}: lacks {lacking}; its training has hardly begun or the file was lost.")


def open_run(run_dir: Path, config: RunConfig, *, resume: bool) -> Run:
    """Make the folder and write its config.yaml, or check that the run in it can go on under `config`.

    Raises:
        RunError: if the folder holds something and `resume` is false, or holds no run and `resume` is true.
        ConfigError: if a resumed run's configuration differs in more than bounds, logging and how often it is saved.
    """
    if resume and (run_dir / CONFIG).exists():
        _refuse_links(run_dir)
        _check_unchanged(read_run(run_dir).config, config, run_dir)
    elif run_dir.is_dir() and any(path.name != _ASIDE for path in run_dir.iterdir()):
        what = "a run" if (run_dir / CONFIG).exists() else "files that are not a run"
        advice = "resume it with --resume or give another folder" if what == "a run" else "give a new or empty folder"
        raise RunError(f"{run_dir}: already holds {what}; {advice}.")
    elif run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir}: is a file; give a folder for the run.")
    elif resume:
        raise RunError(f"{run_dir}: there is no run to resume; leave out --resume to start one.")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        aside = run_dir / _ASIDE
        save_config(config, aside)
        aside.replace(run_dir / CONFIG)
    except OSError as error:
        raise RunError(f"{run_dir}: cannot be written {unwritten(error)}.") from error
    return Run(run_dir, config, registry.find(config.task))


@contextmanager
def begun_run(run_dir: Path, config: RunConfig, *, resume: bool) -> Iterator[Run]:
    """A run's folder, made, held and opened: of several that begin it at once, one is let in.

    Raises:
        RunError, ConfigError: as `hold_run` and `open_run` do.
    """
    if not resume and not run_dir.exists():
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{run_dir}: cannot be written {unwritten(error)}.") from error
    # Held before it is looked at, so that the others find it held, or the run in it.
    with hold_run(run_dir):
        yield open_run(run_dir, config, resume=resume)


def _refuse_links(run_dir: Path) -> None:
    """Raise RunError for a link in a run: what training writes would go through it to a file elsewhere."""
    for folder, folders, files in os.walk(run_dir):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                raise RunError(
                    f"{path}: is a link; a run that is resumed holds files of its own, so copy what it names."
                )


@contextmanager
def hold_run(run_dir: Path) -> Iterator[None]:
    """Keep every other training out of a folder; that of a process which dies is free with its last child.

    Raises:
        RunError: if another training is at work there.
    """
    if fcntl is None or not run_dir.is_dir():
        yield
        return
    folder = os.open(run_dir, os.O_RDONLY)
    try:
        # Some file systems have no locks; what cannot be held is used as before.
        with suppress(OSError):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"{run_dir}: another training is at work here; wait for its end or stop it.") from error
        yield
    finally:
        os.close(folder)


def discard_run(run_dir: Path) -> None:
    """Empty the folder of a run that could not begin."""
    for path in run_dir.iterdir() if run_dir.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_run(run_dir: str | Path) -> Run:
    """The run in a folder.

    Raises:
        RunError: if the folder is missing or is no run.
        ConfigError: if its configuration is damaged or of a newer version.
    """
    run_dir = Path(run_dir)
    if run_dir.is_file():
        raise RunError(f"{run_dir}: is a file, not a run directory; text to translate or score is read from `< FILE`.")
    if not run_dir.is_dir():
        guess = _nearest_run(run_dir) or nearest(str(run_dir), shipped_models())
        advice = f"did you mean {guess}?" if guess else "`recurra train` makes one."
        raise RunError(f"{run_dir}: there is no such run directory; {advice}")
    if not (run_dir / CONFIG).is_file():
        raise RunError(
            f"{run_dir}: is not a run directory; one holds {CONFIG}, {WEIGHTS} and what else `recurra train` wrote."
        )
    config = load_config(run_dir / CONFIG)
    return Run(run_dir, config, registry.find(config.task))


def _nearest_run(run_dir: Path) -> Path | None:
    """The run beside a folder that does not exist whose name is most like its name."""
    try:
        beside = {path.name: path for path in run_dir.parent.iterdir() if (path / CONFIG).is_file()}
    except OSError:
        return None
    guess = nearest(run_dir.name, beside)
    return None if guess is None else beside[guess]


def _check_unchanged(old: RunConfig, new: RunConfig, run_dir: Path) -> None:
    before, after = dict(_leaves(old.model_dump(mode="json"))), dict(_leaves(new.model_dump(mode="json")))
    for key, value in after.items():
        if key in CHANGEABLE or key.startswith(("logging.", "decoding.")):
            continue
        if before.get(key) != value:
            raise ConfigError(
                f"{key}: is {value!r}, but the run in {run_dir} was started with {before.get(key)!r}; a resumed run "
                f"can only change {', '.join(sorted(CHANGEABLE))}, logging and decoding."
            )


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
