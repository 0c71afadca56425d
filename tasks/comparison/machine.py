"""The machine that a comparison ran on, as its record has it."""

import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]


def machine_facts(*, workers: int, gpu: str | None) -> dict[str, Any]:
    """Return processor, cores, memory and versions.

    Args:
        workers: pipelines at a time.
        gpu: name of the GPU that models ran on; None for the CPU.
    """
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": version("torch"),
        "gpu": gpu,
        "workers": workers,
        "threads": 1,
    }


def _cpu() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None
