"""The settings of one process, from `EDGEPROXY_*` in the environment and an optional TOML file.

Every fault is reported at once; a secret is never printed.
"""

import base64
import ipaddress
import os
import re
import ssl
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from edgeproxy import wording
from edgeproxy.store.url import StoreURL

PREFIX = "EDGEPROXY_"
_CONFIG = PREFIX + "CONFIG"  # names the TOML file
_KEY_BYTES = 32
_CONFIG_MOST = 1024 * 1024  # bytes
_OPTIONS = ("workers", "port", "manage_port")  # settings that commands have options for
_CERTIFICATE, _CERTIFICATE_KEY = "manage_tls_certificate", "manage_tls_key"
# What Python's reader says → what to do about it; the first that fits.
_TOML_FAULTS = (
    ("Expected '='", "expected `name = value`"),
    ("Invalid statement", "expected `name = value`"),
    ("Invalid initial character", "expected `name = value`"),
    ("Expected ']", "a bracket is not closed"),
    ("Expected \"'", "a quote is not closed"),
    ("Unescaped", "a backslash cannot stand there: write it twice, or put the text in single quotes"),
    ("Cannot overwrite", "the name stands twice"),
    ("twice", "the name stands twice"),
    ("Unterminated", "a quote is not closed"),
    ("Illegal character", "a quote is not closed, or holds a character that cannot stand there"),
    ("Invalid value (at end", "a value is missing, or a bracket is not closed"),
    ("Invalid value", "is no value: a text stands in quotes"),
    ("Unclosed", "a bracket is not closed"),
    ("Expected newline", "the line goes on after its value: a text stands in quotes"),
)
_TESTS = PREFIX + "TEST_"  # what the test suite reads

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """The settings cannot be used; the text has a line for each fault, naming the setting."""


def _data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "edgeproxy"


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _network(text: object) -> Network:
    try:
        return ipaddress.ip_network(str(text))
    except ValueError:
        meant = wording.meant_network(str(text))
        raise ValueError(f"must be a network such as 192.0.2.0/24, or an address{meant}") from None


def _is_key(key: SecretStr) -> SecretStr:
    try:
        good = len(base64.b64decode(key.get_secret_value(), b"-_", validate=True)) == _KEY_BYTES
    except ValueError:
        good = False
    if not good:
        raise ValueError("expected a key as `edgeproxy keys new` prints it")
    return key


_Key = Annotated[SecretStr, AfterValidator(_is_key)]
_Network = Annotated[Network, BeforeValidator(_network)]


