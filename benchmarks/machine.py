"""What the machine is, what CPU time its processes spend, and where results are kept."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_DISTRIBUTIONS = ("edgeproxy", "aiohttp", "uvloop", "orjson", "redis", "hiredis", "fastapi", "uvicorn", "httptools")


class MissingToolError(Exception):
    """A program that a benchmark needs is not installed; the text says how to get it."""


def tool(name: str, how: str) -> str:
    """The path of a program.

    Raises:
        MissingToolError: it is not there; `how` is the command that installs it.
    """
    # Debian keeps servers out of the PATH of ordinary users.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise MissingToolError(f"{name} is not installed; on Debian and Ubuntu: {how}")
    return path


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time in s, user and system, that the processes have spent since they started."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        if fields is None:
            raise ProcessLookupError(f"process {pid} ended while it was measured")
        ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S


@contextlib.contextmanager
def alone(on_wait: Callable[[], None]) -> Iterator[None]:
    """Keep other benchmarks of this machine waiting; where one runs already, call `on_wait` and wait for its end."""
    with (Path(tempfile.gettempdir()) / f"edgeproxy-benchmarks-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def facts(store: str) -> dict[str, Any]:
    """The conditions of a run; `store` is the store server's product and version."""
    versions = {"python": platform.python_version(), "store": store}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions |= {name: version for name, flag in (("nginx", "-v"), ("wrk", "-v")) if (version := _version(name, flag))}
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }


def _version(name: str, flag: str) -> str | None:
    try:
        path = tool(name, "")
    except MissingToolError:
        return None
    run = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"(?:nginx/|wrk )(\S+)", run.stdout + run.stderr)
    return found[1] if found else None


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def save(name: str, result: dict[str, Any], directory: Path) -> Path:
    """Keep a result as `name`.json."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read(name: str, directory: Path) -> dict[str, Any] | None:
    """A result as it was kept; None if there is none."""
    try:
        tree: dict[str, Any] = json.loads((directory / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return tree
