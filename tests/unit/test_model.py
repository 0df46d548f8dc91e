import pytest

from edgeproxy.model import Origin


@pytest.mark.parametrize(
    ("url", "referrer", "parameters", "origin"),
    [
        (
            "https://a.example/cars/42?utm_source=Google&utm_medium=cpc&x=1",
            "https://www.google.com/search",
            {},
            Origin({"utm_source": "google", "utm_medium": "cpc"}, "www.google.com", "/cars/42"),
        ),
        ("", "", {"utm_source": "App"}, Origin({"utm_source": "app"}, "", "/")),
        ("/x?utm_source=url", "", {"utm_source": "parameters"}, Origin({"utm_source": "url"}, "", "/x")),
        ("http://[broken", "http://[broken", {}, Origin({}, "", "/")),
    ],
)
def test_origin(url: str, referrer: str, parameters: dict[str, str], origin: Origin) -> None:
    assert Origin.of(url, referrer, parameters) == origin
