"""The partner API's documented examples, asked and answered."""

import json
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.partner.clients import DOCUMENTED_NUMBER, PASSWORD, TIMEOUT_S, USER, Demo, curl

pytestmark = pytest.mark.slow


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
