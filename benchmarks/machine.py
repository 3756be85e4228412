"""What a measurement must know of its machine: what it is, and whether anything else is running on it."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path

import torch

__all__ = ["busy_share", "describe", "peak_memory"]


def describe() -> str:
    """Processor, cores, torch and its threads, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}, {cores} cores, {capability}; torch {torch.__version__}, {torch.get_num_threads()} threads"


def peak_memory() -> float:
    """The most memory that this process has held, in MiB.

    Linux counts what a process that is replaced had held as its successor's in ru_maxrss, and so a child's parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def busy_share(seconds: float = 1.0) -> float:
    """Share of all cores that work while this process sleeps; above 0.1 a measurement is worth little.

    Raises:
        RuntimeError: on a system that does not tell (anything but Linux).
    """

    def read() -> tuple[int, int]:
        try:
            fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        except OSError as error:
            raise RuntimeError("the load of this system cannot be read") from error
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1.0 - (idle_after - idle) / max(total_after - total, 1)
