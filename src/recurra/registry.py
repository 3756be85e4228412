"""The systems by name. A system is described by strings and numbers, so nothing here imports torch or pydantic.

A system from outside this package joins through an entry point of the group `recurra.systems`, which names its record.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from .errors import ConfigError
from .names import nearest
from .shown import tell

__all__ = ["Argument", "Measure", "Option", "Part", "System", "Verb", "find", "names", "resolve", "systems"]

_BUILT_IN = {
    "language-model": "recurra.systems.language_model:SYSTEM",
    "translation": "recurra.systems.translation:SYSTEM",
    "classification": "recurra.systems.classification:SYSTEM",
    "tagging": "recurra.systems.tagging:SYSTEM",
    "speech": "recurra.systems.recognition:SPEECH",
}
GROUP = "recurra.systems"


@dataclass(frozen=True)
class Measure:
    """A number that people see.

    Attributes:
        name: its key in metrics.jsonl, in results, and for `training.select_by`.
        label: what people call it.
        form: how its value is written, as `str.format` takes it.
        unit: what stands after the value, such as "nats per token".
        best: which values are better; None: it says something about the data, and no weights are chosen by it.
        short: label and value as the line of an evaluation has them; empty: they are left out there.
        of_sums: "module:function" from sums of the examples' outcomes (..., K) to the measure, (...); empty: the first
            sum over the second. It is for measures that the system's `outcomes` gives.
    """

    name: str
    label: str
    form: str = "{:.4f}"
    unit: str = ""
    best: Literal["lowest", "highest", "nearest to 1"] | None = None
    short: str = ""
    of_sums: str = ""

    def badness(self, value: float) -> float:
        """A number that is lower for better values."""
        if self.best == "highest":
            return -value
        return abs(math.log(max(value, 1e-9))) if self.best == "nearest to 1" else value

    def shown(self, value: float) -> str:
        """A value as people read it."""
        return f"{self.form.format(value)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        flag: such as `--data`.
        help: one sentence, without its default unless `default` is None.
        kind: of a value.
        default: None: there is no value unless one is given.
        many: whether one flag takes several values.
        single: what it takes no more than one of, although it is written like an option of many values.
        metavar: what stands for the value in the help.
        least, most: bounds of a number.
        key: of a training, the key of the configuration that the option sets.
        settings: of a training, "module:function" that makes more settings of the value; they hold where no
            configuration file is given, and --set wins over them.
        loads: whether it says how the run is loaded, not what is done with it.
        parameter: the name of the parameter that gets the value; empty: that of the flag.
    """

    flag: str
    help: str
    kind: type = str
    default: Any = None
    many: bool = False
    single: str = ""
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    key: str = ""
    settings: str = ""
    loads: bool = False
    parameter: str = ""

    @property
    def name(self) -> str:
        """The name of the parameter that gets the value."""
        return self.parameter or self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Argument:
    """A value that a command takes by its place, or several; without a default it must be given.

    Several that need not be given have the default "", which stands for none.
    """

    name: str
    help: str
    metavar: str
    default: str | None = None
    many: bool = False


