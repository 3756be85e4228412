"""Join recordings of single digits to recordings of strings of digits, with a manifest of what is said in them.

    python experiments/join_digits.py --recordings recordings --part train --output joined-train
    python experiments/join_digits.py --recordings recordings --part test --output joined-test

It needs what reads audio: pip install 'recurra[speech]'. The official split of the Free Spoken Digit Dataset says which
recordings are taken: those with the numbers 0 to 4 are the test part, and a string of one part has digits of that part
alone. `--leave-out jackson` takes the other speakers, `--only jackson` that speaker alone. The output folder gets WAV
files of 16 bits and `utterances.jsonl`, a line for each: its text, speaker and duration, and where each digit came from
and lies. The same seed writes the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from recurra.data.audio import AudioReader
from recurra.data.joined_recordings import NOISES, JoinSettings, RecordingJoiner, described
from recurra.data.speech_packages import speech_package
from recurra.data.utterances import UtteranceReader
from recurra.errors import ConfigError, RecurraError

PATTERN = r"(?P<text>\d)_(?P<speaker>[a-z]+)_\d+"
TEST = range(5)
"""Numbers of the recordings of the official test part."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recordings", required=True, help="folder of WAV files named DIGIT_SPEAKER_NUMBER.wav")
    options.add_argument("--part", choices=["train", "test"], required=True, help="of the official split")
    options.add_argument("--output", type=Path, required=True, help="folder that is made")
    options.add_argument("--count", type=int, default=200, help="how many strings (default: 200)")
    options.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    options.add_argument("--noise", choices=NOISES, default="pink", help="kind of noise (default: pink)")
    options.add_argument("--only", help="the one speaker who is taken (default: all)")
    options.add_argument("--leave-out", help="a speaker who is not taken (default: none)")
    given = options.parse_args()
    try:
        join(given)
    except RecurraError as error:
        sys.exit(f"join_digits.py: {error}")
    except OSError as error:
        sys.exit(f"join_digits.py: {error.filename}: cannot be written ({error.strerror}).")


def join(given: argparse.Namespace) -> None:
    """Write the recordings and their manifest."""
    if not 1 <= given.count <= 100_000 or given.seed < 0:
        raise ConfigError("--count must be from 1 to 100,000, and --seed 0 or more.")
    if given.output.exists() and any(given.output.iterdir()):
        raise ConfigError(f"{given.output}: is not empty; name a new folder.")
    takes = [
        take
        for take in UtteranceReader(given.recordings, pattern=PATTERN)
        if (int(take.id.rpartition("_")[2]) in TEST) == (given.part == "test")
        and given.only in (None, take.speaker)
        and given.leave_out != take.speaker
    ]
    joiner = RecordingJoiner(takes, AudioReader(8000), JoinSettings(kind=given.noise), seed=given.seed)
    soundfile = speech_package("soundfile", "Writing audio")
    given.output.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    with open(given.output / "utterances.jsonl", "w", encoding="utf-8") as manifest:
        for number in range(given.count):
            name = f"{given.part}-{number:05d}"
            joined = joiner.joined(number)
            # Written as whole numbers, so that the bytes do not depend on how a library rounds.
            soundfile.write(given.output / f"{name}.wav", np.rint(joined.samples * 32767).astype(np.int16), joined.rate)
            line = {"id": name, "audio_filepath": f"{name}.wav", **described(joined)}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
            seconds += joined.seconds
    print(f"{given.output}: {given.count:,} strings of {len(takes):,} recordings, {seconds:,.0f} s.")


if __name__ == "__main__":
    main()
