import itertools

import pytest

from edgeproxy.account_file import AccountFileError, parse
from edgeproxy.model import Account, Origin
from tests.conftest import DEMO


def lines_of(text: str) -> list[str]:
    with pytest.raises(AccountFileError) as caught:
        parse(text.encode(), "f")
    return str(caught.value).splitlines()


def test_the_bundled_file() -> None:
    accounts = parse(DEMO.read_bytes()).accounts
    assert sorted(accounts) == ["demo", "recycle", "shared", "tiny"]
    demo = accounts["demo"]
    assert sorted(demo.pooled_numbers()) == [f"+4930159811{last}" for last in range(51, 91)]
    berlin = demo.config()["pools"]["berlin"]
    assert (berlin["idle_ttl_ms"], berlin["max_ttl_ms"], berlin["cooldown_ms"]) == (1_800_000, 86_400_000, 900_000)
    assert (berlin["overflow"], berlin["replaces"], berlin["pattern"]) == (
        "original", ["+493015981100"], "### ## ## ## ##",
    )  # fmt: skip
    tiny = accounts["tiny"].config()
    assert (tiny["points_daily"], tiny["pools"]["london"]["idle_ttl_ms"], tiny["pools"]["london"]["cooldown_ms"]) == (
        20, 2000, 1000,
    )  # fmt: skip


EVERYTHING_WRONG = """\
accounts:
  a b:
    secrets: []
    region: XX
  x:
    secrets: [one, two, three]
    region: DE
    region: GB
    timezone: Mars/Olympus
    colour: red
    limit: {per_second: 0, by: face}
    points: {daily: -1, costs: {dance: 1}}
    displays: {"+493015981199": "030"}
    pools:
      p:
        replaces: []
        numbers: [4930, +493015981152..+493015981151]
        idle_ttl: soon
        overflow: shared
      q:
        replaces: all
        numbers: [+493015981151]
        pattern: "## ##"
"""


def test_every_error_is_told_with_its_line() -> None:
    lines = lines_of(EVERYTHING_WRONG)
    assert [line.split(":")[1] for line in lines] == sorted((line.split(":")[1] for line in lines), key=int)
    told = "\n".join(lines)
    for line, word in [
        (2, "a b"), (3, "secrets"), (4, "XX"), (6, "secrets"), (8, "stands twice"), (9, "Mars"), (10, "colour"),
        (11, "per_second"), (11, "limit.by"), (12, "daily"), (12, "dance"), (16, "replaces"), (17, "4930"),
        (17, "+493015981152..+493015981151"), (18, "idle_ttl"), (20, "q"),
    ]:  # fmt: skip
        assert any(entry.startswith(f"f:{line}:") and word in entry for entry in lines), f"{line} {word}\n{told}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "f:1: expected a mapping"),
        ("- a", "f:1: expected a mapping"),
        ("accounts: {}", "f:1: accounts: Dictionary should have at least 1 item"),
        ("accounts: [", "f:1: "),
        ("accounts: &a\n  x: *a\n", "f:1: not YAML"),
        ("\x00", "f:1: not YAML"),
    ],
)
def test_what_is_no_account_file(text: str, error: str) -> None:
    assert lines_of(text)[0].startswith(error)


def account(pools: str, more: str = "") -> str:
    return f"accounts:\n  x:\n    secrets: [s]\n    region: DE\n{more}    pools:\n{pools}"


def test_a_number_is_in_one_pool() -> None:
    pool = "      {}: {{replaces: all, numbers: [+493015981151]}}\n"
    (line,) = lines_of(account(pool.format("p") + pool.format("q")))
    assert line == "f:7: +493015981151 is in x.p already, and cannot be in x.q too"


def test_a_display_text_is_of_a_number_of_the_account() -> None:
    pool = "      p: {replaces: all, numbers: [+493015981151]}\n"
    (line,) = lines_of(account(pool, '    displays: {+493015981152: "x"}\n'))
    assert line == "f:5: displays: +493015981152 is no number of x"


@pytest.mark.parametrize(
    ("pool", "error"),
    [
        ("idle_ttl: 2h, max_ttl: 1h", "idle_ttl is longer than max_ttl"),
        ("overflow: shared", "shared_number goes with overflow: shared"),
        ("shared_number: +493015981152", "shared_number goes with overflow: shared"),
        ("overflow: shared, shared_number: +493015981151", "is also among the numbers to lease"),
        ('pattern: "####"', "has not one # for each digit of +493015981151"),
        ("idle_ttl: 0s", "greater than 0"),
        ("idle_ttl: -1s", "expected a time"),
    ],
)
def test_a_pool_that_contradicts_itself(pool: str, error: str) -> None:
    (line,) = lines_of(account(f"      p: {{replaces: all, numbers: [+493015981151], {pool}}}\n"))
    assert error in line


def test_secrets_are_not_shown() -> None:
    file = parse(account("      p: {replaces: all, numbers: [+493015981151]}\n").replace("[s]", "[hunter2]").encode())
    assert "hunter2" not in repr(file)
    assert "hunter2" not in str(file.accounts["x"])


def runtime(pools: str) -> Account:
    return Account.from_config("x", 1, parse(account(pools).encode()).accounts["x"].config() | {"token_hashes": []})


