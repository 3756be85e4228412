"""Lines of Python that stand twice: a place to look for what two systems could share.

    python benchmarks/alike_lines.py [FOLDER ...] [--run 6]

Counts the lines of all files below the folders (src) that belong to a run of at least so many lines which stands at
another place too, blank lines, comments, docstrings and imports left out, and lists the pairs of files that share most.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Line numbers and lines that are counted, without their indentation."""
    text = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if documented or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in numbered if line and line[0] != "#" and number not in left_out]


def alike(files: list[Path], run: int) -> tuple[int, Counter[tuple[Path, Path]], int]:
    """Lines that stand twice, by pairs of files how many runs they share, and all lines that were looked at."""
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    counted = {path: lines_of(path) for path in files}
    for path, lines in counted.items():
        for start in range(len(lines) - run + 1):
            places[tuple(line for _, line in lines[start : start + run])].append((path, start))
    twice: set[tuple[Path, int]] = set()
    shared: Counter[tuple[Path, Path]] = Counter()
    for found in places.values():
        if len(found) > 1:
            twice |= {(path, start + offset) for path, start in found for offset in range(run)}
            shared.update({tuple(sorted((one[0], two[0]))) for one, two in combinations(found, 2)})  # type: ignore[misc]
    return len(twice), shared, sum(map(len, counted.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("src")])
    parser.add_argument("--run", type=int, default=6, help="fewest lines that count (6)")
    options = parser.parse_args()
    files = sorted(path for folder in options.folders for path in folder.rglob("*.py"))
    count, shared, total = alike(files, options.run)
    print(f"{count:,} of {total:,} lines in {len(files)} files stand twice in runs of {options.run} or more")
    for (one, two), runs in shared.most_common(10):
        print(f"{runs:5}  {one}  {two}")


if __name__ == "__main__":
    main()
