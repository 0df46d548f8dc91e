"""What every command begins and ends with: settings, the store, faults told in a line, the audit."""

import asyncio
import contextlib
import getpass
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
from redis.exceptions import RedisError

from edgeproxy import audit, telemetry
from edgeproxy import settings as settings_module
from edgeproxy.errors import Fault
from edgeproxy.model import Account
from edgeproxy.settings import Settings, SettingsError
from edgeproxy.store import Store, StoreError
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.functions import NotDurableError, RefusedError, UncertainError
from edgeproxy.store.sealing import Seal, SealError

_PATIENCE_S = 5


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process (see `settings.load`); ends the command where they cannot be used."""
    try:
        return settings_module.load(**overrides)
    except SettingsError as error:
        fail(str(error))


def store_url(settings: Settings) -> str:
    """Where the store is; ends the command where none is named and none runs here."""
    if settings.store_url is not None:
        return settings.store_url.get_secret_value()
    url = EmbeddedStore.running_url(embedded_directory(settings))
    if url is None:
        fail("EDGEPROXY_STORE_URL is not set, and no embedded store runs (start it with: edgeproxy serve)")
    return url


def store_of(settings: Settings) -> Store:
    """The store that the settings name, with the keys that open its secrets."""
    return store_at(settings, store_url(settings))


def store_at(settings: Settings, url: str) -> Store:
    """The store at that URL, with the keys that open its secrets."""
    return Store(url, seal=Seal(settings.store_keys))


def embedded_directory(settings: Settings) -> Path:
    """Where `serve` without a store's URL keeps its data."""
    return settings.data_dir / "store"


def run(work: Any) -> Any:
    """Run what asks the store; a fault of it ends the command with a line that says what to do."""
    try:
        return asyncio.run(work)
    except (RedisError, OSError) as error:
        fail(f"the store cannot be used: {error}")
    except (StoreError, SealError) as error:
        fail(str(error))
    except Fault as fault:
        fail(f"the store cannot be used: {fault.text}")
    except RefusedError as refused:
        fail(f"the store refused a change: {refused.why}")
    except NotDurableError:
        fail(
            "a change was made, and is not known to be safe on disk, or on as many replicas as "
            "EDGEPROXY_DURABLE_REPLICAS says; the same command can be run again"
        )
    except UncertainError:
        fail("the store did not tell whether a change was made; the same command can be run again")


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
        telemetry.audit_to_stderr(),
        audit.write(what, who=f"command:{user}", account=account, record=record, fields=fields) as write,
    ):
        yield write


async def known_account(store: Store, name: str) -> Account:
    """The account of that name.

    Raises:
        StoreError: there is none.
        Fault: the store does not answer.
    """
    account = await store.account(name, time.monotonic() + _PATIENCE_S)
    if account is None:
        raise StoreError(f"there is no account {name}")
    return account


def fail(text: str) -> NoReturn:
    """End the command with status 1 and a text on stderr."""
    click.echo(text, err=True)
    sys.exit(1)
