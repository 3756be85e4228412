"""The folder of one training: made, refused, or taken up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config import RunConfig, load_config, save_config
from ..errors import ConfigError, RunError
from ..files import unwritten

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["CONFIG", "METRICS", "WEIGHTS", "begun_run", "discard_run", "hold_run", "open_run", "read_run"]

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


def open_run(run_dir: Path, config: RunConfig, *, resume: bool) -> None:
    """Make the folder and write its config.yaml, or check that the run in it can go on under `config`.

    Raises:
        RunError: if the folder holds something and `resume` is false, or holds no run and `resume` is true.
        ConfigError: if a resumed run's configuration differs in more than bounds, logging and how often it is saved.
    """
    if resume and (run_dir / CONFIG).exists():
        _refuse_links(run_dir)
        _check_unchanged(read_run(run_dir), config, run_dir)
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


@contextmanager
def begun_run(run_dir: Path, config: RunConfig, *, resume: bool) -> Iterator[None]:
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
        open_run(run_dir, config, resume=resume)
        yield


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


def read_run(run_dir: Path) -> Any:
    """The configuration of the run in a folder.

    Raises:
        RunError: if the folder is missing or is no run.
        ConfigError: if its configuration is damaged or of a newer version.
    """
    if run_dir.is_file():
        raise RunError(f"{run_dir}: is a file, not a run directory; text to translate or score is read from `< FILE`.")
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: there is no such run directory; `recurra train` makes one.")
    if not (run_dir / CONFIG).is_file():
        raise RunError(
            f"{run_dir}: is not a run directory; one holds {CONFIG}, {WEIGHTS} and what else `recurra train` wrote."
        )
    return load_config(run_dir / CONFIG)


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
