"""Habits of curl and PHP, and the examples of the partner API's public clients."""

import base64
import random
from pathlib import Path

import pytest
import requests
from requests.auth import HTTPDigestAuth

from tests.e2e.partner.clients import PASSWORD, TIMEOUT_S, USER, WRONG, Demo, curl, php

pytestmark = pytest.mark.slow


# Habits of curl and PHP -----------------------------------------------------------------------------------------------


@pytest.fixture
def customer_id(demo: Demo) -> str:
    """A customer of the test's own."""
    made = curl("-d", "name=Own&custnr=own", demo.base + "/customers")
    return str(made.json["customers"][0]["customer_id"])


def test_curl_by_http_1_0(demo: Demo, customer_id: str) -> None:
    target = f"{demo.base}/customers/{customer_id}"
    changed = curl("--http1.0", "-X", "PUT", "-d", "name=Old+client", target)
    assert changed.status == 200
    assert f"> PUT /2.4.9/customers/{customer_id} HTTP/1.0" in changed.wire
    read = curl("--http1.0", target)
    assert read.status == 200
    assert read.json["customers"][0]["name"] == "Old client"


def test_curl_is_asked_to_continue_before_it_sends_a_large_greeting(
    demo: Demo, customer_id: str, tmp_path: Path
) -> None:
    sound = base64.b64encode(random.Random(1).randbytes(1024 * 1024)).decode()
    assert "+" in sound
    assert "/" in sound  # what a form has to escape
    (tmp_path / "sound").write_text(sound)
    greetings = f"{demo.base}/customers/{customer_id}/voicemail_greetings"
    made = curl(
        "-H", "Expect: 100-continue", "-d", "name=Long",
        "--data-urlencode", f"sounddata@{tmp_path / 'sound'}", greetings,
    )  # fmt: skip
    assert made.status == 200
    assert made.wire.count("< HTTP/1.1 100 Continue") == 1  # for the request with credentials, not for the first
    (greeting,) = made.json["voicemail_greetings"]
    assert greeting["datalength"] == str(1024 * 1024)
    read = curl(f"{greetings}/{greeting['vm_greeting_id']}")
    assert read.json["voicemail_greetings"][0]["sounddata"] == sound


def test_curl_sends_no_large_body_with_a_wrong_password(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "sound").write_text("A" * 2 * 1024 * 1024)
    refused = curl(
        "-H", "Expect: 100-continue", "-d", "name=Long", "--data-urlencode", f"sounddata@{tmp_path / 'sound'}",
        f"{demo.base}/customers/1/voicemail_greetings", login=f"{USER}:{WRONG}",
    )  # fmt: skip
    assert refused.status == 401
    assert "100 Continue" not in refused.wire


def test_curl_deletes_with_a_form(demo: Demo, customer_id: str) -> None:
    deleted = curl("-X", "DELETE", "-d", f"customer_id={customer_id}", demo.base + "/customers")
    assert (deleted.status, deleted.json) == (200, {"customers": []})
    assert curl(f"{demo.base}/customers/{customer_id}").status == 404


@pytest.mark.parametrize("charset", ["", "; charset=UTF-8"])
def test_curl_with_the_content_type_as_documented(demo: Demo, customer_id: str, charset: str) -> None:
    changed = curl(
        "-X", "PUT", "-H", f"Content-Type: application/x-www-form-urlencode{charset}", "-d", "name=As+documented",
        f"{demo.base}/customers/{customer_id}",
    )  # fmt: skip
    assert changed.status == 200
    assert changed.json["customers"][0]["name"] == "As documented"


def test_curl_fails_after_one_try_with_a_wrong_password(demo: Demo) -> None:
    refused = curl("--fail", demo.base + "/customers", login=f"{USER}:{WRONG}", status=22)
    assert refused.status == 401
    assert refused.requests_made("GET") == 2
    assert refused.wire.lower().count("< www-authenticate: digest ") == 4  # two algorithms, two answers
    assert "stale" not in refused.wire  # which would tell the client to try the same password again


def test_an_array_of_fields_from_php_is_multipart_and_refused_with_the_reason(demo: Demo) -> None:
    refused = php("POST", demo.base + "/customers", array={"name": "DailyLoans", "custnr": "1412"})
    assert refused.status == 400
    assert "\nContent-Type: multipart/form-data; boundary=" in refused.wire
    assert refused.json == {
        "errors": [
            "the content type multipart/form-data is not taken: "
            "it is application/x-www-form-urlencoded or application/json"
        ]
    }


