"""The partner API as real clients meet it: curl, PHP, requests, httpx, aiohttp; every documented example; its users.

One `edgeproxy demo` serves the whole file. The tests leave its records 1, 2 and 407390 in their places and take numbers
of their own, so that each also runs alone.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import random
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import aiohttp
import httpx
import pytest
import redis
import requests
from requests.auth import HTTPDigestAuth

from edgeproxy.store import keys
from tests.processes import run, started

pytestmark = pytest.mark.slow

USER, PASSWORD = "demo", "demo-password"
REALM = "edgeproxy"
# Within a minute 20 failed logins block an address, and all tests come from one: together they fail less often.
WRONG = "not-the-password"
DOCUMENTED_NUMBER = "+49890510"  # the documents ask for 0890510, a number of the account's region here
IN_QUERY = ("GET", "DELETE")  # the methods whose fields stand in the query
TIMEOUT_S = 20


@dataclass(frozen=True)
class Demo:
    """The running demo."""

    base: str  # of the partner API
    store: str
    log: Path  # what it writes to stderr
    free: list[str]  # numbers that no source has, for tests to take: one that was a source's is quarantined for 60 days


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    arguments = ("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(directory / "data"))
    with started(*arguments, stderr=directory / "log") as running:
        with redis.Redis.from_url(running.said["store:"], decode_responses=True) as store:
            store.config_set("appendfsync", "always")  # a write is acknowledged at once, not with the second's fsync
            free = [number for number in store.zrange(keys.free("demo"), 0, -1) if number != DOCUMENTED_NUMBER]
        yield Demo(running.manage + "/2.4.9", running.said["store:"], directory / "log", free)


# Clients --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back: status, content type, body; and where a client tells it, what went over the wire."""

    status: int
    kind: str
    body: str
    wire: str = ""

    @property
    def json(self) -> Any:
        assert self.kind == "application/json; charset=utf-8"
        return json.loads(self.body)

    @property
    def xml(self) -> ElementTree.Element:
        assert self.kind == "application/xml; charset=utf-8"
        assert self.body.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
        return ElementTree.fromstring(self.body)

    def requests_made(self, method: str) -> int:
        return sum(line.startswith(f"> {method} ") for line in self.wire.splitlines())


class Client(Protocol):
    """A request in a client's own idiom; a GET's and a DELETE's fields go into the query, others' into a form."""

    def __call__(self, method: str, path: str, /, **fields: str) -> Answer: ...


