"""Account files: accounts, secrets, pools, numbers, limits, budgets and costs in YAML.

A file is read whole or refused whole: `read` reports every error with its line.
"""

import contextlib
import fnmatch
import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import phonenumbers
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edgeproxy import wording
from edgeproxy.accounts.account import ACCOUNT_NAME, CLICK_IDS, OnCall, Overflow
from edgeproxy.accounts.display import pattern_fits
from edgeproxy.accounts.number import is_valid, read_number
from edgeproxy.accounts.yaml_file import BYTES_MOST, FileError, Lines, UnreadableError, compose, repeated_keys, texts

_DURATION = re.compile(r"([0-9]{1,15})\s*(ms|s|m|h|d)?", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1000, None: 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_MOST_D = 3660
_RANGE_MOST = 100_000
_AGENT_PARTS_MOST = 64  # each is looked for in every user agent that is not remembered
_AGENT_PART_LEAST, _AGENT_PART_MOST = 3, 128  # characters: less stands in most user agents

_NUMBERS_MOST = 1_000_000  # of a file, its ranges spelled out
_TOKEN_LENGTHS = 8, 256
_LOOKED_AT = 1000  # numbers of a range that are looked at one by one: each is 25 µs
_SHOWN_MOST = 64  # characters of a text that an error shows
_NUMBERS_LEFT = "numbers left"  # in the context of a validation
_REGION = "region"  # of the account that is validated


class AccountFileError(Exception):
    """The file is refused; `errors` are all its faults in the order of their lines, of which the text has the first."""

    def __init__(self, path: str, errors: list[FileError]) -> None:
        self.errors = sorted(errors, key=lambda error: error.line)
        super().__init__("\n".join(wording.first_of([f"{path}:{error.line}: {error.text}" for error in self.errors])))


def _shown(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= _SHOWN_MOST else shown[:_SHOWN_MOST] + "…")


def _e164(text: str, info: ValidationInfo) -> str:
    if ".." in text:  # read as a number, it would be its first one alone
        raise ValueError(f"{_shown(text)} is a range, and this is one number")
    number = read_number(text, info.context.get(_REGION, "") if info.context else "")
    if number is None:
        raise ValueError(f"{_shown(text)} is not a phone number, such as +493015981151")
    return number


def _number_range(text: object, info: ValidationInfo) -> list[str]:
    if not isinstance(text, str):
        raise ValueError("must be a number, or a range such as +493015981151..+493015981190")
    first, dots, last = text.partition("..")
    low = high = _e164(first.strip(), info)
    if dots:
        high = _e164(last.strip(), info)
        if len(low) != len(high) or not int(low) <= int(high) < int(low) + _RANGE_MOST:
            raise ValueError(f"{_shown(text)}: a range goes up, within one length, over at most {_RANGE_MOST} numbers")
    if info.context is not None:
        info.context[_NUMBERS_LEFT] -= int(high) - int(low) + 1
        if info.context[_NUMBERS_LEFT] < 0:
            raise ValueError(f"the file holds more than {_NUMBERS_MOST} numbers: split it")
    return [f"+{number}" for number in range(int(low), int(high) + 1)]


def _rest_ms(text: object) -> int:
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError("must be a time such as 1500ms, 2s, 30m, 24h or 7d")
    ms = int(found[1]) * _UNIT_MS[found[2]]
    if ms > _DURATION_MOST_D * _UNIT_MS["d"]:
        raise ValueError(f"must be at most {_DURATION_MOST_D}d")
    return ms


def _duration_ms(text: object) -> int:
    ms = _rest_ms(text)
    if not ms:
        raise ValueError("must be more than 0")
    return ms


def _replaces(value: object) -> object:
    if value == "all":
        return []
    if not isinstance(value, list) or not value:
        raise ValueError("must be the numbers on page that this pool replaces, or all")
    return value


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = wording.meant(name, sorted(zoneinfo.available_timezones()))
        raise ValueError(f"{_shown(name)} is not a time zone, such as Europe/Berlin{known}") from None
    return name


def _region(name: str, info: ValidationInfo) -> str:
    if name not in phonenumbers.SUPPORTED_REGIONS:
        known = wording.meant(name, sorted(phonenumbers.SUPPORTED_REGIONS))
        raise ValueError(f"{_shown(name)} is not a region code, such as DE{known}")
    if info.context is not None:
        info.context[_REGION] = name  # for the fields of this account, which come after it
    return name


def _network(text: object) -> str:
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        meant = ""
        with contextlib.suppress(ValueError):
            meant = f"; did you mean {ipaddress.ip_network(str(text), strict=False)}?"
        raise ValueError(f"{_shown(text)} is not a network such as 192.0.2.0/24, nor an address{meant}") from None


def _name(text: str) -> str:
    if not ACCOUNT_NAME.fullmatch(text):
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def _token(token: SecretStr) -> SecretStr:
    least, most = _TOKEN_LENGTHS
    if not least <= len(token.get_secret_value()) <= most:
        raise ValueError(f"a token has {least} to {most} characters")
    return token


def _custom_field(name: str) -> str:
    if not re.fullmatch("custom_([1-9]|1[0-9]|20)", name):
        raise ValueError(f"{_shown(name)} is none of custom_1 to custom_20")
    return name


Number = Annotated[str, AfterValidator(_e164)]
Name = Annotated[str, AfterValidator(_name)]
Duration = Annotated[int, BeforeValidator(_duration_ms)]
Replaces = Annotated[list[Number], BeforeValidator(_replaces)]
Numbers = Annotated[list[str], BeforeValidator(_number_range)]  # one number, or a range spelled out
Rest = Annotated[int, BeforeValidator(_rest_ms)]  # may be 0
_TIMES = (BeforeValidator(_duration_ms), BeforeValidator(_rest_ms))
CustomField = Annotated[str, AfterValidator(_custom_field)]
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

    def covers(self, other: Self | None) -> bool:
        """Tell whether every visit that `other` takes is taken here too; None takes all visits."""
        theirs = other or MatchEntry()
        return all(
            not ours or (values and all(any(takes(value, own) for own in ours) for value in values))
            for name in type(self).model_fields
            for takes, ours, values in [(_TAKES.get(name, str.__eq__), getattr(self, name), getattr(theirs, name))]
        )

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


def _host_is_within(host: str, other: str) -> bool:
    return ("." + host.lower()).endswith("." + other.lower())


def _pattern_is_within(pattern: str, other: str) -> bool:
    """Whether a pattern surely takes all that another takes; some that do are not seen."""
    plain = not set("?[") & set(other) and "[" not in pattern
    return pattern == other or (plain and fnmatch.fnmatchcase(pattern, other))


def _equal_without_case(value: str, other: str) -> bool:
    return value.lower() == other.lower()


# Condition of a match → whether one of its values takes no more than another does; of others, only if it is the same.
_TAKES: dict[str, Callable[[str, str], bool]] = {
    "utm_source": _equal_without_case,
    "utm_medium": _equal_without_case,
    "utm_campaign": _equal_without_case,
    "referrer_host": _host_is_within,
    "landing_path": _pattern_is_within,
    **dict.fromkeys(CLICK_IDS, _pattern_is_within),
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

    def takes(self, number: str) -> bool:
        """Tell whether the pool replaces a number on page; see `model.Pool.unmet`."""
        return number in self.replaces if self.replaces else is_valid(number)

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
    """`custom_fields:`, which of `custom_1` to `custom_20` are defined (`partner/README.md`, *Customers*)."""

    customers: list[CustomField] = []
    sources: list[CustomField] = []


class CrawlersEntry(_Entry):
    """`crawlers:`, parts of user agents, without case: of crawlers beside those known, and of what is no crawler."""

    add: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []
    ignore: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []


class StaticEntry(_Entry):
    """`static:`, who may use the static numbers API for the account (`numbers/README.md`, *Access*)."""

    site: Name
    tokens: Annotated[list[Annotated[SecretStr, AfterValidator(_token)]], Field(min_length=1, max_length=2)]


class AccountEntry(_Entry):
    """One account under `accounts:`; see `model.Account`."""

    secrets: Annotated[list[Annotated[SecretStr, Field(min_length=1)]], Field(min_length=1, max_length=2)]
    region: Annotated[str, AfterValidator(_region)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    points: PointsEntry = PointsEntry()
    limit: LimitEntry = LimitEntry()
    visitors_kept: Duration = 30 * 86_400_000
    visits_kept: Duration = 3_600_000
    pools: dict[Name, PoolEntry] = {}
    displays: dict[Number, Annotated[str, Field(min_length=1, max_length=64)]] = {}
    numbers: list[Numbers] = []
    networks: list[Annotated[str, BeforeValidator(_network)]] = []
    quarantine: Rest = 60 * 86_400_000
    calls_kept: Duration = 90 * 86_400_000
    leases_kept: Duration = 30 * 86_400_000
    join: bool = True
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
            "join": self.join,
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

    accounts: Annotated[dict[Name, AccountEntry], Field(min_length=1)]


def read(path: Path) -> AccountFile:
    """Read and validate an account file.

    Raises:
        AccountFileError: with every fault of the file, each with its line; nothing of it is to be used.
        OSError: the file cannot be read.
    """
    return _parse(_content(path), str(path))[0]


def parse(content: bytes, path: str = "accounts.yaml") -> AccountFile:
    """Like `read`, of bytes; `path` is what errors call the file."""
    return _parse(content, path)[0]


def read_closely(path: Path) -> tuple[AccountFile, list[FileError]]:
    """Like `read`, with warnings: what is not wrong, and most likely not meant, in the order of its lines.

    That is a time without a unit, a number that no network gives out, and a pool, or a number on page of one, to which
    pools before it leave nothing.
    """
    file, lines = _parse(_content(path), str(path))
    found = [*_times_without_unit(file, lines)]
    for account, entry in file.accounts.items():
        found += _invalid_numbers(entry, ("accounts", account), lines)
        found += _shadowed_pools(entry, ("accounts", account), lines)
    return file, sorted(found, key=lambda warning: warning.line)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BYTES_MOST + 1)


def _parse(content: bytes, path: str) -> tuple[AccountFile, Lines]:
    try:
        root = compose(content)
    except UnreadableError as error:
        raise AccountFileError(path, [FileError(error.line, str(error))]) from None
    tree = texts(root) if root else None
    if root is None or not isinstance(tree, dict):
        raise AccountFileError(path, [FileError(1, "must be a mapping with the key accounts")])
    errors = list(repeated_keys(root))
    lines = Lines(root)
    try:
        file = AccountFile.model_validate(tree, context={_NUMBERS_LEFT: _NUMBERS_MOST})
    except ValidationError as invalid:
        errors += [_error(fault, lines) for fault in invalid.errors(include_url=False)]
        raise AccountFileError(path, errors) from None
    errors += _number_conflicts(file, lines)
    if errors:
        raise AccountFileError(path, errors)
    return file, lines


def _error(fault: Any, lines: Lines) -> FileError:
    steps = [step for step in fault["loc"] if step != "[key]"]
    text = wording.why(fault)
    if fault["type"] == "extra_forbidden":
        text += wording.meant(steps[-1], wording.field_names(AccountFile, steps[:-1]))
    place = ".".join(str(step)[:_SHOWN_MOST] for step in steps)
    return FileError(lines.of(fault["loc"]), f"{place}: {text}")


def _number_conflicts(file: AccountFile, lines: Lines) -> Iterator[FileError]:
    owners: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for account, entry in file.accounts.items():
        for token in entry.tokens():
            if tokens.setdefault(token, account) != account:
                line = lines.of(("accounts", account, "static", "tokens"))
                yield FileError(line, f"static: {account} and {tokens[token]} have an access token in common")
        places: list[tuple[str, list[list[str]], tuple[str, ...]]] = [(account, entry.numbers, ("numbers",))]
        for name, pool in entry.pools.items():
            shared = [pool.shared_number] if pool.shared_number else []
            places.append((f"{account}.{name}", [*pool.numbers, shared], ("pools", name, "numbers")))
        shown: set[str] = set()
        for owner, ranges, place in places:
            for index, numbers in enumerate(ranges):
                for number in numbers:
                    shown.add(number)
                    if number in owners:
                        line = lines.of(("accounts", account, *place, index))
                        yield FileError(line, f"{number} is in {owners[number]} already, and cannot be in {owner} too")
                    owners.setdefault(number, owner)
        for number in entry.displays:
            if number not in shown:
                line = lines.of(("accounts", account, "displays", number))
                yield FileError(line, f"displays: {number} is no number of {account}")


def _times_without_unit(entry: BaseModel, lines: Lines, place: tuple[str, ...] = ()) -> Iterator[FileError]:
    for name, field in type(entry).model_fields.items():
        value, here = getattr(entry, name), (*place, name)
        if any(time in field.metadata for time in _TIMES):
            written = lines.text(here) or ""
            if written.isdigit() and value:
                text = f"has no unit and is read as {written}s: write {written}s, or {written}m"
                yield FileError(lines.of(here), f"{'.'.join(here)}: {written} {text}")
        elif isinstance(value, BaseModel):
            yield from _times_without_unit(value, lines, here)
        elif isinstance(value, dict):
            for key, below in value.items():
                if isinstance(below, BaseModel):
                    yield from _times_without_unit(below, lines, (*here, key))


def _invalid_numbers(entry: AccountEntry, place: tuple[str, ...], lines: Lines) -> Iterator[FileError]:
    listed: list[tuple[tuple[int | str, ...], list[str]]] = [
        ((*place, "numbers", index), numbers) for index, numbers in enumerate(entry.numbers)
    ]
    for name, pool in entry.pools.items():
        at: tuple[str, ...] = (*place, "pools", name)
        listed += [((*at, "replaces", index), [number]) for index, number in enumerate(pool.replaces)]
        listed += [((*at, "numbers", index), numbers) for index, numbers in enumerate(pool.numbers)]
        if pool.shared_number is not None:
            listed.append(((*at, "shared_number"), [pool.shared_number]))
    for where, numbers in listed:
        looked_at = numbers if len(numbers) <= _LOOKED_AT else [*numbers[:: len(numbers) // _LOOKED_AT], numbers[-1]]
        invalid = [number for number in looked_at if not is_valid(number)]
        if invalid:
            others = ", nor are others of this range" if len(invalid) > 1 else ""
            shown = ".".join(str(step) for step in where if isinstance(step, str))
            yield FileError(lines.of(where), f"{shown}: {invalid[0]} is no number that is given out{others}")


def _shadowed_pools(entry: AccountEntry, place: tuple[str, ...], lines: Lines) -> Iterator[FileError]:
    before: list[tuple[str, PoolEntry]] = []
    for name, pool in entry.pools.items():
        wider = [
            (other, earlier) for other, earlier in before if earlier.match is None or earlier.match.covers(pool.match)
        ]
        before.append((name, pool))
        taken = {
            number: next((other for other, earlier in wider if earlier.takes(number)), None) for number in pool.replaces
        } or {"all": next((other for other, earlier in wider if not earlier.replaces), None)}
        line = lines.of((*place, "pools", name))
        shown = ".".join((*place, "pools", name))
        if all(taken.values()):
            others = " and ".join(dict.fromkeys(filter(None, taken.values())))
            yield FileError(line, f"{shown}: never serves: {others}, which stands before it, takes all of its visits")
            continue
        for index, (number, other) in enumerate(taken.items()):
            if other is not None:
                at = lines.of((*place, "pools", name, "replaces", index))
                yield FileError(
                    at, f"{shown}.replaces: {number} is never replaced here: {other}, which stands before it, does"
                )
