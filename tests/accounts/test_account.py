import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import CLICK_IDS, Account, Origin, read_campaign


@pytest.mark.parametrize(
    ("url", "referrer", "parameters", "origin"),
    [
        (
            "https://a.example/cars/42?utm_source=Google&utm_medium=cpc&x=1",
            "https://www.google.com/search",
            {},
            Origin({"utm_source": "google", "utm_medium": "cpc"}, {}, "www.google.com", "/cars/42"),
        ),
        ("", "", {"utm_source": "App"}, Origin({"utm_source": "app"}, {}, "", "/")),
        ("/x?utm_source=url", "", {"utm_source": "parameters"}, Origin({"utm_source": "url"}, {}, "", "/x")),
        ("http://[broken", "http://[broken", {}, Origin({}, {}, "", "/")),
    ],
)
def test_origin(url: str, referrer: str, parameters: dict[str, str], origin: Origin) -> None:
    assert Origin.of(url, referrer, parameters) == origin


@pytest.mark.parametrize(
    ("url", "campaign"),
    [
        ("https://a/?utm_source=Google&utm_medium=cpc&x=1", {"utm_source": "Google", "utm_medium": "cpc"}),
        ("https://a/?UTM_Source=Google&GCLID=Cj0K", {"utm_source": "Google", "gclid": "Cj0K"}),
        ("https://a/#utm_source=google&gclid=Cj0K", {"utm_source": "google", "gclid": "Cj0K"}),
        ("https://a/#/cars?utm_source=google", {"utm_source": "google"}),
        ("https://a/#!/cars?id=1&utm_source=google", {"utm_source": "google"}),
        ("https://a/#!utm_source=google", {"utm_source": "google"}),
        ("https://a/?x=1#top?utm_source=google", {"utm_source": "google"}),
        ("https://a/?x=1&amp;utm_source=google&amp;gclid=1", {"utm_source": "google", "gclid": "1"}),
        ("https://a/?x=1&amp;amp;utm_source=google", {"utm_source": "google"}),
        ("https://a/?x=1&AMP;utm_source=google", {"utm_source": "google"}),
        ("https://a/?x=1&#38;utm_source=google&#x26;gclid=1", {"utm_source": "google", "gclid": "1"}),
        ("https://a/?utm_source=%20google+&utm_campaign=a%20b+c", {"utm_source": "google", "utm_campaign": "a b c"}),
        ("https://a/?utm_source=\u00a0google\t", {"utm_source": "google"}),
        ("https://a/?+utm_source+=google&utm%5Fmedium=cpc", {"utm_source": "google", "utm_medium": "cpc"}),
        ("https://a/?utm_source=first&utm_source=second#utm_source=third", {"utm_source": "first"}),
        ("https://a/?utm_source=&utm_medium=%20&gclid#utm_source=google", {"utm_source": "google"}),
        ("https://a/?gclid=a=b", {"gclid": "a=b"}),
        ("https://a/?back=https://b/?utm_source=b", {}),
        ("https://a/?my_utm_source=x&utmsource=x&xgclid=1&camp;utm_source=x", {}),
        ("https://a/utm_source=x", {}),
        ("http://[broken?utm_source=google", {"utm_source": "google"}),
        ("?utm_source=%ff%00", {"utm_source": "\ufffd\x00"}),
        ("", {}),
    ],
)
def test_a_campaign_is_found_however_its_link_was_written(url: str, campaign: dict[str, str]) -> None:
    assert read_campaign(url, {}) == campaign


@pytest.mark.parametrize("name", ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", *CLICK_IDS])
def test_custom_dimensions_stand_in_for_what_the_url_lacks(name: str) -> None:
    assert read_campaign("", {f" {name.upper()} ": " X ", "other": "y"}) == {name: "X"}
    assert read_campaign(f"https://a/?{name}=url", {name: "parameters"}) == {name: "url"}
    assert read_campaign(f"https://a/?{name}=", {name: "parameters"}) == {name: "parameters"}


def test_click_ids_keep_their_case_where_a_visit_came_from() -> None:
    origin = Origin.of("https://a/?utm_source=Google&gclid=Cj0K", "", {"MSCLKID": "aB"})
    assert origin == Origin({"utm_source": "google"}, {"gclid": "Cj0K", "msclkid": "aB"}, "", "/")


def test_listed_numbers_that_an_earlier_release_kept_in_an_old_form_are_compared_in_the_current_one() -> None:
    text = "accounts: {x: {secrets: [s], region: BR, pools: {p: {replaces: [11 8123-4567], numbers: [+551130001234]}}}}"
    config = account_file.parse(text.encode()).accounts["x"].config() | {"token_hashes": []}
    assert config["pools"]["p"]["replaces"] == ["+5511981234567"]
    config["pools"]["p"]["replaces"] = ["+551181234567"]
    assert Account.from_config("x", 1, config).pool_for("+5511981234567", None) == 0
