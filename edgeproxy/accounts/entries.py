"""What stands in account files: accounts and pools, and what is kept of them in the store."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from edgeproxy.accounts.account import CLICK_IDS, OnCall, Overflow
from edgeproxy.accounts.display import pattern_fits
from edgeproxy.accounts.fields import (
    AgentPart,
    CustomField,
    Duration,
    Name,
    Network,
    Number,
    Numbers,
    Region,
    Replaces,
    Rest,
    Texts,
    Token,
    Zone,
)

_AGENT_PARTS_MOST = 64  # each is looked for in every user agent that is not remembered


class Entry(BaseModel):
    """A part of an account file: it has no other fields, and its errors quote nothing of it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class MatchEntry(Entry):
    """`match:` of a pool; see `accounts.account.Match`."""

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


class PoolEntry(Entry):
    """One pool under `pools:`; see `accounts.account.Pool`."""

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

    def config(self) -> dict[str, Any]:
        """The form kept in the store; the pool's numbers are kept beside it."""
        return {
            "replaces": sorted(set(self.replaces)),
            "pattern": self.pattern,
            "idle_ttl_ms": self.idle_ttl,
            "max_ttl_ms": self.max_ttl,
            "cooldown_ms": self.cooldown,
            "overflow": self.overflow,
            "on_call": self.on_call,
            "shared_number": self.shared_number,
            "match": self.match and self.match.config(),
        }


Method = Literal["numbers", "update", "create", "delete", "list"]


class PointsEntry(Entry):
    """`points:`, the daily budget and what a successful request of each method spends."""

    daily: Annotated[int, Field(ge=0, le=10**12)] = 1_000_000
    costs: dict[Method, Annotated[int, Field(ge=0, le=10**6)]] = {}


class LimitEntry(Entry):
    """`limit:`, the per-IP limiter of the account."""

    per_second: Annotated[int, Field(ge=1, le=1000)] = 5
    by: Literal["client", "signed"] = "client"


class MostEntry(Entry):
    """`most:`, how much the partners of an account may keep."""

    customers: Annotated[int, Field(ge=0, le=10**7)] = 100_000
    sources: Annotated[int, Field(ge=0, le=10**7)] = 100_000
    sound_mb: Annotated[int, Field(ge=0, le=10**5)] = 100


class CustomFieldsEntry(Entry):
    """`custom_fields:`, which of `custom_1` to `custom_20` are defined (`partner/README.md`, *Customers*)."""

    customers: list[CustomField] = []
    sources: list[CustomField] = []


class CrawlersEntry(Entry):
    """`crawlers:`, parts of user agents, without case: of crawlers beside those known, and of what is no crawler."""

    add: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []
    ignore: Annotated[list[AgentPart], Field(max_length=_AGENT_PARTS_MOST)] = []


class StaticEntry(Entry):
    """`static:`, who may use the static numbers API for the account (`numbers/README.md`, *Access*)."""

    site: Name
    tokens: Annotated[list[Token], Field(min_length=1, max_length=2)]


class AccountEntry(Entry):
    """One account under `accounts:`; see `accounts.account.Account`."""

    secrets: Annotated[list[Annotated[SecretStr, Field(min_length=1)]], Field(min_length=1, max_length=2)]
    region: Region
    timezone: Zone = "UTC"
    points: PointsEntry = PointsEntry()
    limit: LimitEntry = LimitEntry()
    visitors_kept: Duration = 30 * 86_400_000
    visits_kept: Duration = 3_600_000
    pools: dict[Name, PoolEntry] = {}
    displays: dict[Number, Annotated[str, Field(min_length=1, max_length=64)]] = {}
    numbers: list[Numbers] = []
    networks: list[Network] = []
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
        """What the store keeps of the account beside its numbers: `Account.from_config` reads it."""
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
            "pools": {name: pool.config() for name, pool in self.pools.items()},
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
