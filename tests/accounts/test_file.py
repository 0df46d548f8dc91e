import itertools

import pytest

from edgeproxy.accounts.account import Account, Origin
from edgeproxy.accounts.file import AccountFileError, parse
from edgeproxy.store.inventory import description
from tests.accounts.texts import account, runtime
from tests.conftest import DEMO


def lines_of(text: str) -> list[str]:
    """Every fault of a file."""
    with pytest.raises(AccountFileError) as caught:
        parse(text.encode(), "f")
    return [f"f:{error.line}: {error.text}" for error in caught.value.errors]


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
        ("", "f:1: must be a mapping with the key accounts"),
        ("- a", "f:1: must be a mapping with the key accounts"),
        ("accounts: {}", "f:1: accounts: is empty"),
        ("accounts: [", "f:1: a value is missing"),
        ("accounts: &a\n  x: *a\n", "f:2: *a is an alias"),
        ("\x00", "f:1: holds U+0000"),
    ],
)
def test_what_is_no_account_file(text: str, error: str) -> None:
    assert lines_of(text)[0].startswith(error)


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
        ("idle_ttl: 0s", "idle_ttl: must be more than 0"),
        ("idle_ttl: -1s", "must be a time such as"),
        ("max_ttl: 9999d", "max_ttl: must be at most 3660d"),
    ],
)
def test_a_pool_that_contradicts_itself(pool: str, error: str) -> None:
    (line,) = lines_of(account(f"      p: {{replaces: all, numbers: [+493015981151], {pool}}}\n"))
    assert error in line


@pytest.mark.parametrize(
    ("pool", "more"),
    [
        ("replaces: [+493015981100..+493015981109]", ""),
        ("replaces: all, overflow: shared, shared_number: +493015981160..+493015981169", ""),
        ("replaces: all", '    displays: {+493015981151..+493015981152: "x"}\n'),
        ("replaces: [+493015981100..]", ""),
    ],
)
def test_a_range_stands_for_its_first_number_nowhere(pool: str, more: str) -> None:
    lines = lines_of(account(f"      p: {{numbers: [+493015981151..+493015981152], {pool}}}\n", more))
    assert "is a range, and this is one number" in lines[0]


def test_secrets_are_not_shown() -> None:
    file = parse(account("      p: {replaces: all, numbers: [+493015981151]}\n").replace("[s]", "[hunter2]").encode())
    assert "hunter2" not in repr(file)
    assert "hunter2" not in str(file.accounts["x"])


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


# Faults that help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("regoin: DE", "accounts.x.regoin: there is no such field; did you mean region?"),
        ("region: de", "accounts.x.region: 'de' is not a region code, such as DE; did you mean DE?"),
        ("timezone: europe/berln", "is not a time zone, such as Europe/Berlin; did you mean Europe/Berlin?"),
        ("limit: {per-second: 5}", "accounts.x.limit.per-second: there is no such field; did you mean per_second?"),
        ("limit: {by: singed}", "accounts.x.limit.by: must be client or signed; did you mean signed?"),
        ("points: {costs: {creat: 1}}", "must be numbers, update, create, delete or list; did you mean create?"),
        ("networks: [10.0.0.1/8]", "; did you mean 10.0.0.0/8?"),
        ("pools: {p: {cooldwon: 3s}}", "accounts.x.pools.p.cooldwon: there is no such field; did you mean cooldown?"),
        ("pools: {p: {overflow: orignal}}", "overflow: must be original, shared or recycle; did you mean original?"),
        ("pools: {p: {match: {utm_sorce: x}}}", "match.utm_sorce: there is no such field; did you mean utm_source?"),
        ("sound: loud", "accounts.x.sound: there is no such field"),
    ],
)  # fmt: skip
def test_a_fault_tells_what_may_have_been_meant(wrong: str, told: str) -> None:
    lines = lines_of(f"accounts:\n  x:\n    secrets: [s]\n    {wrong}\n")
    (line,) = [line for line in lines if line.endswith(told)]
    assert line.startswith("f:4: accounts.x.")


def test_of_ten_thousand_faults_ten_are_told_and_the_rest_are_counted() -> None:
    text = "accounts:\n  x:\n" + "".join(f"    f{i}: 1\n" for i in range(10_000))
    with pytest.raises(AccountFileError) as caught:
        parse(text.encode(), "f")
    assert len(caught.value.errors) == 10_002
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 9,992 more faults"


def test_a_small_file_cannot_stand_for_millions_of_numbers() -> None:
    ranges = ", ".join(f"+4930{i}00000..+4930{i}99999" for i in range(100, 112))
    lines = lines_of(f"accounts: {{x: {{secrets: [s], region: DE, numbers: [{ranges}]}}}}")
    assert [line.split(": ", 2)[1:] for line in lines] == [
        [f"accounts.x.numbers.{place}", "the file holds more than 1000000 numbers: split it"] for place in (10, 11)
    ]


def test_what_an_error_shows_of_a_text_is_short() -> None:
    for field in ("region", "timezone", "networks", "numbers"):
        value = "x" * 10_000 if field in ("region", "timezone") else f"[{'9' * 10_000}]"
        lines = lines_of(f"accounts: {{x: {{secrets: [s], {field}: {value}}}}}")
        assert max(map(len, lines)) < 200


def test_a_change_of_any_setting_is_a_change_to_load() -> None:
    """`load` saves an account of which it has something to tell."""
    config = parse(b"accounts: {x: {secrets: [s], region: DE}}").accounts["x"].config()
    assert config.keys() == {*description._SETTINGS_SHOWN, "secrets", "displays", "pools"}
