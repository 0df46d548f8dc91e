"""The embedded store: who owns a data directory, by a lock that ends with its owner however it ends; its allocator."""

import contextlib
import ctypes.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from edgeproxy.store import embedded
from edgeproxy.store.embedded import EmbeddedStore, EmbeddedStoreError

# A process that owns a directory, tells its id and its server's, and stays.
OWNER = """
import os, sys, time
from pathlib import Path
from edgeproxy.store.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
store.start()
if len(sys.argv) > 2 and os.fork() == 0:
    store.let_go()
    time.sleep(60)
print(store.pid, flush=True)
time.sleep(60)
"""


def owner(directory: Path, *more: str) -> tuple["subprocess.Popen[str]", int]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), *more], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeproxy.store.embedded._DYING_S", 0.2)


def test_a_second_owner_is_refused_and_told_by_whom_and_what_to_do(tmp_path: Path) -> None:
    process, _ = owner(tmp_path)
    try:
        with pytest.raises(EmbeddedStoreError, match=rf"in use by process {process.pid}: .*--data-dir"):
            EmbeddedStore(tmp_path).start()
    finally:
        end(process)


def test_a_second_owner_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path), pytest.raises(EmbeddedStoreError, match=f"in use by process {os.getpid()}"):
        EmbeddedStore(tmp_path).start()
    with EmbeddedStore(tmp_path):
        pass


def test_the_directory_of_a_killed_owner_is_had_although_nobody_has_waited_for_it(tmp_path: Path) -> None:
    process, _ = owner(tmp_path)
    try:
        process.kill()
        while lives(process.pid):
            time.sleep(0.01)
        # It is a zombie: a look at the process id finds it.
        os.kill(process.pid, 0)
        with EmbeddedStore(tmp_path) as store:
            assert lives(store.pid)
    finally:
        end(process)


def test_processes_that_were_forked_off_do_not_keep_the_directory(tmp_path: Path) -> None:
    process, _ = owner(tmp_path, "fork")
    try:
        process.kill()
        with EmbeddedStore(tmp_path) as store:
            assert lives(store.pid)
    finally:
        end(process)


def test_a_process_id_that_another_process_has_by_now_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getppid()} {os.getppid()}\n")
    (tmp_path / "server.lock").write_text(f"{os.getppid()}\n")
    with EmbeddedStore(tmp_path) as store:
        assert lives(store.pid)
    assert lives(os.getppid())


def test_a_server_left_behind_is_ended_first_and_its_data_kept(tmp_path: Path) -> None:
    process, server = owner(tmp_path)
    url = EmbeddedStore.running_url(tmp_path)
    assert url is not None
    with redis.Redis.from_url(url) as client:
        client.set("ep1:test", "kept")
    os.kill(server, signal.SIGSTOP)  # so it cannot end with its owner
    process.kill()
    process.wait()
    try:
        assert lives(server)
        with EmbeddedStore(tmp_path) as store, redis.Redis.from_url(store.url) as client:
            assert not lives(server)
            assert store.pid != server
            assert client.get("ep1:test") == b"kept"
    finally:
        end(process)


# A server that does not end when it is asked to.
DEAF = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(f"{os.getpid()}\\n"); lock.flush()
print("ready", flush=True)
time.sleep(60)
"""


def test_a_server_left_behind_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeproxy.store.embedded._SERVER_ENDS_S", 0.3)
    deaf = subprocess.Popen(
        [sys.executable, "-c", DEAF, str(tmp_path / "server.lock")],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert deaf.stdout is not None
    try:
        deaf.stdout.readline()
        with EmbeddedStore(tmp_path) as store:
            assert lives(store.pid)
            assert deaf.wait(5) == -signal.SIGKILL
    finally:
        end(deaf)


def test_a_server_whose_owner_was_killed_as_it_began_does_not_begin(tmp_path: Path) -> None:
    with (tmp_path / "server.lock").open("w") as lock:
        pid = os.fork()
        if not pid:
            embedded._begin_server(os.getpid(), lock.fileno())  # which is not the id of its parent
            os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (1 if sys.platform == "linux" else 0)
    assert (tmp_path / "server.lock").read_text() == f"{pid}\n"


def test_what_was_written_outlives_the_kill(tmp_path: Path) -> None:
    process, server = owner(tmp_path)
    url = EmbeddedStore.running_url(tmp_path)
    assert url is not None
    with redis.Redis.from_url(url) as client:
        client.set("ep1:test", "kept")
    end(process)
    os.kill(server, 0)  # it is ending, or not yet
    with EmbeddedStore(tmp_path) as store, redis.Redis.from_url(store.url) as client:
        assert client.get("ep1:test") == b"kept"


@pytest.mark.skipif(ctypes.util.find_library("jemalloc") is None, reason="jemalloc is not installed")
def test_the_server_has_its_memory_from_jemalloc_where_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedStore(tmp_path / "with") as store:
        assert EmbeddedStore.allocator(store.pid) == "jemalloc"
    monkeypatch.setattr(embedded, "_jemalloc", lambda: None)
    with EmbeddedStore(tmp_path / "without") as store:
        assert EmbeddedStore.allocator(store.pid) == "libc"


def test_a_server_without_jemalloc_starts_and_what_else_is_preloaded_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_jemalloc", lambda: "libjemalloc-that-is-gone.so.2")
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    with EmbeddedStore(tmp_path) as store:
        maps = Path(f"/proc/{store.pid}/maps").read_text()
        assert "libm.so.6" in maps or "/libm." in maps
        assert EmbeddedStore.allocator(store.pid) == "libc"
    assert EmbeddedStore.allocator(2**22 + 1) is None  # no process has that id
