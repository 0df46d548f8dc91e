"""What commands open: the settings of this process, the store that they name, an account in it."""

import logging
import socket
import time
from pathlib import Path
from typing import Any

from edgeproxy import settings as settings_module
from edgeproxy.accounts.account import Account
from edgeproxy.commands.faults import fail
from edgeproxy.errors import StoreError
from edgeproxy.settings import Settings, SettingsError
from edgeproxy.store import Store
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.sealing import Seal
from edgeproxy.store.url import StoreURL

_PATIENCE_S = 5


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process (see `settings.load`); ends the command where they cannot be used."""
    try:
        return settings_module.load(**overrides)
    except SettingsError as error:
        fail(str(error))


def store_url(settings: Settings) -> str:
    """Where the store is: the one that is named, else the one that `serve` or `demo` runs in the data directory.

    A demo with `--data-dir` keeps its data in that directory itself. Ends the command where none runs, or several do.
    """
    if settings.store_url is not None:
        return settings.store_url.get_secret_value()
    directories = {
        "serve": embedded_directory(settings),
        "demo": demo_directory(settings),
        "demo --data-dir": settings.data_dir,
    }
    running = {name: url for name, directory in directories.items() if (url := _running(directory))}
    setting = settings.told_as("store_url")
    if not running:
        places = " or ".join(map(str, directories.values()))
        fail(
            f"{setting} is not set, and no store runs in {places}: start edgeproxy serve or edgeproxy demo, or "
            f"set {setting} to the store's address, which both of them print, or {settings.told_as('data_dir')} to the "
            "demo's --data-dir"
        )
    if len(running) > 1:
        stores = " and ".join(f"{url} ({name})" for name, url in running.items())
        count = "two" if len(running) == 2 else "three"
        fail(f"{setting} is not set, and {count} stores run here: {stores}: set it to the one that is meant")
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
