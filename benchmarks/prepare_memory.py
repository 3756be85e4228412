"""Peak memory and speed of preparing a large text: python benchmarks/prepare_memory.py --megabytes 1000

For each kind of tokenizer a fresh process learns a vocabulary from the text and tokenises it to a file. The text is
made of words with a Zipf-like distribution over an open vocabulary, part of them Korean, in lines or, with --one-line,
in one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import peak_memory

KINDS = ("character", "word", "bpe", "unigram")


def write_text(path: Path, megabytes: int, one_line: bool) -> None:
    """A text of the given size: word ranks from a Zipf law, each rank spelt as syllables."""
    random = np.random.default_rng(1)
    latin = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    korean = [chr(code) for code in range(0xAC00, 0xD7A4, 28)]

    def spell(rank: int) -> str:
        syllables = korean if rank % 5 == 0 else latin
        word = ""
        while rank or not word:
            rank, index = divmod(rank, len(syllables))
            word += syllables[index]
        return word

    known: dict[int, str] = {rank: spell(rank) for rank in range(100_000)}
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < megabytes * 1_000_000:
            ranks = np.minimum(random.zipf(1.2, 100_000), 1 << 40).tolist()
            words = [known.get(rank) or spell(rank) for rank in ranks]
            ends = random.random(len(words)) < 0.05
            line = "".join(
                word + (". " if one_line else ".\n") if end else word + " "
                for word, end in zip(words, ends, strict=True)
            )
            written += len(line.encode())
            file.write(line)


def measure(kind: str, text: Path, out: Path) -> None:
    """Learn and prepare in this process, and print its peak memory."""
    import torch  # noqa: F401  a training run holds it in memory too

    from recurra.config.sections import TokenizerConfig
    from recurra.data.text import read_text
    from recurra.data.token_stream import prepare
    from recurra.data.tokenizer import Tokenizer

    megabytes = text.stat().st_size / 1e6
    idle = peak_memory()
    start = time.perf_counter()
    tokenizer = Tokenizer.train(read_text([text]), TokenizerConfig(kind=kind))
    learnt, learnt_peak = time.perf_counter(), peak_memory()
    stream = prepare([text], tokenizer, out)
    end = time.perf_counter()
    print(
        f"{kind:10} {tokenizer.vocab_size:6} {len(stream) / 1e6:9.1f} {megabytes / (learnt - start):13.1f} "
        f"{megabytes / (end - learnt):13.1f} {idle:10.0f} {learnt_peak:10.0f} {peak_memory():10.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=50, help="size of the text (50 MB)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="tokenizers to measure (all)")
    parser.add_argument("--one-line", action="store_true", help="put all of the text on one line")
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "TEXT", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, text, out = arguments.measure
        measure(kind, Path(text), Path(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        write_text(text, arguments.megabytes, arguments.one_line)
        print(f"{text.stat().st_size / 1e6:.0f} MB of text; memory in MiB, idle is with torch imported")
        print(f"{'kind':10} {'vocab':>6} {'M tokens':>9} {'learn MB/s':>13} {'prepare MB/s':>13}", end=" ")
        print(f"{'idle':>10} {'learnt':>10} {'peak':>10}", flush=True)
        for kind in arguments.kinds:
            out = Path(folder, f"{kind}.tokens")
            subprocess.run([sys.executable, __file__, "--measure", kind, str(text), str(out)], check=True)
            out.unlink()


if __name__ == "__main__":
    main()
