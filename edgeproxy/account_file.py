"""Account files: accounts, secrets, pools, numbers, limits, budgets and costs in YAML.

A file is read whole or refused whole: `read` reports every error with its line. Scalars are read as text first, so that
`+493015981151` stays a number with its plus sign and `010` keeps its zero.
"""

import ipaddress
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import phonenumbers
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from edgeproxy.accounts.number import pattern_fits
from edgeproxy.model import ACCOUNT_NAME, CLICK_IDS, OnCall, Overflow

_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d)?")
_UNIT_MS = {"ms": 1, "s": 1000, None: 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_MOST_MS = 10 * 366 * 86_400_000
_RANGE_MOST = 100_000
_AGENT_PARTS_MOST = 64  # each is looked for in every user agent that is not remembered
_AGENT_PART_LEAST, _AGENT_PART_MOST = 3, 128  # characters: less stands in most user agents


@dataclass(frozen=True, slots=True)
class FileError:
    """One thing wrong with an account file: the line (from 1) and what to do about it."""

    line: int
    text: str


class AccountFileError(Exception):
    """The file is refused; `errors` are all its faults in the order of their lines."""

    def __init__(self, path: str, errors: list[FileError]) -> None:
        self.errors = sorted(errors, key=lambda error: error.line)
        super().__init__("\n".join(f"{path}:{error.line}: {error.text}" for error in self.errors))


def _e164(text: str) -> str:
    try:
        parsed = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        raise ValueError(f"{text!r} is not a phone number in E.164 form, such as +493015981151")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _number_range(text: object) -> list[str]:
    if not isinstance(text, str):
        raise ValueError("expected a number, or a range such as +493015981151..+493015981190")
    first, dots, last = text.partition("..")
    if not dots:
        return [_e164(text)]
    low, high = _e164(first.strip()), _e164(last.strip())
    if len(low) != len(high) or not int(low) <= int(high) < int(low) + _RANGE_MOST:
        raise ValueError(f"{text!r}: a range goes up, within one length, over at most {_RANGE_MOST} numbers")
    return [f"+{number}" for number in range(int(low), int(high) + 1)]


def _duration_ms(text: object) -> int:
    found = _DURATION.fullmatch(str(text).strip())
    if not found:
        raise ValueError("expected a time such as 1500ms, 2s, 30m, 24h or 7d")
    return int(found[1]) * _UNIT_MS[found[2]]


def _replaces(value: object) -> object:
    if value == "all":
        return []
    if not isinstance(value, list) or not value:
        raise ValueError("expected the numbers on the page that this pool replaces, or all")
    return value


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone, such as Europe/Berlin") from None
    return name


def _region(name: str) -> str:
    if name not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"{name!r} is not a region code, such as DE")
    return name


def _network(text: object) -> str:
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 192.0.2.0/24, nor an address") from None


Number = Annotated[str, AfterValidator(_e164)]
Duration = Annotated[int, BeforeValidator(_duration_ms), Field(gt=0, le=_DURATION_MOST_MS)]
Replaces = Annotated[list[Number], BeforeValidator(_replaces)]
Numbers = Annotated[list[str], BeforeValidator(_number_range)]  # one number, or a range spelled out
Rest = Annotated[int, BeforeValidator(_duration_ms), Field(le=_DURATION_MOST_MS)]  # may be 0
CustomField = Annotated[str, Field(pattern=r"^custom_([1-9]|1[0-9]|20)$")]
AgentPart = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, min_length=_AGENT_PART_LEAST, max_length=_AGENT_PART_MOST),
]
Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class MatchEntry(_Entry):
    """`match:` of a pool; see `model.Match`."""

    utm_source: Texts = []
    utm_medium: Texts = []
    utm_campaign: Texts = []
    gclid: Texts = []
    gbraid: Texts = []
    wbraid: Texts = []
    msclkid: Texts = []
    fbclid: Texts = []
    ttclid: Texts = []
    referrer_host: Texts = []
    landing_path: Texts = []

    def config(self) -> dict[str, Any]:
        """The form kept in the store."""
        utm = {key: getattr(self, key) for key in ("utm_source", "utm_medium", "utm_campaign")}
        click_ids = {key: getattr(self, key) for key in CLICK_IDS if getattr(self, key)}
        return {
            # Click ids stand among utm, where a release that does not know them finds that no visit has them: elsewhere
            # it would overlook the condition, and serve everybody.
            "utm": {key: [value.lower() for value in values] for key, values in utm.items() if values} | click_ids,
            "referrer_host": [host.lower() for host in self.referrer_host],
            "landing_path": self.landing_path,
        }