def test_the_first_pool_that_matches_wins() -> None:
    x = runtime(
        "      ads: {replaces: all, numbers: [+493015981151],"
        " match: {utm_source: [Google, bing], utm_medium: cpc}}\n"
        "      partner: {replaces: [+493015981100], numbers: [+493015981152], match: {referrer_host: example.com}}\n"
        "      cars: {replaces: [+493015981100], numbers: [+493015981153], match: {landing_path: [/cars, /cars/*]}}\n"
        "      rest: {replaces: [+493015981100, +493015981101], numbers: [+493015981154]}\n"
    )
    for url, referrer, number, pool in [
        ("https://a/?utm_source=google&utm_medium=CPC", "", "+493015981100", 0),
        ("https://a/?utm_source=BING&utm_medium=cpc", "", "+4930777777", 0),
        ("https://a/?utm_source=google", "", "+493015981100", 3),
        ("https://a/", "https://www.example.com/x", "+493015981100", 1),
        ("https://a/", "https://example.com/x", "+493015981100", 1),
        ("https://a/", "https://notexample.com/x", "+493015981100", 3),
        ("https://a/cars", "", "+493015981100", 2),
        ("https://a/cars/42?x", "", "+493015981100", 2),
        ("https://a/carsten", "", "+493015981100", 3),
        ("https://a/cars", "", "+493015981101", 3),
        ("https://a/cars", "", "+493015981102", -1),
    ]:
        assert x.pool_for(number, Origin.of(url, referrer, {})) == pool, (url, referrer, number)


def test_pools_match_click_ids_by_shell_patterns() -> None:
    pools = (
        "      google: {replaces: all, numbers: [+493015981151], match: {gclid: '*'}}\n"
        "      bing: {replaces: all, numbers: [+493015981152], match: {msclkid: [abc*, ABC], utm_source: bing}}\n"
        "      rest: {replaces: all, numbers: [+493015981154]}\n"
    )
    for url, pool in [
        ("https://a/?gclid=x", 0),
        ("https://a/#GCLID=x", 0),
        ("https://a/?gclid=", 2),
        ("https://a/?gbraid=x", 2),
        ("https://a/?msclkid=abcd&utm_source=Bing", 1),
        ("https://a/?msclkid=ABC&utm_source=bing", 1),
        ("https://a/?msclkid=ABCD&utm_source=bing", 2),
        ("https://a/?msclkid=abcd", 2),
    ]:
        assert runtime(pools).pool_for("+493015981100", Origin.of(url, "", {})) == pool, url


def test_a_release_that_knows_no_click_ids_serves_nobody_from_a_pool_that_asks_for_one() -> None:
    pool = "      google: {replaces: all, numbers: [+493015981151], match: {gclid: '*'}}\n"
    config = parse(account(pool).encode()).accounts["x"].config()["pools"]["google"]["match"]
    assert config == {"utm": {"gclid": ["*"]}, "referrer_host": [], "landing_path": []}  # no visit has this utm


@pytest.mark.parametrize(
    ("zone", "hours"),
    [("UTC", {24}), ("Europe/Berlin", {23, 24, 25}), ("Asia/Kathmandu", {24}), ("America/Sao_Paulo", {24})],
)
def test_midnights_follow_the_time_zone(zone: str, hours: set[int]) -> None:
    text = account("      p: {replaces: all, numbers: [+493015981151]}\n", f"    timezone: {zone}\n")
    x = Account.from_config("x", 1, parse(text.encode()).accounts["x"].config() | {"token_hashes": []})
    seen = set()
    for day in range(0, 366, 3):
        midnights = x.midnights_ms(1_767_225_600_000 + day * 86_400_000)
        assert len(midnights) == 8
        seen |= {(b - a) // 3_600_000 for a, b in itertools.pairwise(midnights)}
    assert seen == hours


def test_leases_are_known_while_they_can_live() -> None:
    pool = "{p: {replaces: all, numbers: [+4930111]}}"
    text = f"accounts: {{x: {{secrets: [s], region: DE, leases_kept: 1h, pools: {pool}}}}}"
    with pytest.raises(AccountFileError, match="leases_kept is shorter than max_ttl and cooldown of pool p together"):
        parse(text.encode())


@pytest.mark.parametrize(
    ("crawlers", "error"),
    [
        ("{add: [ab]}", "crawlers.add.0: "),
        ("{ignore: ['  ab  ']}", "crawlers.ignore.0: "),
        (f"{{add: [{'x' * 129}]}}", "crawlers.add.0: "),
        (f"{{add: [{', '.join(f'bot{i}' for i in range(65))}]}}", "crawlers.add: "),
        ("{only: [abc]}", "crawlers.only: "),
        ("{add: abc}", "crawlers.add: "),
    ],
)  # fmt: skip
def test_parts_of_user_agents_are_bounded(crawlers: str, error: str) -> None:
    with pytest.raises(AccountFileError, match=error):
        parse(f"accounts: {{x: {{secrets: [s], region: DE, crawlers: {crawlers}}}}}".encode())


def test_parts_of_user_agents_are_compared_without_case() -> None:
    text = "accounts: {x: {secrets: [s], region: DE, crawlers: {add: [' Monitor ', monitor, BOT (x], ignore: [App]}}}"
    x = Account.from_config("x", 1, parse(text.encode()).accounts["x"].config() | {"token_hashes": []})
    assert (x.crawlers, x.no_crawlers) == (("bot (x", "monitor"), ("app",))
