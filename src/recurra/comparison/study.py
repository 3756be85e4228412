"""A study: several cells, each searched with the same number of trials and then trained with several seeds.

A study is a folder: `study.json` says what it is, `trials/` and `finals/` hold a result for each training, `runs/` the
run directories, and `logs/` what each training said. All trainings follow from `study.json`, so that any process or
machine that sees the folder can do any of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .. import registry
from ..config.load import load_config
from ..errors import ConfigError, RunError
from ..files import unwritten, written_whole
from ..registry import Measure, System
from ..strict_json import read_json
from .contestants import Contestant, set_at
from .search import Dimension, draw
from .shared_results import read_result

__all__ = ["CHANGEABLE", "MOST_SEEDS", "MOST_TRIALS", "STUDY", "Study", "Training", "best_trial"]

STUDY = "study.json"
MOST_TRIALS = 10_000
MOST_SEEDS = 1000
_FORMAT = 1

# What every contestant has alike, what is not for a search to choose, or what makes no difference to a network.
_NOT_SEARCHED = re.compile(
    r"(task|version|logging\..*|model\.cell|model\.hidden_size|training\.(seed|device|num_threads|select_by|max_\w+))"
)
# A study that goes on may want more of these, which leave the trainings that were done as they are.
CHANGEABLE = ("trials", "seeds", "threads", "block")


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Attributes:
        index: of its contestant.
        trial: whose settings it has.
        seed: of its random numbers.
        final: whether it belongs to the comparison and not to the search.
        number: among the trials, or among the final trainings.
        name: of its files.
    """

    index: int
    trial: int
    seed: int
    final: bool
    number: int
    name: str

    @property
    def kind(self) -> str:
        """What it is called on the command line."""
        return "final" if self.final else "trial"


