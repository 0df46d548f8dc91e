"""What the gateway knows of an account. All numbers are kept as E.164."""

import fnmatch
import functools
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import unquote_plus, urlsplit

from edgeproxy.accounts import moments
from edgeproxy.accounts.number import current_form, is_valid

Overflow = Literal["original", "shared", "recycle"]
OnCall = Literal["keep", "extend", "release"]

CLICK_IDS = ("gclid", "gbraid", "wbraid", "msclkid", "fbclid", "ttclid")  # what ad networks add to a landing page's URL

_IN_FRAGMENT = re.compile("[?&#]")  # what separates its pairs: it may hold a path and a query of its own
_BEFORE_NAME = re.compile(r"^(?:[\s!/]|amp;|0*38;|x0*26;)+", re.IGNORECASE)  # of `&amp;`, `&#38;`, `&#x26;`, `#!/`
ACCOUNT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # of accounts and pools: safe in the store's keys
_POLICIES_KEPT = 4096  # distinct limits of accounts whose header a worker remembers


def read_campaign(full_url: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """The `utm_*` and click ids (`CLICK_IDS`) of a page: their names in lower case → their values, trimmed.

    They are read from the URL's query, then from its fragment (`#utm_source=…`, `#/path?utm_source=…`), then from the
    custom dimensions, whatever the case of their names, also behind an `&amp;`; the first that is not empty counts.
    """
    found: dict[str, str] = {}
    before, _, fragment = full_url.partition("#")
    pairs = [pair.partition("=") for pair in before.partition("?")[2].split("&")]
    if fragment:
        pairs += [pair.partition("=") for pair in _IN_FRAGMENT.split(fragment)]
    for name, equals, value in pairs:
        if equals:
            name = unquote_plus(name) if "%" in name or "+" in name else name
            _keep_campaign(found, _BEFORE_NAME.sub("", name), unquote_plus(value))
    for name, value in parameters.items():
        _keep_campaign(found, name, value)
    return found


def _keep_campaign(found: dict[str, str], name: str, value: str) -> None:
    name = name.strip().lower()
    if (name.startswith("utm_") or name in CLICK_IDS) and (value := value.strip()):
        found.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a visit came from, as far as pools may ask: lower-case `utm_*` values, click ids, referrer host, landing
    path.
    """

    utm: dict[str, str]
    click_ids: dict[str, str]
    referrer_host: str
    landing_path: str

    @classmethod
    def of(cls, full_url: str, full_referrer: str, parameters: dict[str, str]) -> "Origin":
        """Read the origin off a request; for `utm_*` and click ids see `read_campaign`."""
        campaign = read_campaign(full_url, parameters)
        click_ids = {name: campaign.pop(name) for name in CLICK_IDS if name in campaign}
        try:
            path = urlsplit(full_url).path or "/"
        except ValueError:
            path = "/"
        try:
            host = (urlsplit(full_referrer).hostname or "").lower()
        except ValueError:
            host = ""
        return cls({name: value.lower() for name, value in campaign.items()}, click_ids, host, path)


@dataclass(frozen=True, slots=True)
class Match:
    """Which visits a pool serves. Every named condition must hold; within one, any of its values will do.

    `utm` values are compared without case; of `click_ids` and `landing_path`, which keep their case, values are shell
    patterns (`*` any click id, `/cars/*`); a `referrer_host` takes its subdomains in.
    """

    utm: dict[str, tuple[str, ...]]
    click_ids: dict[str, tuple[str, ...]]
    referrer_host: tuple[str, ...]
    landing_path: tuple[str, ...]

    def unmet(self, origin: Origin) -> str | None:
        """The first condition, by its name in account files, that a visit of this origin does not meet; None: none."""
        for key, values in self.utm.items():
            if origin.utm.get(key) not in values:
                return key
        for key, values in self.click_ids.items():
            if key not in origin.click_ids or not any(
                fnmatch.fnmatchcase(origin.click_ids[key], value) for value in values
            ):
                return key
        if self.referrer_host and not any(
            ("." + origin.referrer_host).endswith("." + host) for host in self.referrer_host
        ):
            return "referrer_host"
        if self.landing_path and not any(fnmatch.fnmatchcase(origin.landing_path, path) for path in self.landing_path):
            return "landing_path"
        return None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Match":
        """Build from what the store keeps (see `accounts.entries.MatchEntry.config`)."""
        campaign = {key: tuple(values) for key, values in config["utm"].items()}
        click_ids = {key: campaign.pop(key) for key in CLICK_IDS if key in campaign}
        return cls(campaign, click_ids, tuple(config["referrer_host"]), tuple(config["landing_path"]))


@dataclass(frozen=True, slots=True)
class Pool:
    """Tracking numbers leased to visitors, and the rules of it (`dynamic/README.md`, *Leases*). Times in ms."""

    name: str
    replaces: frozenset[str]  # E.164; empty: every valid number on the page
    pattern: str | None
    idle_ttl_ms: int
    max_ttl_ms: int
    cooldown_ms: int
    overflow: Overflow
    on_call: OnCall  # what becomes of a lease when a call comes on its number
    shared_number: str | None
    match: Match | None

    def lists(self, number: str) -> bool:
        """Whether the pool can be that of `number`, a valid one, for some visit."""
        return not self.replaces or number in self.replaces

    def unmet(self, number: str, origin: Origin | None) -> str | None:
        """Why the pool does not serve `number` on a page of this origin: `replaces`, or the condition of its `match`.

        None: it serves it. The origin is needed where the account `matches_origins`. A pool that replaces all numbers
        replaces those that are valid: of a listed one it is known that it is a number.
        """
        if number not in self.replaces if self.replaces else not is_valid(number):
            return "replaces"
        if self.match is None:
            return None
        return "match" if origin is None else self.match.unmet(origin)


@dataclass(frozen=True, slots=True)
class Account:
    """A partner (`advId`): its secrets, limits, budget and pools, as one version of its configuration says."""

    name: str
    version: int
    secrets: tuple[bytes, ...]
    region: str
    timezone: str
    points_daily: int
    costs: dict[str, int]
    per_second: int
    limit_by: Literal["client", "signed"]
    visitor_ttl_ms: int
    visits_kept_ms: int
    pools: tuple[Pool, ...]
    displays: dict[str, str]  # tracking number → its own display text
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]  # from where the partner API may be called
    quarantine_ms: int  # how long a source's number rests after it
    calls_kept_ms: int
    customers_most: int
    sources_most: int  # archived ones too
    sound_most: int  # bytes of all greetings, as they are kept: in base64
    leases_kept_ms: int  # how long it is known who was shown which number
    site: str | None  # `SiteId` of the static numbers API
    token_hashes: tuple[str, ...]  # SHA-256 of its access tokens, hex
    custom_fields: dict[str, tuple[str, ...]]  # of `customers` and `sources`: those defined at set-up
    crawlers: tuple[str, ...]  # parts of user agents, in lower case, that crawlers have beside those known
    no_crawlers: tuple[str, ...]  # parts of user agents, in lower case, that no crawler has, known or not
    join: bool  # a visitor's requests that lack a session join the one of it that holds leases
    matches_origins: bool  # whether any pool asks where a visit came from

    def __repr__(self) -> str:
        return f"Account({self.name!r}, version={self.version}, pools={[pool.name for pool in self.pools]})"

    @classmethod
    def from_config(cls, name: str, version: int, config: dict[str, Any]) -> "Account":
        """Build from what `edgeproxy load` keeps in the store, its secrets open (see `accounts.entries`)."""
        pools = tuple(
            Pool(
                name=pool_name,
                replaces=frozenset(map(current_form, pool["replaces"])),
                pattern=pool["pattern"],
                idle_ttl_ms=pool["idle_ttl_ms"],
                max_ttl_ms=pool["max_ttl_ms"],
                cooldown_ms=pool["cooldown_ms"],
                overflow=pool["overflow"],
                on_call=pool["on_call"],
                shared_number=pool["shared_number"],
                match=pool["match"] and Match.from_config(pool["match"]),
            )
            for pool_name, pool in config["pools"].items()
        )
        return cls(
            name=name,
            version=version,
            secrets=tuple(secret.encode() for secret in config["secrets"]),
            region=config["region"],
            timezone=config["timezone"],
            points_daily=config["points_daily"],
            costs=config["costs"],
            per_second=config["per_second"],
            limit_by=config["limit_by"],
            visitor_ttl_ms=config["visitor_ttl_ms"],
            visits_kept_ms=config["visits_kept_ms"],
            pools=pools,
            displays=config["displays"],
            networks=tuple(map(ipaddress.ip_network, config["networks"])),
            site=config["site"],
            token_hashes=tuple(config["token_hashes"]),
            quarantine_ms=config["quarantine_ms"],
            calls_kept_ms=config["calls_kept_ms"],
            customers_most=config["customers_most"],
            sources_most=config["sources_most"],
            sound_most=config["sound_most"],
            leases_kept_ms=config["leases_kept_ms"],
            custom_fields={resource: tuple(names) for resource, names in config["custom_fields"].items()},
            crawlers=tuple(config.get("crawlers", {}).get("add", ())),  # an earlier release wrote none
            no_crawlers=tuple(config.get("crawlers", {}).get("ignore", ())),
            join=config.get("join", True),  # the release before does not write it
            matches_origins=any(pool.match for pool in pools),
        )

    def session_idle_ms(self) -> int:
        """How long a session lives after its last request: as long as the longest idle lease it could hold."""
        return max((pool.idle_ttl_ms for pool in self.pools), default=30 * 60_000)

    def pool_for(self, number: str, origin: Origin | None) -> int:
        """Index of the first pool, in the account's order, that replaces `number` for this visit; −1 if none does."""
        for index, pool in enumerate(self.pools):
            if pool.unmet(number, origin) is None:
                return index
        return -1

    def midnights_ms(self, around_ms: int) -> list[int]:
        """The starts of the account's days, epoch ms, from three days before `around_ms` to four days after it.

        The store picks today's by its own clock, so a host whose clock is off by less than that decides nothing.
        Days of 23 and 25 hours come out as the time zone has them.
        """
        zone = moments.zone(self.timezone)
        today = datetime.fromtimestamp(around_ms / 1000, zone).date()
        days = [today + timedelta(days=offset) for offset in range(-3, 5)]
        return [int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000) for day in days]


