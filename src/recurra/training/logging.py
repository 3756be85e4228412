"""What a training shows and writes: metrics.jsonl, TensorBoard events, the learning curve, progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..config import LoggingConfig
from ..errors import RunError
from ..files import regular, unwritten
from ..shown import tell, visible
from ..strict_json import read_json

__all__ = [
    "RunLog",
    "best_evaluation",
    "bits_per_character",
    "perplexity",
    "preparation",
    "read_metrics",
    "screen_progress",
]


def perplexity(loss: float) -> float:
    """exp of a loss in nats per token; infinite where it overflows."""
    return math.exp(loss) if loss < 700.0 else math.inf


def bits_per_character(loss: float, tokens: float, characters: float) -> float | None:
    """A loss in nats per token as bits per character of the same text; None when the text's characters are unknown."""
    return loss * tokens / characters / math.log(2.0) if characters else None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, each of a step; an unfinished last line and damaged ones are passed over.

    A record has the keys step (a whole number), kind (train or valid) and loss. All values but kind are numbers, or
    None in place of infinity and NaN, which JSON does not have.

    Raises:
        RunError: if it is there and cannot be read.
    """
    return [record for record in _records(path) if _is_of_training(record)]


def best_evaluation(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The evaluation of the lowest criterion, or loss where none is set; None if there is none."""
    found = [record for record in records if record["kind"] == "valid" and record["loss"] is not None]
    return min(found, key=_criterion, default=None)


def _criterion(record: dict[str, Any]) -> float:
    found: float | None = record.get("criterion")
    return record["loss"] if found is None else found


def _is_of_training(record: dict[str, Any]) -> bool:
    numbers = (value for key, value in record.items() if key != "kind")
    whole = all(value is None or type(value) in (int, float) for value in numbers)
    return whole and record.get("kind") in ("train", "valid") and "loss" in record


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    try:
        # Not splitlines, which also parts at the separators of Unicode that JSON lets stand in a text.
        lines = regular(path).read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).") from error
    for line in lines:
        try:
            record = read_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records


def screen_progress(*columns: str | ProgressColumn, **options: Any) -> Progress:
    """Progress on stderr that leaves standard output alone, which rich else draws on its own screen too.

    Args:
        columns, options: as rich.progress.Progress takes them.
    """
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, **options)


@contextmanager
def preparation(label: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr for reading data: gives a function to call with the bytes done and the bytes in all."""
    if not shown or not sys.stderr.isatty():
        if shown:
            tell(f"{label} ...")
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with screen_progress(*columns, refresh_per_second=2) as progress:
        bar = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


class RunLog:
    """Everything that one training run reports, for the main process only.

    Args:
        run_dir: where metrics.jsonl, learning_curve.png and tensorboard/ go.
        config: the `logging` section.
        start: the size of metrics.jsonl in bytes up to which its lines stand; what follows is cut off, as a resumed run
            writes it again. 0 starts anew.
        step: the step at which training starts or resumes.
        total: the last step, or None when only time bounds the training.
    """

    def __init__(
        self, run_dir: Path, config: LoggingConfig, *, start: int = 0, step: int = 0, total: int | None = None
    ) -> None:
        self.run_dir = run_dir
        self.config = config
        self.total = total
        self._path = run_dir / "metrics.jsonl"
        self._file = open(self._path, "ab")  # noqa: SIM115
        self._file.truncate(min(start, self._path.stat().st_size))
        self._file.seek(0, os.SEEK_END)
        self._records = read_metrics(self._path)
        self._events: Any = None
        if config.tensorboard:
            # Slow to import, and of no use to those who switch it off.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1 if step else None)
        self._progress = self._bar = None
        if config.progress and sys.stderr.isatty():
            self._progress = _progress_bar()
            self._bar = self._progress.add_task("", total=total, completed=step, state="")
            self._progress.start()

    @property
    def best(self) -> tuple[int, float]:
        """Step and loss of the evaluation whose weights are kept: the lowest criterion, or loss where none is set."""
        chosen = best_evaluation(self._records)
        assert chosen is not None
        return chosen["step"], chosen["loss"]

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
            kept = [record for record in _records(path) if record["step"] < step]
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
        """Draw learning_curve.png from the records: train and validation loss over steps, the best marked."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 4.2), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        curves = {
            kind: [
                (record["step"], record["loss"])
                for record in self._records
                if record["kind"] == kind and record["loss"] is not None
            ]
            for kind in ("train", "valid")
        }
        if curves["train"]:
            axes.plot(*zip(*curves["train"], strict=True), color="tab:blue", linewidth=1.0, label="training")
        if curves["valid"]:
            axes.plot(*zip(*curves["valid"], strict=True), color="tab:orange", marker=".", label="validation")
            step, loss = self.best
            axes.plot(step, loss, "*", color="tab:red", markersize=12, label=f"best: {loss:.4f} at step {step}")
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel("loss (nats per token)")
        axes.grid(alpha=0.3)
        axes.legend()
        aside = self.run_dir / ".learning_curve.png"
        FigureCanvasAgg(figure).print_png(str(aside))
        aside.replace(self.run_dir / "learning_curve.png")

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
        text = _summary(record)
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


_MEASURES = {
    "bleu": "BLEU {:.2f}",
    "chrf": "chrF {:.2f}",
    "exact": "{:.2%} exact",
    "aligned": "{:.2%} aligned",
    "length_ratio": "length ratio {:.3f}",
}


def _summary(record: dict[str, Any]) -> str:
    loss = "validation loss" if record["kind"] == "valid" else "loss"
    parts = [f"epoch {record['epoch']}", f"{loss} {record['loss']:.4f}"]
    if record.get("perplexity") is not None:
        parts.append(f"perplexity {record['perplexity']:.2f}")
    if record.get("bits_per_character") is not None:
        parts.append(f"{record['bits_per_character']:.3f} bits/char")
    for name, form in _MEASURES.items():
        if record.get(name) is not None:
            parts.append(form.format(record[name]))
    if record.get("tokens_per_second"):
        parts.append(f"{record['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
