"""The commands `edgeproxy user add`, `remove` and `list`: users of the partner API."""

import re
import sys

import click

from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import fail, run
from edgeproxy.commands.opened import known_account, load_settings, store_of
from edgeproxy.partner import digest
from edgeproxy.settings import Settings
from edgeproxy.store import keys
from edgeproxy.store.functions import Functions
from edgeproxy.store.users import User, Users

_PASSWORD_LEAST = 8
_USER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}|[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")


@click.group()
def user() -> None:
    """Users of the partner API: who may ask for an account, and with which password."""


@user.command("add")
@click.argument("name")
@click.option("--account", required=True, help="The account that the user asks for.")
def add_user(name: str, account: str) -> None:
    """Add the user NAME, or give it another password or account. Asks for the password, or reads it from a pipe."""
    if not _USER_NAME.fullmatch(name):
        fail("a user's name is an e-mail address, or has 1 to 64 letters, digits, dots, dashes and underscores")
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < _PASSWORD_LEAST:
        fail(f"the password has less than {_PASSWORD_LEAST} characters")
    hashes = {algorithm: digest.ha1(algorithm, name, digest.REALM, password) for algorithm in digest.OFFERED}
    settings = load_settings()
    run(_save_user(settings, name, User(account, hashes)), settings)
    click.echo(f"{name} may ask for {account}")


@user.command("remove")
@click.argument("name")
def remove_user(name: str) -> None:
    """Remove the user NAME; its next request is refused."""
    settings = load_settings()
    if not run(_remove_user(settings, name), settings):
        fail(f"there is no user {name}")
    click.echo(f"{name} is removed")


@user.command("list")
def list_users() -> None:
    """List all users with their accounts."""
    settings = load_settings()
    for name, account in run(_users(settings), settings).items():
        click.echo(f"{name} {account}")


async def _users(settings: Settings) -> dict[str, str]:
    async with store_of(settings) as store:
        return await Users(store).all()


async def _save_user(settings: Settings, name: str, user: User) -> None:
    async with store_of(settings) as store:
        with audited("users.add", account=user.account, record=name, fields=("account", "password")):
            await known_account(store, user.account)
            await Users(store).save(name, user)
            await Functions(store, settings.durable_replicas).flush(keys.USERS)


async def _remove_user(settings: Settings, name: str) -> bool:
    async with store_of(settings) as store:
        with audited("users.remove", record=name) as write:
            removed = await Users(store).remove(name)
            write.refused = not removed
            await Functions(store, settings.durable_replicas).flush(keys.USERS)
        return removed