class PoolEntry(_Entry):
    """One pool under `pools:`; see `model.Pool`."""

    replaces: Replaces  # empty: all
    numbers: Annotated[list[Numbers], Field(min_length=1)]
    pattern: str | None = None
    idle_ttl: Duration = 30 * 60_000
    max_ttl: Duration = 24 * 3_600_000
    cooldown: Rest = 15 * 60_000
    overflow: Overflow = "original"
    on_call: OnCall = "keep"
    shared_number: Number | None = None
    match: MatchEntry | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.idle_ttl > self.max_ttl:
            raise ValueError("idle_ttl is longer than max_ttl")
        if (self.overflow == "shared") != (self.shared_number is not None):
            raise ValueError("shared_number goes with overflow: shared, and that needs it")
        numbers = self.all_numbers()
        if self.shared_number in numbers:
            raise ValueError(f"shared_number {self.shared_number} is also among the numbers to lease")
        shown = [*numbers, self.shared_number] if self.shared_number else numbers
        if self.pattern is not None:
            for number in shown:
                if not pattern_fits(self.pattern, number):
                    raise ValueError(f"pattern {self.pattern!r} has not one # for each digit of {number}")
        return self

    def all_numbers(self) -> list[str]:
        """Every tracking number of the pool, ranges spelled out."""
        return [number for numbers in self.numbers for number in numbers]


Method = Literal["numbers", "update", "create", "delete", "list"]


class PointsEntry(_Entry):
    """`points:`, the daily budget and what a successful request of each method spends."""

    daily: Annotated[int, Field(ge=0, le=10**12)] = 1_000_000
    costs: dict[Method, Annotated[int, Field(ge=0, le=10**6)]] = {}


class LimitEntry(_Entry):
    """`limit:`, the per-IP limiter of the account."""

    per_second: Annotated[int, Field(ge=1, le=1000)] = 5
    by: Literal["client", "signed"] = "client"


class MostEntry(_Entry):
    """`most:`, how much the partners of an account may keep."""

    customers: Annotated[int, Field(ge=0, le=10**7)] = 100_000
    sources: Annotated[int, Field(ge=0, le=10**7)] = 100_000
    sound_mb: Annotated[int, Field(ge=0, le=10**5)] = 100


class CustomFieldsEntry(_Entry):
    """`custom_fields:`, which of `custom_1` to `custom_20` are defined (CONTRACT §3)."""

    customers: list[CustomField] = []
    sources: list[CustomField] = []


class CrawlersEntry(_Entry):
    """`crawlers:`, parts of user agents, without case: of crawlers beside those known, and of what is no crawler."""

    add: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []
    ignore: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []


class StaticEntry(_Entry):
    """`static:`, who may use the static numbers API for the account (CONTRACT §4)."""

    site: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    tokens: Annotated[
        list[Annotated[SecretStr, Field(min_length=8, max_length=256)]], Field(min_length=1, max_length=2)
    ]


