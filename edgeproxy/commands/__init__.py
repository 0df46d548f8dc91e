"""What every command begins and ends with: settings, the store, faults told in a line, the audit."""

import asyncio
import contextlib
import getpass
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
from redis.exceptions import RedisError, ResponseError

from edgeproxy import settings as settings_module
from edgeproxy import wording
from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.file import AccountFile, AccountFileError
from edgeproxy.errors import Fault, NotDurableError, RefusedError, SealError, StoreError, UncertainError
from edgeproxy.settings import Settings, SettingsError
from edgeproxy.store import Store
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.faults import fault_of
from edgeproxy.store.sealing import Seal
from edgeproxy.store.url import StoreURL
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.audit import audit_to_stderr

NOTHING_CHANGED = "nothing was changed"
_PATIENCE_S = 5
UNAVAILABLE = (Fault, RedisError)  # the store cannot be used: see `store_fault`
_CAUSES = (RedisError, OSError, StoreError, SealError)
_FAULTS = {
    "memory": "its memory is full: raise its maxmemory",
    "loading": "it is still loading its data: try again later",
    "disk": "it cannot write to its disk: look at its log",
    "replicas": "it has too few replicas to take writes (min-replicas-to-write)",
    "cluster": "its cluster is not whole, or is none: look at CLUSTER INFO there",
}


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process (see `settings.load`); ends the command where they cannot be used."""
    try:
        return settings_module.load(**overrides)
    except SettingsError as error:
        fail(str(error))


def account_file_of(file: Path) -> AccountFile:
    """The account file, its warnings told on stderr; ends the command where it is refused."""
    try:
        accounts, warnings = account_file.read_closely(file)
    except AccountFileError as error:
        fail(f"{error}\n{NOTHING_CHANGED}")
    except OSError as error:
        fail(f"{file}: {error.strerror}\n{NOTHING_CHANGED}")
    for line in wording.first_of(
        [f"{file}:{warning.line}: warning: {warning.text}" for warning in warnings], "warnings"
    ):
        click.echo(line, err=True)
    return accounts


def store_url(settings: Settings) -> str:
    """Where the store is: the one that is named, else the one that `serve` or `demo` runs in the data directory.

    Ends the command where that is none, or two.
    """
    if settings.store_url is not None:
        return settings.store_url.get_secret_value()
    directories = {"serve": embedded_directory(settings), "demo": demo_directory(settings)}
    running = {name: url for name, directory in directories.items() if (url := _running(directory))}
    setting = settings.told_as("store_url")
    if not running:
        places = " or ".join(map(str, directories.values()))
        fail(
            f"{setting} is not set, and no store runs in {places}: start edgeproxy serve or edgeproxy demo, or "
            f"set {setting} to the store's address, which both of them print"
        )
    if len(running) > 1:
        stores = " and ".join(f"{url} ({name})" for name, url in running.items())
        fail(f"{setting} is not set, and two stores run here: {stores}: set it to the one that is meant")
    return next(iter(running.values()))


def _running(directory: Path) -> str | None:
    """The URL of the embedded store of a directory, if it answers: one that was killed leaves its URL behind."""
    url = EmbeddedStore.running_url(directory)
    if url is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PATIENCE_S)
            probe.connect(StoreURL.parse(url).path)
    except (OSError, ValueError):
        return None
    return url


def store_of(settings: Settings) -> Store:
    """The store that the settings name, with the keys that open its secrets."""
    # What the store's rooms log about its faults is for a gateway, which goes on; a command ends with its own line.
    logging.getLogger("edgeproxy").addHandler(logging.NullHandler())
    return store_at(settings, store_url(settings))


def store_at(settings: Settings, url: str) -> Store:
    """The store at that URL, with the keys that open its secrets."""
    return Store(url, seal=Seal(settings.store_keys))


def embedded_directory(settings: Settings) -> Path:
    """Where `serve` without a store's URL keeps its data."""
    return settings.data_dir / "store"


def demo_directory(settings: Settings) -> Path:
    """Where `demo` keeps its data, unless it is told another place."""
    return settings.data_dir / "demo"


def run(work: Any, settings: Settings) -> Any:
    """Run what asks the store; a fault of it ends the command with a line that says what to do.

    That line names the settings to look at, as they are called where they were set.
    """
    try:
        return asyncio.run(work)
    except (RedisError, OSError, Fault) as error:
        fail(store_fault(error, settings))
    except (StoreError, SealError) as error:
        fail(str(error))
    except RefusedError as refused:
        fail(f"the store refused a change: {refused.why}")
    except NotDurableError:
        fail(
            "a change was made, and is not known to be safe on disk, or on as many replicas as "
            f"{settings.told_as('durable_replicas')} says; the same command can be run again"
        )
    except UncertainError:
        fail("the store did not tell whether a change was made; the same command can be run again")


def store_fault(error: BaseException, settings: Settings) -> str:
    """Why the store cannot be used, and which setting to look at, called as where it was set."""
    return f"the store cannot be used: {_why(error, settings, settings.told_as('store_url'))}"


def _why(error: BaseException, settings: Settings, setting: str) -> str:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    error = next((cause for cause in causes if isinstance(cause, _CAUSES)), error)
    if isinstance(error, (StoreError, SealError)):
        return str(error)
    fault = fault_of(error)
    url = settings.store_url.get_secret_value() if settings.store_url else None
    place = f" at {StoreURL.parse(url).place}" if url else ""
    why = next((f" ({reason})" for cause in causes if (reason := _reason(cause))), "")
    match "unreachable" if fault == "cluster" and why else fault:
        case "unreachable":
            return f"nothing answers{place}{why}: look at {setting}, and whether the store runs"
        case "timeout":
            return f"what is{place} does not answer: look at {setting}, and at the store"
        case "denied":
            return f"it refuses the user, the password or a command: look at {setting}, and at the store's users"
        case "readonly":
            return f"it is a replica and takes no writes: {setting} has to name its primary"
        case "empty":
            return "it holds no accounts: bring them in with edgeproxy load FILE"
    answered = f"it answers {str(error)!r}: " if isinstance(error, ResponseError) else ""
    return _FAULTS.get(fault) or f"{answered}look at {setting}, and at what edgeproxy check tells"


def _reason(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    if error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    number = re.search(r"\[Errno (\d+)\]", str(error))  # of several addresses that were tried
    return os.strerror(int(number[1])) if number else error.strerror or ""


@contextlib.contextmanager
def audited(
    what: str, *, account: str | None = None, record: str | None = None, fields: Iterable[str] = ()
) -> Iterator[audit.Write]:
    """A context in which a command makes one write, with its line of the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # which Python raises depends on its version
        user = str(os.getuid())
    with (
        audit_to_stderr(),
        audit.write(what, who=f"command:{user}", account=account, record=record, fields=fields) as write,
    ):
        yield write


async def known_account(store: Store, name: str) -> Account:
    """The account of that name.

    Raises:
        StoreError: there is none.
        RedisError, OSError, Fault: the store cannot be used.
    """
    for server in await store.servers.all():
        await server.call_calmly([("PING",)])  # whose fault tells more than the one that ends a visitor's request
    account = await store.account(name, time.monotonic() + _PATIENCE_S)
    if account is None:
        raise StoreError(f"there is no account {name}")
    return account


def fail(text: str) -> NoReturn:
    """End the command with status 1 and a text on stderr."""
    click.echo(text, err=True)
    sys.exit(1)
