"""JSON bodies: received within bounds, and read so that no two readers could understand them differently."""

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest

from edgeproxy.http.body import MEMBERS_MOST, CodingError, MalformedError, inflate, read_object, receive


class Pieces:
    """A body that arrives in pieces, and then ends, or is late for ever."""

    def __init__(self, *pieces: bytes, late: bool = False) -> None:
        self.left = list(pieces)
        self._late = late

    async def readany(self) -> bytes:
        if not self.left and self._late:
            await asyncio.sleep(60)
        return self.left.pop(0) if self.left else b""


def why(body: bytes) -> str:
    with pytest.raises(MalformedError) as error:
        read_object(body)
    return str(error.value)


def test_an_object_is_read() -> None:
    body = '{"a": {"a": [1, 2.5, true, null, {"a": "é\\ud83d\\ude00\\\\ud800"}]}, "b": -1e3, "": ""}'
    tree = {"a": {"a": [1, 2.5, True, None, {"a": "é😀\\ud800"}]}, "b": -1000.0, "": ""}
    assert read_object(body.encode()) == tree


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"a": 1, "a": 1}', '"a"'),
        (b'{"a": 1, "\\u0061": 2}', '"a"'),
        (b'{"x": {"y": [{"a": 1, "b": 2, "b": {}}]}}', '"b"'),
        (b'{"": 1, "": 2}', '""'),
        (b'{"\\ud800\\n": 1, "\\ud800\\n": 2}', '"\\ud800\\n"'),
        (b'{"%b": 1, "%b": 2}' % (b"x" * 100, b"x" * 100), f'"{"x" * 64}"'),
    ],
)
def test_a_key_that_stands_twice_is_told(body: bytes, key: str) -> None:
    assert why(body) == f"malformed JSON: {key} stands twice"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {}',
        b'{"a": "\n"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": ["\\ud800x"]}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": %b}' % (b"1" * 5000),
        b"[" * 60_000,
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    assert why(body) == "malformed JSON"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"[{}]"])
def test_what_is_no_object_is_told(body: bytes) -> None:
    assert why(body) == "the JSON is not an object"


async def test_a_body_is_received_whole() -> None:
    assert await receive(Pieces(b"ab", b"c"), None, 3, 1) == b"abc"
    assert await receive(Pieces(b"ab", b"c"), 3, 3, 1) == b"abc"
    assert await receive(Pieces(), None, 3, 1) == b""


async def test_of_a_body_that_is_too_large_no_more_is_read_than_tells_so() -> None:
    announced, growing = Pieces(b"abcd"), Pieces(b"ab", b"cd", b"ef", late=True)
    for pieces, length, left in ((announced, 4, 1), (growing, None, 1)):
        with pytest.raises(MalformedError, match="larger than 3 bytes"):
            await receive(pieces, length, 3, 1)
        assert len(pieces.left) == left


async def test_a_body_that_is_late_is_told() -> None:
    with pytest.raises(MalformedError, match=r"did not arrive within 0\.05 s"):
        await receive(Pieces(b"a", late=True), None, 3, 0.05)


# Codings -----------------------------------------------------------------------------------------------------------

RAW = zlib.compressobj(wbits=-15)
CODED = {
    "gzip": gzip.compress(b"{}" * 50),
    "x-gzip": gzip.compress(b"{}" * 50),
    " GZip ": gzip.compress(b"{}" * 50),
    "deflate": zlib.compress(b"{}" * 50),
    "Deflate": RAW.compress(b"{}" * 50) + RAW.flush(),
    "identity": b"{}" * 50,
    "": b"{}" * 50,
}


@pytest.mark.parametrize("coding", CODED)
def test_a_coded_body_is_read(coding: str) -> None:
    assert inflate(CODED[coding], coding, 100) == b"{}" * 50


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate"])
def test_no_more_is_inflated_than_a_body_may_hold(coding: str) -> None:
    with pytest.raises(MalformedError, match="larger than 99 bytes"):
        inflate(CODED[coding], coding, 99)
    bomb = (gzip.compress if coding == "gzip" else zlib.compress)(bytes(10**8))
    tracemalloc.start()
    with pytest.raises(MalformedError, match="larger than 65536 bytes"):
        inflate(bomb, coding.lower(), 65_536)
    assert tracemalloc.get_traced_memory()[1] < 300_000
    tracemalloc.stop()


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip,deflate", "chunked", "?"])
def test_another_coding_is_not_taken(coding: str) -> None:
    with pytest.raises(CodingError):
        inflate(b"{}", coding, 100)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", CODED["gzip"][:-1], CODED["gzip"][:-9] + bytes(9), CODED["gzip"] + b"{}", CODED["gzip"] * 2],
    ids=["nothing", "plain", "cut off", "a wrong sum", "something behind", "a second stream"],
)
def test_a_body_that_is_not_one_whole_stream_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError, match="not in the encoding"):
        inflate(body, "gzip", 1000)


def test_an_object_has_a_bounded_number_of_members() -> None:
    members = {f"k{i}": i for i in range(MEMBERS_MOST + 1)}
    for tree in (members, {"a": [members]}):
        assert why(json.dumps(tree).encode()) == "the JSON has an object of more than 200 members"
    del members["k0"]
    assert read_object(json.dumps(members).encode()) == members