@dataclass(frozen=True)
class Verb:
    """A command that asks a trained run, and in which form: `recurra NAME DIR ARGUMENTS OPTIONS`.

    Attributes:
        function: "module:function" of the predictor and of the arguments and options by name. It yields what
            `recurra.systems.output` has. If it takes `progress`, that is a function of what is done and what there is.
        help: of the command, its first line alone in the list of commands.
        check: "module:function" of the same arguments and options, which raises ConfigError before the run is loaded.
        several: whether DIR may be several runs, which answer together.
        lines: whether it also takes `lines`, an iterator over the lines of standard input; None stands where the next
            line would have to be waited for.
        progress: what the progress bar says.
    """

    name: str
    function: str
    help: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    check: str = ""
    several: bool = False
    lines: bool = False
    progress: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a network that another training may start from, whatever its system, if it has a part of this name.

    Attributes:
        name: such as `encoder`; parts of one name are alike in all systems.
        prefixes: with which the names of its weights begin. What stands after them is the same in all systems.
        of_tokens: whether it has a row for each token, and means something only with the same tokenizers.
        of_files: files of a run, such as its labels, with which alone it means something.
        settings: keys of the section `model` that its shape follows from. A training of another system that has a part
            of this name with settings takes over the values of the keys that both name.
        implied: values of such keys that this system's own section lacks.
    """

    name: str
    prefixes: tuple[str, ...]
    of_tokens: bool = False
    of_files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    implied: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class System:
    """What the rest of recurra has to know of a system.

    Attributes:
        name: the `task` of its configurations, and what `recurra train` calls it.
        summary: what it does, in a few words.
        schema: "module:class" of its configuration.
        prepare: "module:function" of an open run and the processes, which gives the task that the loop trains.
        predictor: "module:class" that answers; its `from_runs(directories, device=, average=)` loads it.
        build: "module:function" of a `model` section and of the sizes that the data decide, such as those of
            vocabularies, which gives a new network.
        network: "module:function" of an open run, which gives its network with weights as they come.
        describe: "module:function" of a configuration, which gives names and values for `recurra info`, the name
            `network` among them.
        options: those of `recurra train` beside the ones that all systems take.
        verbs: what it can be asked.
        measures: the numbers that its training and evaluation give, in the order in which people see them.
        unit: what the speed of its training is counted in.
        files: what a model needs beside its configuration and weights: one of these sets of files. Names of tokenizers'
            files begin with `tokenizer.`.
        parts: of its network, all weights being in one of them; what others may start from.
        outcomes: "module:function" of a loaded predictor and of names of files, which gives for some measures an array
            (N,) or (N, K) of what is known of each of N examples (see `recurra.comparison.resampling`); empty: two
            models cannot be compared example by example.
        baseline: "module:function" of a loaded predictor and of names of files, which gives the name of a simple system
            trained on the same data, and its outcomes on the files; empty: there is none.
        reader: "module:attribute" of its `recurra.systems.reading.Reader`, which says how its recurrent layers read a
            text; empty: their states cannot be looked at.
        pipeline: its kind of model on the Hugging Face Hub.
        example: lines of Python that ask a loaded `model`, for its page there.
    """

    name: str
    summary: str
    schema: str
    prepare: str
    predictor: str
    build: str
    network: str
    describe: str
    options: tuple[Option, ...]
    verbs: tuple[Verb, ...]
    measures: tuple[Measure, ...]
    unit: str
    files: tuple[tuple[str, ...], ...]
    pipeline: str
    example: str
    parts: tuple[Part, ...] = ()
    outcomes: str = ""
    baseline: str = ""
    reader: str = ""

    def measure(self, name: str) -> Measure | None:
        """Its measure of a name; None if it has none."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def shown(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Labels and values, for people, of those of its measures that there are values of."""
        present = [each for each in self.measures if values.get(each.name) is not None]
        return [(each.label, each.shown(values[each.name])) for each in present]


@cache
def _outside() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


def names() -> list[str]:
    """The names of all systems, those of this package first."""
    return [*_BUILT_IN, *_outside()]


def find(name: str) -> System:
    """The record of a system.

    Raises:
        ConfigError: if there is none of this name; the nearest name is said.
    """
    place = _BUILT_IN.get(name) or _outside().get(name)
    if place is None:
        guess = nearest(name, names())
        raise ConfigError(
            f"there is no system {name}; " + (f"did you mean {guess}?" if guess else f"known are {', '.join(names())}.")
        )
    system = resolve(place)
    if not isinstance(system, System) or system.name != name:
        raise ConfigError(f"{place}: is not the record of a system {name}; mend the package that it comes from.")
    return system


@cache
def systems() -> list[System]:
    """All systems; one from outside that cannot be loaded is said, and left out, so that the others work."""
    found = []
    for name in names():
        try:
            found.append(find(name))
        except Exception as error:  # whatever goes wrong in somebody else's package
            if name in _BUILT_IN:
                raise
            tell(f"recurra: the system {name} is left out: {error}")
    return found


def resolve(place: str) -> Any:
    """What "module:name" names.

    Raises:
        ConfigError: if there is nothing of this name; only a package from outside can be so wrong.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module.startswith(str(error.name)):
            raise
        raise ConfigError(f"{place}: cannot be imported ({error}); mend the package that it comes from.") from error
