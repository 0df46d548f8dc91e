"""Starting edgeproxy's commands as a user would, and stopping them even when a test fails."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

EDGEPROXY = str(Path(sys.executable).with_name("edgeproxy"))


@dataclass
class Running:
    """A serving process: its lines on stdout up to `ready`, and the first of each by its first word."""

    process: "subprocess.Popen[str]"
    said: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def edge(self) -> str:
        return self.said["edge:"]

    @property
    def manage(self) -> str:
        return self.said["manage:"]

    def stop(self, number: int = signal.SIGTERM, wait_s: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(wait_s)

    def workers(self) -> list[int]:
        """The process ids of the gateway's workers."""
        return [
            int(pid)
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if "edgeproxy" in Path(f"/proc/{pid}/cmdline").read_text()
        ]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPROXY_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(settings)


@contextlib.contextmanager
def started(
    *arguments: str, settings: Mapping[str, str] | None = None, stderr: Path | None = None, until: str = "ready"
) -> Iterator[Running]:
    """Run `edgeproxy ARGUMENTS` with settings until it says `ready`, or what `until` is; stop it at the end."""
    with stderr.open("ab") if stderr else contextlib.nullcontext(subprocess.DEVNULL) as errors:
        process = subprocess.Popen(
            [EDGEPROXY, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(settings or {})
        )
    running = Running(process)
    late = threading.Timer(30, process.terminate)  # which ends its output too
    late.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            running.said.setdefault(word, rest)
            running.lines.append(line.rstrip("\n"))
            if word == until:
                break
        late.cancel()
        assert until in running.said, f"not {until} within 30 s, or ended: status {process.wait(20)}"
        yield running
    finally:
        late.cancel()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.stop(wait_s=15)
        if process.poll() is None:
            for worker in running.workers():
                os.kill(worker, signal.SIGKILL)
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run(*arguments: str, body: str | None = None, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `edgeproxy ARGUMENTS` to its end."""
    return subprocess.run(
        [EDGEPROXY, *arguments], capture_output=True, text=True, input=body, env=environment(settings), timeout=60
    )


def pasted(command: str) -> str:
    """Run a shell command as pasted, and give what it prints."""
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=30).stdout