# The public clients' own examples ---------------------------------------------------------------------------------
# freespee/freespee-php-api-client (`examples/`, `test/`), freespee/freespee-python-api-client (`example.py`) and
# spotonlive/sl-freespee (Laravel, `FreespeeService`): what they ask and read, in calls of our own.

ADDRESS = ("address_street", "address_zip", "address_city", "address_state", "address_country")


OF_A_CUSTOMER = ("customer_id", "name", "custnr", "corporateid", "email", "uuid", "receive_monthly_report",
                 "freespee_caller_id", *ADDRESS)  # fmt: skip


OF_A_CALL = ("cdr_id", "start", "duration", "duration_adjusted", "anum", "anum_md5", "bnum", "cnum", "customer_id",
             "source_id", "custnr", "answered", "quarantined", "anum_ndc_name")  # fmt: skip


OF_AN_EXTENDED_CALL = ("expire", "source_name", "source_media", "class", "publisher_id", "partner_publisher_id",
                       "campaign_id", "partner_campaign_id", "pricing_model_id", "commission", "cli_id", "order_id",
                       "recording_id")  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/"], ids=["base URL", "base URL with a slash"])
def test_the_php_client_s_examples_run_to_their_end(demo: Demo, slash: str) -> None:
    """It pings, fetches a source, and downloads each customer's recordings, of which there are none."""
    base = demo.base + slash
    ping = php("GET", base + "/miscellaneous/ping")
    assert (ping.status, ping.json) == (200, {"ping": "ok"})
    assert php("GET", base + "/sources?source_id=643967").json["sources"][0]["source_id"] == "643967"
    customers = php("GET", base + "/customers").json["customers"]
    assert customers
    for customer in customers[:2]:
        listed = php("GET", base + "/recordings?customer_id=" + customer["customer_id"])
        assert (listed.status, listed.json["recordings"]) == (200, [])
    missing = php("GET", base + "/recordings?recording_id=1")
    assert (missing.status, missing.json) == (404, {"errors": ["recording 1: not found"]})


def test_the_python_client_s_example_runs_to_its_end(demo: Demo) -> None:
    """It names the customers, and lists a chosen one's recordings; each request is one of its own, with a login."""
    login = HTTPDigestAuth(USER, PASSWORD)
    listed = requests.get(f"{demo.base}/customers", auth=login, timeout=TIMEOUT_S)
    customers = {customer["name"]: customer["customer_id"] for customer in listed.json()["customers"]}
    for customer_id in list(customers.values())[:2]:
        asked = f"{demo.base}/recordings?customer_id={customer_id}"
        recordings = requests.get(asked, auth=HTTPDigestAuth(USER, PASSWORD), timeout=TIMEOUT_S)
        assert (recordings.status_code, recordings.json()["recordings"]) == (200, [])


def test_the_laravel_client_reads_all_that_it_looks_for(demo: Demo) -> None:
    """It finds customers with their addresses, and their calls page by page, also with what `extended` adds."""
    listed = php("GET", demo.base + "/customers", query={"page": "0"})
    assert listed.json["total"] > 0
    one = php("GET", demo.base + "/customers", query={"customer_id": "1"}).json["customers"]
    for customer in [*listed.json["customers"], *one]:
        assert customer.keys() >= {*OF_A_CUSTOMER}
    for extended, read in (("0", OF_A_CALL), ("1", OF_A_CALL + OF_AN_EXTENDED_CALL)):
        calls = php("GET", demo.base + "/statistics/cdrs", query={"extended": extended, "customer_id": "1"}).json
        assert {"total", "page", "pagesize", "numpages"} <= calls.keys()
        assert calls["cdrs"]
        for call in calls["cdrs"]:
            assert call.keys() >= {*read}


def test_curl_takes_a_proxy_s_way(demo: Demo) -> None:
    """`curl -x` sends the whole URL as the target; here the gateway itself stands in for the proxy."""
    proxy = demo.base.rpartition("/")[0]
    assert curl("-x", proxy, "http://gateway.example.com/2.4.9/customers/1").json["customers"][0]["name"]
    assert curl("-x", proxy, "http://gateway.example.com/2.4.9//miscellaneous/ping").json == {"ping": "ok"}