@dataclass(frozen=True, slots=True)
class PoolState:
    """How a pool stands: how many of its numbers are in each state, and what it had no free number for.

    The latter is of the last hour, to five minutes more: numbers on page that stayed (`original`), were shown the
    shared number, or got one whose lease or cooldown ended early for it (`recycled`).
    """

    account: str
    pool: str
    free: int
    leased: int
    cooling: int
    original: int
    shared: int
    recycled: int

    @property
    def numbers(self) -> int:
        """How many numbers the pool has."""
        return self.free + self.leased + self.cooling

    @property
    def overflowed(self) -> int:
        """How many numbers on page found no free one."""
        return self.original + self.shared + self.recycled


def rate_limits(account: Account, window_left: int, points_left: int | None, day_left_ms: int) -> str:
    """The lines of the headers `RateLimit-Policy` and `RateLimit`, each with its line end: what is left of the second's
    requests, and of the day's points unless that is not known (None).
    """
    points = "" if points_left is None else f', "points";r={points_left};t={-(-day_left_ms // 1000)}'
    return f'{_policy(account.per_second, account.points_daily)}RateLimit: "ip";r={window_left};t=1{points}\r\n'


@functools.lru_cache(_POLICIES_KEPT)
def _policy(per_second: int, points_daily: int) -> str:
    return f'RateLimit-Policy: "ip";q={per_second};w=1, "points";q={points_daily};w=86400\r\n'
