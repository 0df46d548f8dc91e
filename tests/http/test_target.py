"""What a request's target names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.http.target import resource


@pytest.mark.parametrize(
    ("target", "prefix", "named"),
    [
        ("/api", "", "/api"),
        ("//api?sign=a//b", "", "/api?sign=a//b"),
        ("/2.4.9//customers", "", "/2.4.9/customers"),
        ("/2.4.9/statistics/cdrs&custnr=a//b", "", "/2.4.9/statistics/cdrs&custnr=a//b"),
        ("http://gateway.example.com:8081/2.4.9/customers?page=1", "", "/2.4.9/customers?page=1"),
        ("HTTPS://gateway.example.com//api", "", "/api"),
        ("http://gateway.example.com", "", "/"),
        ("http://gateway.example.com?a=b", "", "/?a=b"),
        ("*", "", "*"),
        ("gateway.example.com:443", "", "gateway.example.com:443"),
        ("", "", ""),
        ("/calls/api", "/calls/api", "/"),
        ("/edge/proxy/api", "/edge/proxy", "/api"),
        ("//edge//proxy//api?x", "/edge/proxy", "/api?x"),
        ("/edge/proxy?x", "/edge/proxy", "/?x"),
        ("/edge/proxyapi", "/edge/proxy", "/edge/proxyapi"),
        ("/api", "/edge/proxy", "/api"),
    ],
)
def test_a_target_names_a_path(target: str, prefix: str, named: str) -> None:
    assert resource(target, prefix) == named


@given(st.text(max_size=40) | st.from_regex(r"(http://h)?[/a&?#*]{0,12}", fullmatch=True))
def test_what_it_names_names_itself(target: str) -> None:
    named = resource(target)
    assert resource(named) == named