def curl(*arguments: str, login: str = f"{USER}:{PASSWORD}", status: int = 0) -> Answer:
    """Run `curl --digest -u LOGIN ARGUMENTS`, without the user's own .curlrc; it has to exit with `status`."""
    ran = subprocess.run(
        ["curl", "-q", "-sS", "-v", "-w", "\n%{http_code} %{content_type}", "--digest", "-u", login, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert ran.returncode == status, ran.stderr
    body, _, facts = ran.stdout.rpartition("\n")
    code, _, kind = facts.partition(" ")
    return Answer(int(code), kind, body, ran.stderr)


@contextlib.contextmanager
def curl_client(base: str, password: str) -> Iterator[Client]:
    def call(method: str, path: str, /, **fields: str) -> Answer:
        form = [part for name, value in fields.items() for part in ("--data-urlencode", f"{name}={value}")]
        where = ["-G"] if method in IN_QUERY else []
        return curl("-X", method, *where, *form, base + path, login=f"{USER}:{password}")

    yield call


@contextlib.contextmanager
def requests_client(base: str, password: str) -> Iterator[Client]:
    with requests.Session() as session:
        session.auth = HTTPDigestAuth(USER, password)

        def call(method: str, path: str, /, **fields: str) -> Answer:
            place = "params" if method in IN_QUERY else "data"
            response = session.request(method, base + path, timeout=TIMEOUT_S, **{place: fields})  # type: ignore[arg-type]
            return Answer(response.status_code, response.headers["Content-Type"], response.text)

        yield call


@contextlib.contextmanager
def httpx_client(base: str, password: str) -> Iterator[Client]:
    with httpx.Client(auth=httpx.DigestAuth(USER, password), timeout=TIMEOUT_S) as client:

        def call(method: str, path: str, /, **fields: str) -> Answer:
            place = {"params" if method in IN_QUERY else "data": fields} if fields else {}
            response = client.request(method, base + path, **place)  # type: ignore[arg-type]
            return Answer(response.status_code, response.headers["Content-Type"], response.text)

        yield call


@contextlib.contextmanager
def aiohttp_client(base: str, password: str) -> Iterator[Client]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            middlewares=(aiohttp.DigestAuthMiddleware(USER, password),), timeout=aiohttp.ClientTimeout(TIMEOUT_S)
        )

    async def ask(method: str, path: str, fields: dict[str, str]) -> Answer:
        in_query = method in IN_QUERY
        async with session.request(
            method, base + path, params=fields if in_query else None, data=None if in_query else fields
        ) as response:
            return Answer(response.status, response.headers["Content-Type"], await response.text())

    with asyncio.Runner() as runner:
        session = runner.run(opened())
        try:
            yield lambda method, path, /, **fields: runner.run(ask(method, path, fields))
        finally:
            runner.run(session.close())


PHP = r"""
$asked = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$curl = curl_init($asked['url']);
curl_setopt_array($curl, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPAUTH => CURLAUTH_DIGEST,
    CURLOPT_USERPWD => $asked['login'],
    CURLOPT_CUSTOMREQUEST => $asked['method'],
    CURLOPT_VERBOSE => true,
]);
if ($asked['query']) curl_setopt($curl, CURLOPT_URL, $asked['url'] . '?' . http_build_query($asked['query']));
if ($asked['form']) curl_setopt($curl, CURLOPT_POSTFIELDS, http_build_query($asked['form']));
if ($asked['array']) curl_setopt($curl, CURLOPT_POSTFIELDS, $asked['array']);
$body = curl_exec($curl);
if ($body === false) { fwrite(STDERR, curl_error($curl)); exit(1); }
echo json_encode([
    'status' => curl_getinfo($curl, CURLINFO_RESPONSE_CODE),
    'kind' => curl_getinfo($curl, CURLINFO_CONTENT_TYPE),
    'body' => $body,
], JSON_THROW_ON_ERROR);
"""


@functools.cache
def why_no_php() -> str:
    """Why PHP cannot be used here; empty if it can."""
    if shutil.which("php") is None:
        return "php is not installed"
    extensions = subprocess.run(["php", "-m"], capture_output=True, text=True, timeout=TIMEOUT_S).stdout.split()
    return "" if "curl" in extensions else "php has no curl extension"


def php(method: str, url: str, *, password: str = PASSWORD, **places: dict[str, str]) -> Answer:
    """Run the script above with the fields of `query`, `form` or `array`; skip the test where there is no PHP."""
    if reason := why_no_php():
        pytest.skip(reason)
    asked = {"method": method, "url": url, "login": f"{USER}:{password}", "query": {}, "form": {}, "array": {}}
    ran = subprocess.run(
        ["php", "-d", "display_errors=stderr", "-r", PHP],
        input=json.dumps(asked | places), capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return Answer(**json.loads(ran.stdout), wire=ran.stderr)


@contextlib.contextmanager
def php_client(base: str, password: str) -> Iterator[Client]:
    def call(method: str, path: str, /, **fields: str) -> Answer:
        place = "query" if method in IN_QUERY else "form"
        return php(method, base + path, password=password, **{place: fields})

    yield call


CLIENTS: dict[str, Callable[[str, str], AbstractContextManager[Client]]] = {
    "curl": curl_client,
    "requests": requests_client,
    "httpx": httpx_client,
    "aiohttp": aiohttp_client,
    "php": php_client,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_makes_reads_changes_and_deletes(demo: Demo, name: str) -> None:
    with CLIENTS[name](demo.base, PASSWORD) as client:
        ping = client("GET", "/miscellaneous/ping")
        assert (ping.status, ping.json) == (200, {"ping": "ok"})
        listed = client("GET", "/customers", page="0", pagesize="1")
        assert listed.status == 200
        assert listed.json["pagesize"] == 1
        assert [customer["customer_id"] for customer in listed.json["customers"]] == ["1"]

        # A customer. The name holds what a form has to escape.
        made = client("POST", "/customers", name="Müller & Söhne = 100 %", custnr=f"of+{name}")
        assert made.status == 200
        (customer,) = made.json["customers"]
        assert customer["name"] == "Müller & Söhne = 100 %"
        its_path = "/customers/" + customer["customer_id"]
        assert client("GET", its_path).json == {"customers": [customer]}
        found = client("GET", "/customers", custnr=f"of+{name}")
        assert found.json["customers"] == [customer]
        changed = client("PUT", its_path, name="Åse", custom_1="1/2 ½")
        assert changed.status == 200
        assert changed.json == {"customers": [customer | {"name": "Åse", "custom_1": "1/2 ½"}]}
        assert client("GET", its_path).json == changed.json
        assert_same(client("GET", its_path.replace("customers", "customers.xml")).xml, changed.json)

        # A source of that customer.
        source = check_source(client, customer["customer_id"], demo.free.pop())

        # The customer goes, once its source is quarantined.
        gone = client("DELETE", "/customers", customer_id=customer["customer_id"])
        assert (gone.status, gone.json) == (200, {"customers": []})
        missing = client("GET", its_path)
        assert missing.status == 404
        assert missing.json == {"errors": [f"customer {customer['customer_id']}: not found"]}
        assert client("GET", "/sources/" + source["source_id"]).json["sources"][0]["status"] == "quarantined"


def check_source(client: Client, customer_id: str, number: str) -> Any:
    """Make a source, read, change and delete it; give it as it was last."""
    made = client(
        "POST", "/sources",
        customer_id=customer_id, name="AdWords", media="Google.com", phonenr=number, alt_numbers="030 12345699",
    )  # fmt: skip
    assert made.status == 200
    (source,) = made.json["sources"]
    assert (source["customer_id"], source["phonenr"], source["status"]) == (customer_id, number, "active")
    assert source["alt_numbers"] == ["+493012345699"]
    path = "/sources/" + source["source_id"]
    assert client("GET", path).json == {"sources": [source]}
    changed = client("PUT", path, name="Flyer", destnr="+493012345607")
    assert changed.status == 200
    (after,) = changed.json["sources"]
    assert after == source | {"name": "Flyer", "destnr": "+493012345607", "modified": after["modified"]}
    assert client("GET", path).json == changed.json
    assert_same(client("GET", path.replace("sources", "sources.xml")).xml, changed.json)
    deleted = client("DELETE", path)
    assert deleted.status == 200
    kept = client("GET", path)
    assert kept.status == 200
    assert kept.json["sources"][0]["status"] == "quarantined"
    return kept.json["sources"][0]


def assert_same(xml: ElementTree.Element, tree: dict[str, list[dict[str, Any]]]) -> None:
    """The XML says what the JSON says, in the same order; it writes both null and nothing as an empty element."""
    ((resource, records),) = tree.items()
    assert xml.tag == resource
    assert [record.tag for record in xml] == [resource.removesuffix("s")] * len(records)
    for element, record in zip(xml, records, strict=True):
        read = [(child.tag, [item.text for item in child] if len(child) else child.text) for child in element]
        assert read == [(name, value or None) for name, value in record.items()]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_finds_a_value_of_every_kind_of_character(demo: Demo, name: str) -> None:
    """Clients escape a query's values differently: a slash and a question mark may stand there as they are."""
    custnr = f"1/2 + 3? = 50 % & ü;# {name}"
    with CLIENTS[name](demo.base, PASSWORD) as client:
        (customer,) = client("POST", "/customers", name="Any", custnr=custnr).json["customers"]
        assert customer["custnr"] == custnr
        found = client("GET", "/customers", custnr=custnr)
        assert found.status == 200, found.body
        assert found.json["customers"] == [customer]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_with_a_wrong_password_ends_with_401(demo: Demo, name: str) -> None:
    with CLIENTS[name](demo.base, WRONG) as client:
        refused = client("GET", "/customers")
    assert refused.status == 401
    assert not refused.kind.startswith("application/json")
    if refused.wire:  # one without credentials, and one with these: no client asks without end
        assert refused.requests_made("GET") == 2


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


# The documented examples ----------------------------------------------------------------------------------------------
# The samples are those of the public "Getting started" and "Introduction to the Freespee API".

PING = '{"ping":"ok"}'
CUSTOMER = """{
 "customers":[{
  "customer_id":"407382",
  "name":"DailyLoans",
  "custnr":"1412",
  "corporateid":"",
  "email":"",
  "uuid":"0097bfcb-9c9c-45ae-b811-2dcc3e799100",
  "dncs_class_name":"",
  "receive_monthly_report":"0",
  "freespee_caller_id":"0"
 }]
}"""
SOURCE = """{
 "sources":[{
  "source_id":"643971",
  "name":"AdWords",
  "email":null,
  "smsnumber":null,
  "media":"Google.com",
  "customer_id":"407390",
  "phonenr":"+46890510",
  "destnr":"+4612345678",
  "timestamp":"2011-11-14 23:00:00",
  "expire":null,
  "created":"2011-10-15 16:09:31",
  "modified":"2011-10-15 16:09:31",
  "class":"0",
  "status":"active",
  "vm_greeting_id":null,
  "notify_on_missed_call":"0",
  "vm_divert_all":"0",
  "vm_divert_busy":"0",
  "vm_divert_noanswer":"0",
  "alt_numbers":[]
 }]
}"""
SIMPLIFIED = """{
 "customers":[{
  "customer_id":"1",
  "name":"Freespee AB",
  "custnr":"123",
  "corporateid":"123",
  "email":"",
  "custom_1":"abc",
  "custom_2":null
 }]
}"""
SIMPLIFIED_XML = """<?xml version="1.0" encoding="UTF-8"?>
<customers>
 <customer>
  <customer_id>1</customer_id>
  <name>Freespee AB</name>
  <custnr>123</custnr>
  <corporateid>123</corporateid>
  <email></email>
  <custom_1>abc</custom_1>
  <custom_2/>
 </customer>
</customers>"""
PAGE = """{
 "total":10,
 "page":0,
 "pagesize":1000,
 "numpages":1,
 "cdrs":[{
 }]
}"""
GREETING = '{"voicemail_greetings": [{}]}'  # no sample is documented


@dataclass(frozen=True)
class Example:
    """A documented request, and what its answer has to say beside being 200."""

    document: str
    method: str
    target: str
    body: str = ""
    headers: tuple[str, ...] = ()
    sample: str = CUSTOMER  # whose keys the answer has, in this order
    facts: dict[str, Any] = field(default_factory=dict)  # a part of the answer

    def __str__(self) -> str:
        return " ".join((self.document, *self.headers, self.method, self.target))


def one_customer(**facts: str) -> dict[str, Any]:
    return {"customers": [facts]}


TONE = {"voicemail_greetings": [{"vm_greeting_id": "2", "customer_id": "1", "name": "Out of office"}]}
FIRST = one_customer(customer_id="1", custnr="123", custom_1="abc")  # its name is what examples change
RENAMED = one_customer(customer_id="1", name="Freespee New AB", custnr="123")
EXAMPLES = (
    Example("S1", "GET", "/miscellaneous/ping", sample=PING, facts={"ping": "ok"}),
    Example(
        "S1", "POST", "/customers", "name=DailyLoans&custnr=1412",
        facts=one_customer(name="DailyLoans", custnr="1412", corporateid="", email="", receive_monthly_report="0"),
    ),
    Example(
        "S1", "POST", "/sources", "customer_id=407390&name=AdWords&media=Google.com&phonenr=0890510",
        sample=SOURCE,
        facts={"sources": [{
            "name": "AdWords", "email": None, "media": "Google.com", "customer_id": "407390",
            "phonenr": DOCUMENTED_NUMBER,  # in the sample +46…
            "expire": None, "class": "0", "status": "active", "vm_greeting_id": None, "alt_numbers": [],
        }]},
    ),
    Example("S2", "GET", "/customers/1", sample=SIMPLIFIED, facts=FIRST),
    Example("S2", "GET", "/customers", facts={"page": 0, "pagesize": 1000, "numpages": 1} | FIRST),
    Example("S2", "GET", "/customers/1/voicemail_greetings/2", sample=GREETING, facts=TONE),
    Example(
        "S2", "GET", "/customers/voicemail_greetings?customer_id=1&vm_greeting_id=2", sample=GREETING, facts=TONE,
    ),
    Example("S2", "POST", "/customers", "name=Freespee+AB&custnr=123", facts=one_customer(name="Freespee AB")),
    Example("S2", "PUT", "/customers/1", "name=Freespee+New+AB", facts=RENAMED),
    Example(
        "S2", "GET", "/statistics/cdrs?customer_id=1", sample=PAGE,
        facts={"total": 10, "page": 0, "pagesize": 1000, "numpages": 1, "cdrs": [{"customer_id": "1"}] * 10},
    ),
    Example(
        "S2", "POST", "/customers", "name=Freespee+AB&custnr=abc123",
        headers=("Content-Type: application/x-www-form-urlencode",),
        facts=one_customer(name="Freespee AB", custnr="abc123"),
    ),
    Example(
        "S2", "GET", "/statistics/cdrs&page=2", sample=PAGE,
        facts={"total": 20, "page": 2, "pagesize": 1000, "numpages": 1, "cdrs": []},
    ),
    Example("S2", "POST", "/customers/1?_method=PUT", "name=Freespee+New+AB", facts=RENAMED),
    Example(
        "S2", "POST", "/customers/1", "name=Freespee+New+AB",
        headers=("X-HTTP-Method-Override: PUT",), facts=RENAMED,
    ),
)  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_documented_request_is_answered_as_documented(demo: Demo, example: Example) -> None:
    headers = [part for header in example.headers for part in ("-H", header)]
    body = ["-d", example.body] if example.body else []
    answer = curl("-X", example.method, *headers, *body, demo.base + example.target)
    assert answer.status == 200, answer.body
    assert_shaped(answer.json, json.loads(example.sample))
    assert part_of(answer.json, example.facts) == example.facts


@pytest.mark.parametrize(
    "request_",
    [["/customers.xml/1"], ["-H", "Accept: application/xml", "/customers/1"]],
    ids=["GET /customers.xml/1", "Accept: application/xml GET /customers/1"],
)
def test_a_documented_request_for_xml_is_answered_as_documented(demo: Demo, request_: list[str]) -> None:
    answer = curl(*request_[:-1], demo.base + request_[-1])
    assert answer.status == 200, answer.body
    sample = ElementTree.fromstring(SIMPLIFIED_XML)
    assert answer.xml.tag == sample.tag
    (record,), (sampled,) = answer.xml, sample
    assert record.tag == sampled.tag
    names = [child.tag for child in sampled]
    assert [child.tag for child in record if child.tag in names] == names
    facts = {child.tag: child.text for child in sampled} | {"corporateid": None}  # which the demo leaves empty
    del facts["name"]  # which examples change
    assert {child.tag: child.text for child in record if child.tag in facts} == facts


COMMANDS = {
    "curl --digest -u 'user':'pass' 'https://<URL>/<version>/miscellaneous/ping'": (PING, {"ping": "ok"}),
    "curl --digest -u 'user':'pass' 'https://<URL>/<version>/customers'": (CUSTOMER, FIRST),
    "curl --digest -u 'user':'pass' 'https://<URL>/<version>/customers/1'": (CUSTOMER, FIRST),
    "curl --digest -u 'user':'pass' -X POST -d 'name=Freespee+AB&custnr=abc123' 'https://<URL>/<version>/customers'": (
        CUSTOMER,
        one_customer(name="Freespee AB", custnr="abc123"),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_curl_command_works_when_pasted(demo: Demo, command: str) -> None:
    pasted = command.replace("'user':'pass'", f"'{USER}':'{PASSWORD}'").replace("https://<URL>/<version>", demo.base)
    ran = subprocess.run(shlex.split(pasted), capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    sample, facts = COMMANDS[command]
    assert_shaped(json.loads(ran.stdout), json.loads(sample))
    assert part_of(json.loads(ran.stdout), facts) == facts


def assert_shaped(tree: Any, sample: Any) -> None:
    """Every key of the sample is there, in the sample's order, with a value of the same type if neither is null."""
    if isinstance(sample, dict):
        assert isinstance(tree, dict)
        assert [name for name in tree if name in sample] == list(sample)
        for name, value in sample.items():
            assert_shaped(tree[name], value)
    elif isinstance(sample, list):
        assert isinstance(tree, list)
        for item in tree if sample else []:
            assert_shaped(item, sample[0])
    else:
        assert None in (tree, sample) or type(tree) is type(sample)


def part_of(tree: Any, facts: Any) -> Any:
    """What the tree has where the facts say something: equal to the facts if these hold.

    A list may go on after what the facts say of it, unless they say that it is empty.
    """
    if isinstance(facts, dict) and isinstance(tree, dict):
        return {name: part_of(tree[name], fact) for name, fact in facts.items() if name in tree}
    if isinstance(facts, list) and isinstance(tree, list) and facts:
        return [part_of(item, fact) for item, fact in zip(tree, facts, strict=False)]
    return tree


# Users ----------------------------------------------------------------------------------------------------------------


def user(demo: Demo, *arguments: str, password: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `edgeproxy user ARGUMENTS` beside the demo; the password comes by a pipe."""
    body = None if password is None else password + "\n"
    return run("user", *arguments, body=body, EDGEPROXY_STORE_URL=demo.store)


def logs_in(demo: Demo, name: str, password: str) -> bool:
    status = curl(demo.base + "/miscellaneous/ping", login=f"{name}:{password}").status
    assert status in (200, 401)
    return status == 200


def test_a_user_comes_changes_the_password_and_goes_at_once(demo: Demo) -> None:
    added = user(demo, "add", "ann", "--account", "demo", password="first-password")
    assert (added.returncode, added.stdout) == (0, "ann may ask for demo\n")
    assert [json.loads(line)["audit"] for line in added.stderr.splitlines()] == ["users.add"]
    assert logs_in(demo, "ann", "first-password")

    assert user(demo, "add", "ann", "--account", "demo", password="second: passwörd").returncode == 0
    assert not logs_in(demo, "ann", "first-password")
    assert logs_in(demo, "ann", "second: passwörd")
    assert user(demo, "add", "ann", "--account", "demo", password="short").returncode == 1
    assert logs_in(demo, "ann", "second: passwörd")

    removed = user(demo, "remove", "ann")
    assert (removed.returncode, removed.stdout) == (0, "ann is removed\n")
    assert not logs_in(demo, "ann", "second: passwörd")
    again = user(demo, "remove", "ann")
    assert (again.returncode, again.stderr.splitlines()[-1]) == (1, "there is no user ann")


def test_an_unknown_account_and_a_short_password_make_no_user(demo: Demo) -> None:
    strange = user(demo, "add", "bob", "--account", "nowhere", password="long-enough")
    assert (strange.returncode, strange.stderr.splitlines()[-1]) == (1, "there is no account nowhere")
    short = user(demo, "add", "bob", "--account", "demo", password="1234567")
    assert (short.returncode, short.stderr) == (1, "the password has less than 8 characters\n")
    listed = user(demo, "list").stdout.splitlines()
    assert "demo demo" in listed
    assert "bob demo" not in listed
    assert not logs_in(demo, "bob", "1234567")


def test_no_password_and_no_hash_of_one_is_ever_shown(demo: Demo) -> None:
    password = "a-secret-of-dora"
    said = [user(demo, "add", "dora", "--account", "demo", password=password)]
    assert logs_in(demo, "dora", password)
    assert not logs_in(demo, "dora", password + "-almost")
    said.append(user(demo, "list"))
    assert {"demo demo", "dora demo"} <= set(said[-1].stdout.splitlines())
    said += [user(demo, "remove", "dora"), user(demo, "list")]
    assert "dora demo" not in said[-1].stdout.splitlines()
    shown = demo.log.read_text() + "".join(ran.stdout + ran.stderr for ran in said)
    for name, secret in (("dora", password), (USER, PASSWORD)):
        assert secret not in shown
        for algorithm in ("md5", "sha256"):  # the algorithms of Digest that are offered
            ha1 = hashlib.new(algorithm, f"{name}:{REALM}:{secret}".encode(), usedforsecurity=False).hexdigest()
            assert ha1 not in shown.lower()


def test_a_user_s_name_may_be_an_e_mail_address(demo: Demo) -> None:
    name = "ann+ads@example.com"
    assert user(demo, "add", name, "--account", "demo", password="first-password").returncode == 0
    assert logs_in(demo, name, "first-password")
    for strange in ("ann@", "@example.com", "ann example@example.com", 'a"b@example.com', "a:b@example.com"):
        assert user(demo, "add", strange, "--account", "demo", password="first-password").returncode == 1
    assert user(demo, "remove", name).returncode == 0
