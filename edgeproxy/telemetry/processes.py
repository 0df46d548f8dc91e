"""What a worker's process takes of the machine, read from Linux' `/proc`; elsewhere nothing is known of it."""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")  # of CPU time, in a second
_LIMIT = "Max open files"


def look(process: int) -> dict[str, float]:
    """Memory, CPU time and open files of a process, under the names of their metrics; nothing if it is gone."""
    place = Path("/proc", str(process))
    try:
        resident = int((place / "statm").read_text().split()[1])
        # The name of the program, in parentheses, may hold blanks.
        times = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
        limits = (place / "limits").read_text().splitlines()
        # Linux tells the number as the directory's size since 6.2; before, they have to be counted.
        files = (place / "fd").stat().st_size or len(os.listdir(place / "fd"))  # noqa: PTH208 - makes no paths
    except OSError:
        return {}
    soft = next(line for line in limits if line.startswith(_LIMIT))[len(_LIMIT) :].split()[0]
    return {
        "process_resident_memory_bytes": resident * _PAGE,
        "process_cpu_seconds_total": sum(map(int, times)) / _TICKS,
        "process_open_fds": files,
        "process_max_fds": float("inf" if soft == "unlimited" else soft),
    }