class AccountEntry(_Entry):
    """One account under `accounts:`; see `model.Account`."""

    secrets: Annotated[list[Annotated[SecretStr, Field(min_length=1)]], Field(min_length=1, max_length=2)]
    region: Annotated[str, AfterValidator(_region)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    points: PointsEntry = PointsEntry()
    limit: LimitEntry = LimitEntry()
    visitors_kept: Duration = 30 * 86_400_000
    visits_kept: Duration = 3_600_000
    pools: dict[Annotated[str, Field(pattern=f"^{ACCOUNT_NAME.pattern}$")], PoolEntry] = {}
    displays: dict[Number, Annotated[str, Field(min_length=1, max_length=64)]] = {}
    numbers: list[Numbers] = []
    networks: list[Annotated[str, BeforeValidator(_network)]] = []
    quarantine: Rest = 60 * 86_400_000
    calls_kept: Duration = 90 * 86_400_000
    leases_kept: Duration = 30 * 86_400_000
    most: MostEntry = MostEntry()
    custom_fields: CustomFieldsEntry = CustomFieldsEntry()
    crawlers: CrawlersEntry = CrawlersEntry()
    static: StaticEntry | None = None

    @field_validator("displays")
    @classmethod
    def _one_line(cls, displays: dict[str, str]) -> dict[str, str]:
        for number, text in displays.items():
            if not text.isprintable():
                raise ValueError(f"the display text of {number} holds a character that cannot be shown")
        return displays

    @model_validator(mode="after")
    def _leases_known_while_they_live(self) -> Self:
        for name, pool in self.pools.items():
            if pool.max_ttl + pool.cooldown > self.leases_kept:
                raise ValueError(f"leases_kept is shorter than max_ttl and cooldown of pool {name} together")
        return self

    def config(self) -> dict[str, Any]:
        """What the store keeps of the account beside its numbers: `model.Account.from_config` reads it."""
        return {
            "secrets": [secret.get_secret_value() for secret in self.secrets],
            "region": self.region,
            "timezone": self.timezone,
            "points_daily": self.points.daily,
            "costs": dict.fromkeys(get_args(Method), 1) | dict(self.points.costs),
            "per_second": self.limit.per_second,
            "limit_by": self.limit.by,
            "visitor_ttl_ms": self.visitors_kept,
            "visits_kept_ms": self.visits_kept,
            "displays": self.displays,
            "networks": self.networks,
            "quarantine_ms": self.quarantine,
            "calls_kept_ms": self.calls_kept,
            "leases_kept_ms": self.leases_kept,
            "customers_most": self.most.customers,
            "sources_most": self.most.sources,
            "sound_most": self.most.sound_mb * 1_000_000,
            "custom_fields": {
                "customers": _in_order(self.custom_fields.customers),
                "sources": _in_order(self.custom_fields.sources),
            },
            "crawlers": {"add": sorted(set(self.crawlers.add)), "ignore": sorted(set(self.crawlers.ignore))},
            "site": self.static and self.static.site,
            "pools": {
                name: {
                    "replaces": sorted(set(pool.replaces)),
                    "pattern": pool.pattern,
                    "idle_ttl_ms": pool.idle_ttl,
                    "max_ttl_ms": pool.max_ttl,
                    "cooldown_ms": pool.cooldown,
                    "overflow": pool.overflow,
                    "on_call": pool.on_call,
                    "shared_number": pool.shared_number,
                    "match": pool.match and pool.match.config(),
                }
                for name, pool in self.pools.items()
            },
        }

    def tokens(self) -> list[str]:
        """The access tokens of the static numbers API."""
        return [token.get_secret_value() for token in self.static.tokens] if self.static else []

    def pooled_numbers(self) -> dict[str, str]:
        """Every tracking number to lease, with the name of its pool."""
        return {number: name for name, pool in self.pools.items() for number in pool.all_numbers()}

    def other_numbers(self) -> list[str]:
        """Every number in no pool: sources and static numbers are made of these."""
        return [number for numbers in self.numbers for number in numbers]


def _in_order(custom_fields: list[str]) -> list[str]:
    return sorted(set(custom_fields), key=lambda name: int(name.removeprefix("custom_")))


class AccountFile(_Entry):
    """A whole account file."""

    accounts: Annotated[
        dict[Annotated[str, Field(pattern=f"^{ACCOUNT_NAME.pattern}$")], AccountEntry], Field(min_length=1)
    ]


def read(path: Path) -> AccountFile:
    """Read and validate an account file.

    Raises:
        AccountFileError: with every fault of the file, each with its line; nothing of it is to be used.
        OSError: the file cannot be read.
    """
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, path: str = "accounts.yaml") -> AccountFile:
    """Like `read`, of bytes; `path` is what errors call the file."""
    try:
        root = yaml.compose(content, yaml.BaseLoader)
        tree = texts(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise AccountFileError(path, [FileError(mark.line + 1 if mark else 1, str(error.problem))]) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise AccountFileError(path, [FileError(1, f"not YAML in UTF-8: {type(error).__name__}")]) from None
    if root is None or not isinstance(tree, dict):
        raise AccountFileError(path, [FileError(1, "expected a mapping with the key 'accounts'")])
    errors = list(repeated_keys(root))
    try:
        file = AccountFile.model_validate(tree)
    except ValidationError as invalid:
        for fault in invalid.errors(include_url=False, include_input=False, include_context=False):
            place = ".".join(str(step) for step in fault["loc"] if step != "[key]")
            text = fault["msg"].removeprefix("Value error, ")
            errors.append(FileError(_line(root, fault["loc"]), f"{place}: {text}"))
        raise AccountFileError(path, errors) from None
    errors += _number_conflicts(file, root)
    if errors:
        raise AccountFileError(path, errors)
    return file


def texts(node: yaml.Node) -> Any:
    """YAML nodes as dicts, lists and texts; an empty value is None."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): texts(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [texts(item) for item in node.value]
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return None if plain and node.value in ("", "~", "null") else node.value


def repeated_keys(node: yaml.Node) -> Iterator[FileError]:
    """The keys that stand twice in one mapping, of the node and of all within it."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield FileError(key.start_mark.line + 1, f"{key.value}: stands twice in one mapping")
            seen.add(str(key.value))
            yield from repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item)


def _line(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest node along `place` that the file has."""
    line = node.start_mark.line
    for step in place:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == step:
                    line, node = key.start_mark.line, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1


def _number_conflicts(file: AccountFile, root: yaml.Node) -> Iterator[FileError]:
    owners: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for account, entry in file.accounts.items():
        for token in entry.tokens():
            if tokens.setdefault(token, account) != account:
                line = _line(root, ("accounts", account, "static", "tokens"))
                yield FileError(line, f"static: {account} and {tokens[token]} have an access token in common")
        places: list[tuple[str, list[list[str]], tuple[str, ...]]] = [(account, entry.numbers, ("numbers",))]
        for name, pool in entry.pools.items():
            shared = [pool.shared_number] if pool.shared_number else []
            places.append((f"{account}.{name}", [*pool.numbers, shared], ("pools", name, "numbers")))
        shown: set[str] = set()
        for owner, ranges, place in places:
            for index, numbers in enumerate(ranges):
                line = _line(root, ("accounts", account, *place, index))
                for number in numbers:
                    shown.add(number)
                    if number in owners:
                        yield FileError(line, f"{number} is in {owners[number]} already, and cannot be in {owner} too")
                    owners.setdefault(number, owner)
        for number in entry.displays:
            if number not in shown:
                line = _line(root, ("accounts", account, "displays", number))
                yield FileError(line, f"displays: {number} is no number of {account}")
