"""Store URLs: one server, the one that sentinels name, or a cluster; with or without TLS."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Kind = Literal["single", "sentinel", "cluster"]

_KINDS: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class StoreURL:
    """Where the store is, and how to log in to it.

    `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `unix://[[USER]:PASSWORD@]/PATH[?db=DB]`,
    `redis+cluster://[…@]HOST[:PORT][,…]`, `redis+sentinel://[…@]HOST[:PORT][,…]/SERVICE[/DB]`; with `rediss` for TLS.
    Query parameters: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (PEM files), `sentinel_username`,
    `sentinel_password`.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()  # of the server, the sentinels, or some of the cluster's nodes
    path: str = ""  # of a unix socket, in the place of hosts
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    service: str = ""  # the name by which sentinels know the server
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()  # option → file

    @property
    def place(self) -> str:
        """Where that is, without what could be secret."""
        return self.path or ", ".join(f"{host}:{port}" for host, port in self.hosts)

    @classmethod
    def parse(cls, text: str) -> "StoreURL":
        """Read a URL.

        Raises:
            ValueError: it is none, and why; the text quotes nothing of it that could be secret.
        """
        scheme, separator, _ = text.partition("://")
        if not separator or scheme not in _KINDS:
            raise ValueError(f"expected one of {', '.join(f'{name}://' for name in _KINDS)}")
        kind, tls = _KINDS[scheme]
        try:
            parts = urlsplit(text)
        except ValueError:  # whose text quotes the user and the password
            raise ValueError("expected HOST:PORT") from None
        user, _, hosts = parts.netloc.rpartition("@")
        username, _, password = user.partition(":")
        options = dict(_options(parts.query))
        path, service, database = "", "", options.pop("db", "0")
        if scheme == "unix":
            path = _socket(parts.path, hosts)
        else:
            service, database = _service_and_database(parts.path, kind, database)
        number = _number(database, kind)
        sentinel = _sentinel_login(options, kind)
        tls_files = _tls_files(options, tls)
        if options:
            raise ValueError("there is a parameter that is none of a store's")
        return cls(
            kind=kind,
            hosts=() if path else tuple(_hosts(hosts, _PORTS[kind], one=kind == "single")),
            path=path,
            username=unquote(username) or None,
            password=unquote(password) or None,
            database=number,
            service=service,
            **sentinel,
            tls=tls,
            tls_files=tls_files,
        )


def _options(query: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in seen:
            raise ValueError("a parameter stands twice")
        seen.add(name)
        yield name, value


def _socket(path: str, hosts: str) -> str:
    socket = unquote(path)
    if hosts or len(socket) < 2:
        raise ValueError("expected unix:///PATH")
    return socket


def _service_and_database(path: str, kind: Kind, database: str) -> tuple[str, str]:
    """What the path names, `/SERVICE/DB` of sentinels and `/DB` of others; without one it is that `database`."""
    steps, service = [unquote(step) for step in path.split("/")[1:] if step], ""
    if kind == "sentinel":
        if not steps:
            raise ValueError("the name of the sentinels' service is missing: redis+sentinel://HOST,HOST/SERVICE")
        service, *steps = steps
    if len(steps) > 1:
        raise ValueError("its path has too many parts")
    return service, steps[0] if steps else database


def _number(database: str, kind: Kind) -> int:
    if not (database.isascii() and database.isdigit()):
        raise ValueError("the database is no number")
    if kind == "cluster" and int(database):
        raise ValueError("a cluster has no numbered databases")
    return int(database)


def _sentinel_login(options: dict[str, str], kind: Kind) -> dict[str, str]:
    """Take out of the options those of sentinels."""
    login = {name: options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    if login and kind != "sentinel":
        raise ValueError(f"{', '.join(login)}: only of redis+sentinel://")
    return login


def _tls_files(options: dict[str, str], tls: bool) -> tuple[tuple[str, str], ...]:
    """Take the files of TLS out of the options, each with its option."""
    files = tuple((name, options.pop(name)) for name in _TLS_FILES if name in options)
    if files and not tls:
        raise ValueError(f"{files[0][0]}: only of rediss://")
    for name, file in files:
        if not Path(file).is_file():
            raise ValueError(f"{name}: {file} is no file")
    return files


def _hosts(text: str, port: int, *, one: bool) -> Iterator[tuple[str, int]]:
    places = text.split(",")
    if one and len(places) > 1:
        raise ValueError("several hosts: only of redis+sentinel:// and redis+cluster://")
    for place in places:
        try:
            address = urlsplit(f"//{place}")
            host, own_port = address.hostname, address.port
        except ValueError:
            raise ValueError("expected HOST:PORT") from None
        if not host:
            raise ValueError("a host is missing")
        yield host, own_port or port
