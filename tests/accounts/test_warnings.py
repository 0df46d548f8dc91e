"""What an account file is warned of: what is not wrong, and most likely not meant."""

import random
from pathlib import Path

import pytest

from edgeproxy.accounts.account import Origin
from edgeproxy.accounts.file import read_closely
from tests.accounts.texts import account, runtime
from tests.conftest import DEMO


def warnings_of(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "f"
    path.write_text(text)
    return [f"{warning.line}: {warning.text}" for warning in read_closely(path)[1]]


def test_the_bundled_file_has_no_warnings() -> None:
    assert read_closely(DEMO)[1] == []


def test_a_time_without_a_unit_is_warned_of_wherever_it_stands(tmp_path: Path) -> None:
    text = account(
        "      p:\n        replaces: all\n        numbers: [+493015981151]\n        cooldown: 15\n",
        "    quarantine: 0\n    visits_kept: 90\n",
    )
    assert warnings_of(text, tmp_path) == [
        "6: accounts.x.visits_kept: 90 has no unit and is read as 90s: write 90s, or 90m",
        "11: accounts.x.pools.p.cooldown: 15 has no unit and is read as 15s: write 15s, or 15m",
    ]


def test_numbers_that_no_network_gives_out_are_warned_of(tmp_path: Path) -> None:
    text = account(
        "      p:\n        replaces: [+493015981100, +491111111]\n        numbers:\n          - +493015981151\n"
        "          - +441000000001..+441000000004\n        overflow: shared\n        shared_number: +491500000\n"
    )
    assert warnings_of(text, tmp_path) == [
        "7: accounts.x.pools.p.replaces: +491111111 is no number that is given out",
        "10: accounts.x.pools.p.numbers: +441000000001 is no number that is given out, nor are others of this range",
        "12: accounts.x.pools.p.shared_number: +491500000 is no number that is given out",
    ]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("replaces: all", "replaces: all", "pools.q: never serves: p, which stands before it, takes all of its visits"),
        ("replaces: all", "replaces: [+493015981100], match: {utm_source: x}", "pools.q: never serves"),
        ("replaces: [+493015981100]", "replaces: [+493015981100]", "pools.q: never serves"),
        ("replaces: [+493015981100]", "replaces: [+493015981101, +493015981100]",
         "pools.q.replaces: +493015981100 is never replaced here: p, which stands before it, does"),
        ("replaces: [+493015981100]", "replaces: all", ""),
        ("replaces: all, match: {utm_source: x}", "replaces: all", ""),
        ("replaces: all, match: {utm_source: [X, y]}", "replaces: all, match: {utm_source: x}", "pools.q: never"),
        ("replaces: all, match: {utm_source: x}", "replaces: all, match: {utm_source: [x, y]}", ""),
        ("replaces: all, match: {utm_source: x, gclid: '*'}", "replaces: all, match: {utm_source: x}", ""),
        ("replaces: all, match: {gclid: '*'}", "replaces: all, match: {gclid: abc*}", "pools.q: never serves"),
        ("replaces: all, match: {referrer_host: a.de}", "replaces: all, match: {referrer_host: [a.de, www.A.de]}",
         "pools.q: never serves"),
        ("replaces: all, match: {referrer_host: www.a.de}", "replaces: all, match: {referrer_host: a.de}", ""),
        ("replaces: all, match: {landing_path: /cars/*}", "replaces: all, match: {landing_path: [/cars/4*, /cars/x]}",
         "pools.q: never serves"),
        ("replaces: all, match: {landing_path: '/cars/?'}", "replaces: all, match: {landing_path: /cars/*}", ""),
    ],
)  # fmt: skip
def test_a_pool_that_earlier_ones_leave_nothing_to_is_warned_of(
    tmp_path: Path, first: str, second: str, told: str
) -> None:
    text = account(f"      p: {{{first}, numbers: [+493015981151]}}\n      q: {{{second}, numbers: [+493015981152]}}\n")
    warnings = warnings_of(text, tmp_path)
    assert [warning.startswith(f"7: accounts.x.{told}") for warning in warnings] == [True] * bool(told)


def test_a_pool_of_which_is_said_that_it_never_serves_never_does(tmp_path: Path) -> None:
    chance = random.Random(1)
    values = {"utm_source": ["a", "b"], "landing_path": ["/*", "/a", "/a*", "/?", "/[ab]"], "gclid": ["*", "x", "x*"],
              "referrer_host": ["a.de", "www.a.de"]}  # fmt: skip
    pages = ["+493015981100", "+493015981101", "+493015981102"]
    visits = [
        Origin.of(f"https://h{path}?utm_source={source}{click}", f"https://{host}/", {})
        for path in ("/", "/a", "/b", "/ab")
        for source in "abc"
        for click in ("", "&gclid=x", "&gclid=xy")
        for host in ("a.de", "www.a.de", "b.de")
    ]
    said = 0
    for _ in range(150):
        pools = ""
        for place in range(4):
            matches = [
                f"{name}: [{', '.join(map(repr, chance.sample(of, chance.randint(1, 2))))}]"
                for name, of in values.items()
                if chance.random() < 0.3
            ]
            replaces = chance.choice(["all", f"[{', '.join(chance.sample(pages, chance.randint(1, 3)))}]"])
            match = f", match: {{{', '.join(matches)}}}" if matches else ""
            pools += f"      p{place}: {{replaces: {replaces}, numbers: [+49301598115{place}]{match}}}\n"
        serving = runtime(pools)
        for warning in warnings_of(account(pools), tmp_path):
            if "never serves" in warning:
                said += 1
                pool = int(warning.split(".pools.p")[1][0])
                assert not [1 for page in pages for visit in visits if serving.pool_for(page, visit) == pool], pools
    assert said > 20
