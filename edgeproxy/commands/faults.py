"""How commands end where something is wrong: with status 1 and a line that says what to do."""

import asyncio
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from redis.exceptions import RedisError, ResponseError

from edgeproxy.errors import Fault, NotDurableError, RefusedError, SealError, StoreError, UncertainError
from edgeproxy.settings import Settings
from edgeproxy.store.faults import fault_of
from edgeproxy.store.url import StoreURL

NOTHING_CHANGED = "nothing was changed"
UNAVAILABLE = (Fault, RedisError)  # the store cannot be used: see `store_fault`
_CAUSES = (RedisError, OSError, StoreError, SealError)
_FAULTS = {
    "memory": "its memory is full: raise its maxmemory",
    "loading": "it is still loading its data: try again later",
    "disk": "it cannot write to its disk: look at its log",
    "replicas": "it has too few replicas to take writes (min-replicas-to-write)",
    "cluster": "its cluster is not whole, or is none: look at CLUSTER INFO there",
}


def fail(text: str) -> NoReturn:
    """End the command with status 1 and a text on stderr."""
    click.echo(text, err=True)
    sys.exit(1)


def unreadable(file: Path, error: OSError) -> str:
    """Why a file that was named cannot be read; nothing was changed by it."""
    match error:
        case FileNotFoundError():
            why = "there is no such file"
        case IsADirectoryError():
            why = "is a directory, not a file"
        case _:
            why = error.strerror or str(error)
    return f"{file}: {why}\n{NOTHING_CHANGED}"


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