class Settings(BaseSettings):
    """See the tables of deploy/SETTINGS.md; a test holds the two together."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    store_url: SecretStr | None = Field(
        None, description="URL of the store, see *Stores*; without it, the embedded store"
    )
    store_keys: Annotated[list[_Key], NoDecode, BeforeValidator(_split)] = Field(
        [],
        description="keys (comma separated) of secrets in the store: the first seals, all open",
    )
    data_dir: Path = Field(default_factory=_data_dir, description="where the embedded store keeps its append-only file")
    host: str = Field("0.0.0.0", description="address of the edge port")  # noqa: S104 - visitors come from outside
    port: int = Field(8080, ge=0, le=65535, description="edge port: `POST /api` and health; 0 chooses one")
    manage_host: str = Field("127.0.0.1", description="address of the manage port")
    manage_port: int = Field(
        8081, ge=0, le=65535, description="manage port: all other APIs, health and metrics; 0 chooses one"
    )
    workers: int = Field(1, ge=1, le=256, description="gateway processes that share the ports; one a core")
    trusted_proxies: Annotated[list[_Network], NoDecode, BeforeValidator(_split)] = Field(
        [], description="networks (comma separated) whose word on the client IP is taken"
    )
    client_ip_header: Literal["x-forwarded-for", "forwarded"] = Field(
        "x-forwarded-for", description="the header that the trusted proxies write; the other one is not read"
    )
    budget_ms: int = Field(50, ge=5, le=10_000, description="ms within which a request is answered")
    keepalive_s: float = Field(75, gt=0, description="s that an idle client connection is kept")
    header_s: float = Field(
        10, gt=0, description="s within which the head of a request must have come, from its first byte"
    )
    head_bytes: int = Field(
        32_768, ge=1024, description="bytes of a head that comes in pieces; of any, 128 fields and 8,190 bytes a line"
    )
    body_s: float = Field(
        10, gt=0, description="s that a body may take to arrive at the edge port, and an unread answer to be read"
    )
    connections_most: int = Field(
        4000, ge=1, description="client connections of a worker and port, beyond which idle ones are closed"
    )
    drain_s: float = Field(5, ge=0, description="s between failing readiness and closing the ports, on SIGTERM")
    grace_s: float = Field(30, ge=0, description="s that requests in flight may then take")
    bad_signatures_per_minute: int = Field(
        60, ge=1, description="bad signatures of one IP after which its unknown accounts are looked up once a second"
    )
    api_version: str = Field(
        "2.4.9", pattern=r"^[0-9]+(\.[0-9]+)*$", description="version in the paths of the partner API"
    )
    path_prefix: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path before all paths, such as `/tracking`, which a proxy strips",
    )
    bad_logins_per_minute: int = Field(
        20,
        ge=1,
        le=100_000,
        description="failed logins and bad access tokens of one IP, over all nodes and APIs, after which it is refused",
    )
    allow_plain_http: bool = Field(
        False, description="take partner requests from this machine (loopback) over plain HTTP; others need HTTPS"
    )
    manage_tls_certificate: Path | None = Field(
        None, description="PEM file of the manage port's certificate chain; without it, a proxy has to speak HTTPS"
    )
    manage_tls_key: Path | None = Field(None, description="PEM file of its private key")
    durable_replicas: int = Field(
        0, ge=0, le=10, description="replicas that must have a partner's write before it is acknowledged"
    )
    lease_replicas: int = Field(
        0, ge=0, le=10, description="replicas that must have what a visitor's request wrote before it is answered"
    )
    access_log: bool = Field(False, description="a JSON line to stdout for each request")

    _names: dict[str, str] = PrivateAttr(default_factory=dict)  # setting → what it is called where it was set

    @field_validator("store_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            StoreURL.parse(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _usable_certificate(self) -> Self:
        self.manage_tls()
        return self

    def manage_tls(self) -> ssl.SSLContext | None:
        """The TLS of the manage port, if it has any of its own.

        Raises:
            ValueError: the files cannot be used.
        """
        if self.manage_tls_certificate is None and self.manage_tls_key is None:
            return None
        if self.manage_tls_certificate is None or self.manage_tls_key is None:
            raise ValueError("a certificate and a key go together")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.manage_tls_certificate, self.manage_tls_key)
        except ssl.SSLError as error:
            why = "they do not belong together" if "MISMATCH" in (error.reason or "") else "one of them is no PEM file"
            raise ValueError(f"the certificate and its key cannot be used: {why}") from None
        except OSError as error:
            raise ValueError(f"the certificate and its key cannot be used: {error.strerror}") from None
        return context

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was said on the command line comes first, then the environment, then the TOML file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _Config.read().tree)

    def told_as(self, name: str) -> str:
        """What a setting is called where it was set: an option, `EDGEPROXY_…`, or its name in the TOML file."""
        return self._names.get(name, PREFIX + name.upper())


class _ConfigError(Exception):
    """The TOML file cannot be read; the text tells why."""


@dataclass(frozen=True, slots=True)
class _Config:
    """The TOML file, if there is one."""

    path: str
    text: str
    tree: dict[str, Any]

    @classmethod
    def read(cls) -> "_Config":
        path = os.environ.get(_CONFIG, "")
        if not path:
            return cls("", "", {})
        try:
            with Path(path).open("rb") as file:
                content = file.read(_CONFIG_MOST + 1)
            if len(content) > _CONFIG_MOST:
                raise _ConfigError(f"{_CONFIG}: {path}: is larger than {_CONFIG_MOST} bytes")
            text = content.decode()
            return cls(path, text, tomllib.loads(text))
        except OSError as error:
            raise _ConfigError(f"{_CONFIG}: {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _ConfigError(f"{_CONFIG}: {path}: is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise _ConfigError(f"{path}{_toml_fault(str(error), text)}") from None
        except (RecursionError, ValueError):  # also an integer of thousands of digits
            raise _ConfigError(f"{_CONFIG}: {path}: is not TOML") from None

    def line(self, name: str) -> int:
        """The line (from 1) on which a setting stands."""
        found = re.search(rf"^[ \t]*[\[\"']*{re.escape(name)}\b", self.text, re.MULTILINE)
        return self.text.count("\n", 0, found.start()) + 1 if found else 1


def _toml_fault(said: str, text: str) -> str:
    place = re.search(r"\(at line (\d+), column (\d+)\)", said)  # else it is at the end
    where = f":{place[1] if place else text.rstrip().count(chr(10)) + 1}: "
    column = f" (column {place[2]})" if place else ""
    return where + next((text for what, text in _TOML_FAULTS if what in said), "is not TOML") + column


def load(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` that are not None come before all else.

    Raises:
        SettingsError: with a line for every fault.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {_CONFIG}
    faults = [
        f"{name}: there is no such setting{wording.meant(name, sorted(known))}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known and not name.startswith(_TESTS)
    ]
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        config = _Config.read()
        settings = Settings(**given)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            name, *steps = error["loc"] or (_CERTIFICATE if _CERTIFICATE in _set(given, config) else _CERTIFICATE_KEY,)
            text = wording.why(error)
            if error["type"] == "extra_forbidden":
                meant = str(name).lower().removeprefix(PREFIX.lower())
                text = f"there is no such setting{wording.meant(meant, Settings.model_fields)}"
            where = _name_of(str(name), given, config) + "".join(f"[{step}]" for step in steps if isinstance(step, int))
            fault = f"{where}: {text}"
            faults += [fault] if fault not in faults else []
    except _ConfigError as error:
        faults.append(str(error))
    if faults:
        raise SettingsError("\n".join(faults))
    settings._names.update(  # noqa: SLF001 - it is made here
        {name: _name_of(name, given, config, line=False) for name in _set(given, config)}
    )
    return settings


def _set(given: dict[str, Any], config: _Config) -> set[str]:
    """The names of the settings that were set, or that somebody meant to set."""
    return given.keys() | {name for name in Settings.model_fields if _in_environment(name)} | config.tree.keys()


def _in_environment(name: str) -> bool:
    return bool(os.environ.get(PREFIX + name.upper()))


def _name_of(name: str, given: dict[str, Any], config: _Config, *, line: bool = True) -> str:
    if name in given and name in _OPTIONS:
        return "--" + name.replace("_", "-")
    if name in config.tree and not _in_environment(name):
        return f"{config.path}:{config.line(name)}: {name}" if line else f"{name} in {config.path}"
    return PREFIX + name.upper()
