"""The two formats of the partner API: the documented shapes, and strings that mean harm."""

import xml.etree.ElementTree as ET
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.partner.render import FORBIDDEN_IN_XML, Format, negotiate, render


def parsed(tree: dict[str, Any]) -> ET.Element:
    return ET.fromstring(render(tree, Format.XML))


def test_the_documented_sample() -> None:
    tree = {
        "customers": [
            {
                "customer_id": "1",
                "name": "Freespee AB",
                "custnr": "123",
                "email": "",
                "custom_1": "abc",
                "custom_2": None,
            }
        ]
    }
    assert render(tree, Format.XML).decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<customers><customer><customer_id>1</customer_id><name>Freespee AB</name><custnr>123</custnr>"
        "<email></email><custom_1>abc</custom_1><custom_2/></customer></customers>\n"
    )
    assert orjson.loads(render(tree, Format.JSON)) == tree


@pytest.mark.parametrize(
    ("tree", "xml"),
    [
        ({"ping": "ok"}, "<miscellaneous><ping>ok</ping></miscellaneous>"),
        ({"errors": ["a", "b"]}, "<errors><error>a</error><error>b</error></errors>"),
        ({"total": 3, "page": 0, "cdrs": []}, '<cdrs total="3" page="0"></cdrs>'),
        (
            {"sources": [{"alt_numbers": ["+491", "+492"]}]},
            "<sources><source><alt_numbers><alt_number>+491</alt_number><alt_number>+492</alt_number></alt_numbers>"
            "</source></sources>",
        ),
        (
            {"voicemail_greetings": [{"used_by": ["7"]}]},
            "<voicemail_greetings><voicemail_greeting><used_by><source_id>7</source_id></used_by>"
            "</voicemail_greeting></voicemail_greetings>",
        ),
    ],
)
def test_shapes(tree: dict[str, Any], xml: str) -> None:
    assert render(tree, Format.XML).decode().split("\n")[1] == xml


@pytest.mark.parametrize(
    "hostile",
    ["<b>&amp;</b>", "]]>", "<![CDATA[x]]>", "a\rb\r\nc\td", "\U0001f4de\U0010ffff", "&#0;", "\"'", "ä€", " edge "],
)
def test_a_strict_parser_reads_the_same_text_back(hostile: str) -> None:
    assert parsed({"errors": [hostile]})[0].text == hostile


@pytest.mark.parametrize("forbidden", ["\0", "\x01", "\x1f", "\ufffe", "\uffff"])
def test_what_xml_cannot_hold_is_replaced(forbidden: str) -> None:
    assert parsed({"errors": [f"a{forbidden}b"]})[0].text == "a\ufffdb"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_makes_well_formed_xml(text: str) -> None:
    expected = FORBIDDEN_IN_XML.sub("\ufffd", text)
    root = parsed({"total": text, "customers": [{"name": text}]})
    assert (root[0][0].text or "") == expected
    # Attributes hold white space as references only in part; numbers are all that stands there.
    assert root.tag == "customers"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.JSON),
        ("*/*", Format.JSON),
        ("application/json", Format.JSON),
        ("application/xml", Format.XML),
        ("text/xml", Format.XML),
        ("application/xml;q=0.5, application/json", Format.JSON),
        ("application/xml, application/json;q=0.9", Format.XML),
        ("application/xml;q=0.9, */*;q=0.8", Format.XML),
        ("text/html", Format.JSON),
        ("application/xml;q=0", Format.JSON),
        ("application/xml;q=x", Format.JSON),
        ("APPLICATION/XML ; q=1", Format.XML),
    ],
)
def test_what_a_client_accepts(accept: str, form: Format) -> None:
    assert negotiate(accept) is form