@dataclass(frozen=True)
class Study:
    """What is compared, and how.

    Attributes:
        config: complete, as JSON holds it.
        contestants: with their sizes.
        space: what a search draws; empty: every contestant has the configuration's settings.
        trials: of each contestant.
        seeds: of each contestant's best trial.
        seed: that all draws follow from, and that all trials train with; final trainings have the seeds after it, so
            that the trial which was lucky with its seed gains nothing by it.
        equal: weights or widths.
        test: files of the test data; empty: there are none.
        threads: of each training.
        block: test examples that are drawn together in the paired test.
        directory: in which relative paths of the configuration begin.
    """

    config: Mapping[str, Any]
    contestants: tuple[Contestant, ...]
    space: tuple[Dimension, ...]
    trials: int
    seeds: int
    seed: int = 1
    equal: str = "weights"
    test: tuple[str, ...] = ()
    threads: int = 1
    block: int = 1
    directory: str = "."

    def __post_init__(self) -> None:
        if self.measure.best not in ("lowest", "highest"):
            raise ConfigError(
                f"training.select_by: {self.measure.name} is neither best if lowest nor if highest, so cells cannot be "
                "compared by it; choose another measure."
            )
        for name, value, most in (("search", self.trials, MOST_TRIALS), ("seeds", self.seeds, MOST_SEEDS)):
            if not 1 <= value <= most:
                raise ConfigError(f"--{name}: must be from 1 to {most:,}, not {value:,}.")
        for dimension in self.space:
            if _NOT_SEARCHED.fullmatch(dimension.key):
                raise ConfigError(f"{dimension.key}: is not searched, but is the same for all trials; leave it out.")
            for contestant in self.contestants:
                if dimension.key in contestant.settings:
                    raise ConfigError(
                        f"{dimension.key}: {contestant.name} sets it, so it cannot be searched; leave out one."
                    )
            # Only the ends: what lies between them is as good.
            for value in dimension.values:
                load_config(overrides=[self.config, set_at(dimension.key, value)])

    @property
    def system(self) -> System:
        """The record of what is trained."""
        return registry.find(self.config["task"])

    @property
    def measure(self) -> Measure:
        """What weights, trials and contestants are chosen and compared by."""
        found = self.system.measure(self.config["training"]["select_by"])
        assert found is not None
        return found

    def trial(self, index: int, trial: int) -> Training:
        """The training of a contestant's trial."""
        name = f"{index + 1:02}-{_word(self.contestants[index].name)}-trial-{trial + 1:04}"
        return Training(index, trial, self.seed, False, trial * len(self.contestants) + index + 1, name)

    def search_trainings(self) -> list[Training]:
        """Those of all trials; the first trials of all contestants come first."""
        return [self.trial(index, trial) for trial in range(self.trials) for index in range(len(self.contestants))]

    def final_trainings(self, folder: Path) -> list[Training]:
        """Those of the best trials with several seeds; a contestant none of whose trials succeeded has none.

        Raises:
            RunError: if a trial has no result yet.
        """
        best = [best_trial(self.results_of(folder, index), self.measure) for index in range(len(self.contestants))]
        found = []
        for number in range(self.seeds * len(best)):
            index, repeat = number % len(best), number // len(best)
            trial = best[index]
            if trial is not None:
                name = f"{index + 1:02}-{_word(self.contestants[index].name)}-trial-{trial + 1:04}-seed-{repeat + 1:03}"
                found.append(Training(index, trial, self.seed + 1 + repeat, True, number + 1, name))
        return found

    def results_of(self, folder: Path, index: int) -> list[dict[str, Any]]:
        """The results of all trials of a contestant, in their order.

        Raises:
            RunError: if one is missing.
        """
        found = []
        for trial in range(self.trials):
            training = self.trial(index, trial)
            result = read_result(folder / "trials", training.name)
            if result is None:
                raise RunError(
                    f"{folder}: trial {training.number} ({self.contestants[index].name}) has no result yet, and the "
                    "best trial is chosen when all have; run the search first."
                )
            found.append(result)
        return found

    def settings(self, training: Training) -> dict[str, Any]:
        """What was drawn for a training."""
        return draw(self.space, self.seed, training.trial)

    def configuration(self, training: Training) -> Any:
        """The configuration of a training, complete and in the schema of its system.

        Raises:
            ConfigError: if what was drawn does not go with the rest.
        """
        contestant = self.contestants[training.index]
        drawn = [set_at(key, value) for key, value in self.settings(training).items()]
        quiet = {"logging": {"tensorboard": False, "picture": False, "progress": False}}
        threads = self.config["training"]["num_threads"] or self.threads
        own = {"training": {"seed": training.seed, "num_threads": threads}}
        return load_config(overrides=[self.config, *drawn, *contestant.overrides(), own, quiet])

    def opened_in(self, folder: Path) -> None:
        """Write study.json, or check that the study in the folder is this one, which may have grown.

        Raises:
            RunError: if the folder holds another study or something else, or cannot be written.
        """
        path = folder / STUDY
        if path.exists():
            before, now = Study.load(folder)._tree(), self._tree()
            for key, value in now.items():
                if key not in CHANGEABLE and before[key] != value:
                    where, old, new = _first_difference(key, before[key], value)
                    raise RunError(
                        f"{folder}: holds another study, in which {where} is {old!r} and not {new!r}; give another "
                        "folder."
                    )
        else:
            self.refuse_foreign_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as aside:
                aside.write_text(json.dumps(self._tree(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: cannot be written {unwritten(error)}.") from error

    def refuse_foreign_folder(self, folder: Path) -> None:
        """Raise RunError if a folder without a study holds anything else."""
        if folder.is_file() or (folder.is_dir() and any(not each.name.startswith(".") for each in folder.iterdir())):
            raise RunError(f"{folder}: holds something that is no study; give a new or empty folder.")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The study in a folder.

        Raises:
            RunError: if there is none, or it is damaged.
        """
        path = folder / STUDY
        try:
            tree = read_json(path.read_bytes())
            if tree.pop("format") != _FORMAT:
                raise ValueError("its format is that of another version of recurra")
            contestants = tuple(Contestant(**each) for each in tree.pop("contestants"))
            space = tuple(Dimension.of(key, given) for key, given in tree.pop("space").items())
            return cls(contestants=contestants, space=space, test=tuple(tree.pop("test")), **tree)
        except FileNotFoundError as error:
            raise RunError(f"{folder}: there is no study here; name the folder of one, or a configuration.") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{path}: is damaged ({error}); restore it, or begin anew in another folder.") from error

    def _tree(self) -> dict[str, Any]:
        tree = asdict(self)
        tree["space"] = {each.key: each.described for each in self.space}
        # As it comes back from the file.
        found: dict[str, Any] = json.loads(json.dumps({"format": _FORMAT, **tree}))
        return found


def best_trial(results: Sequence[Mapping[str, Any]], measure: Measure) -> int | None:
    """The number of the best trial by the validation measure; of equal ones the first, and None if all failed.

    Args:
        results: of the trials, each with `valid`, its measures, or with `failed`.
        measure: that they are chosen by.
    """
    badness = [math.inf if "failed" in result else measure.badness(result["valid"][measure.name]) for result in results]
    best = min(range(len(badness)), key=lambda trial: badness[trial])
    return None if math.isinf(badness[best]) else best


def _word(name: str) -> str:
    """A name fit for a file."""
    return re.sub(r"[^\w.=+]+", "_", name)[-60:]


def _first_difference(key: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Where two values differ first, and what they are there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            if one.get(name) != other.get(name):
                return _first_difference(f"{key}.{name}", one.get(name), other.get(name))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True), start=1):
            if pair[0] != pair[1]:
                return _first_difference(f"{key} {number}", *pair)
    return key, one, other
