"""What a training shows and writes: metrics.jsonl, TensorBoard events, the learning curve, progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..config.sections import LoggingConfig
from ..errors import RunError
from ..files import unwritten
from ..pictures.learning_curve import draw_learning_curve
from ..run.directory import Run
from ..run.metrics import best_evaluation, read_metrics, read_records
from ..shown import tell, visible
from .progress import screen_progress

__all__ = ["RunLog"]


class RunLog:
    """Everything that one training run reports, for the main process only.

    Args:
        run: in whose directory metrics.jsonl, learning_curve.png and tensorboard/ are written.
        start: the size of metrics.jsonl in bytes up to which its lines stand; what follows is cut off, as a resumed run
            writes it again. 0 starts anew.
        step: the step at which training starts or resumes.
        total: the last step, or None when only time bounds the training.
    """

    def __init__(self, run: Run, *, start: int = 0, step: int = 0, total: int | None = None) -> None:
        self.run_dir = run_dir = run.path
        self.config: LoggingConfig = run.config.logging
        self.system = run.system
        self.total = total
        self._path = run.metrics
        self._file = open(self._path, "ab")  # noqa: SIM115
        self._file.truncate(min(start, self._path.stat().st_size))
        self._file.seek(0, os.SEEK_END)
        self._records = read_metrics(self._path)
        self._events: Any = None
        if self.config.tensorboard:
            # Slow to import, and of no use to those who switch it off.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1 if step else None)
        self._progress = self._bar = None
        if self.config.progress and sys.stderr.isatty():
            self._progress = _progress_bar()
            self._bar = self._progress.add_task("", total=total, completed=step, state="")
            self._progress.start()

    @property
    def position(self) -> int:
        """The size of metrics.jsonl in bytes, its lines forced to the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        return self._file.tell()

    def step(self, step: int) -> None:
        """Move the progress bar."""
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=step)

    def write(self, record: dict[str, Any], seconds_left: float | None = None) -> None:
        """Report one record: step, epoch, kind (train or valid), loss in nats, and more numbers by name.

        Raises:
            RunError: if the disk is full or cannot be written.
        """
        self._records.append(record)
        # JSON has no infinity and no NaN.
        plain = {key: None if _is_endless(value) else value for key, value in record.items()}
        try:
            self._file.write((json.dumps(plain) + "\n").encode())
            self._file.flush()
            if self._events is not None:
                for key, value in plain.items():
                    if key not in ("step", "epoch", "kind") and value is not None:
                        self._events.add_scalar(f"{key}/{record['kind']}", value, record["step"])
            if record["kind"] == "valid" and self.config.picture:
                self.draw()
        except OSError as error:
            raise self._unwritable(error) from error
        if self.config.progress:
            self._show(record, seconds_left)

    def show_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Say samples on stderr, and keep them in samples.jsonl and among TensorBoard's texts.

        Raises:
            RunError: if the disk is full or cannot be written.
        """
        if not samples:
            return
        path = self.run_dir / "samples.jsonl"
        try:
            # A resumed run writes again what came after its checkpoint.
            kept = [record for record in read_records(path) if record["step"] < step]
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in kept]
            lines += [json.dumps({"step": step, **sample}, ensure_ascii=False) + "\n" for sample in samples]
            aside = path.with_name(f".{path.name}")
            aside.write_text("".join(lines), encoding="utf-8")
            aside.replace(path)
            if self._events is not None:
                for index, sample in enumerate(samples):
                    self._events.add_text(f"sample {index + 1}", "    " + sample["text"].replace("\n", "\n    "), step)
        except OSError as error:
            raise self._unwritable(error) from error
        for sample in samples:
            self.say(sample["text"])

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"{self.run_dir}: the log could not be written {unwritten(error)} and resume.")

    def say(self, message: str) -> None:
        """A line on stderr, above the progress bar."""
        if self._progress is not None:
            self._progress.console.print(visible(message, keep="\n\t"), markup=False, highlight=False)
        elif self.config.progress:
            tell(message)

    def draw(self) -> None:
        """Draw learning_curve.png: training and validation loss over steps, the best evaluation marked."""
        measure = self.system.measure("loss")
        assert measure is not None
        path = self.run_dir / "learning_curve.png"
        draw_learning_curve(path, self._records, best_evaluation(self._records), measure)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        # On a full disk what is still buffered cannot be written, and what happened has been said already.
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
        with suppress(OSError):
            self._file.close()

    def _show(self, record: dict[str, Any], seconds_left: float | None) -> None:
        text = self._summary(record)
        if seconds_left is not None:
            text += f", {_duration(seconds_left)} left"
        if self._progress is not None and self._bar is not None:
            if record["kind"] == "train":
                self._progress.update(self._bar, completed=record["step"], state=text)
            else:
                self.say(f"step {record['step']}: {text}")
            return
        of = f"/{self.total}" if self.total else ""
        tell(f"step {record['step']}{of}: {text}")

    def _summary(self, record: dict[str, Any]) -> str:
        loss = "validation loss" if record["kind"] == "valid" else "loss"
        parts = [f"epoch {record['epoch']}", f"{loss} {record['loss']:.4f}"]
        for measure in self.system.measures:
            if measure.short and record.get(measure.name) is not None:
                parts.append(measure.short.format(record[measure.name]))
        unit = self.system.unit
        if record.get(f"{unit}_per_second"):
            parts.append(f"{record[f'{unit}_per_second']:,.0f} {unit}/s")
        return ", ".join(parts)


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _progress_bar() -> Progress:
    return screen_progress(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        # The refreshing thread takes the time of the two cores that small machines have.
        refresh_per_second=2,
        transient=False,
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
