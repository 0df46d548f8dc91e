"""The ladder of the manage port's APIs: what becomes of whatever goes wrong."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from edgeproxy.errors import Fault, Kind, NotDurableError, UncertainError
from edgeproxy.http.access import SHUT_OUT_S, Offenders, ShutOutError, UnknownTokenError
from edgeproxy.http.body import CodingError, MalformedError
from edgeproxy.http.endpoint import Call, Endpoint, OwnFaults, Refusal, Worker
from edgeproxy.settings import Settings
from edgeproxy.store import Store
from edgeproxy.store.access import Failures
from edgeproxy.telemetry.metrics import Board
from tests.conftest import Desk


class Failing(Endpoint):
    """An API whose every answer goes wrong as `error` says."""

    NAME = "calls"
    OWN_FAULTS = OwnFaults(503, "not durable", "uncertain", "{}: again", "our fault")
    error: Exception

    def routes(self) -> list[web.RouteDef]:
        return []

    async def answer(self, call: Call) -> web.Response:
        raise self.error

    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        return web.Response(status=refusal.status, text="\n".join(refusal.errors), headers=refusal.headers)


REFUSALS = [
    (Refusal(404, "no such thing", headers={"X": "1"}), 404, ("no such thing",), {"X": "1"}),
    (Refusal(429, "later", retry_after=3), 429, ("later",), {"Retry-After": "3"}),
    (
        ShutOutError(), 429, ("too many bad access tokens from this address",), {"Retry-After": str(SHUT_OUT_S)},
    ),
    (UnknownTokenError(), 401, ("Access-Token: is missing or unknown",), {}),
    (MalformedError("malformed JSON"), 400, ("malformed JSON",), {}),
    (web.RequestPayloadError("bytes of a client"), 400, ("the body is broken",), {}),
    (CodingError(), 415, (str(CodingError()),), {}),
    (NotDurableError(), 503, ("not durable",), {}),
    (UncertainError(), 503, ("uncertain",), {}),
    (Fault(Kind.STORE_UNAVAILABLE), 503, ("Store unavailable: again",), {}),
    (RuntimeError("a secret"), 500, ("our fault",), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status", "told", "headers"), REFUSALS, ids=[type(error).__name__ for error, *_ in REFUSALS]
)
async def test_every_error_is_a_refusal_to_the_client_and_is_counted(
    error: Exception, status: int, told: tuple[str, ...], headers: dict[str, str]
) -> None:
    board = Board(1)
    async with Store("redis://127.0.0.1:1") as store:
        endpoint = Failing(Worker(store, Settings.model_validate({}), board.row(0), Offenders(store, 3)))
        endpoint.error = error
        answer = await endpoint.handle(make_mocked_request("GET", "/calls/lookup"))
    assert (answer.status, answer.text) == (status, "\n".join(told))
    assert headers.items() <= answer.headers.items()
    assert ("Retry-After" in answer.headers) == ("Retry-After" in headers)
    assert board.total(f"calls:{status}") + board.total("calls:other") == 1


async def found(value: str) -> str:
    return value


async def test_who_is_shut_out_costs_the_store_nothing_whichever_api_it_comes_to(desk: Desk) -> None:
    ip = "192.0.2.1"
    offenders = Offenders(desk.store, 2)
    for _ in range(2):
        assert await offenders.look(ip, found("what it led to")) == "what it led to"
        await offenders.add(ip)
    offenders.refuse(ip)  # it is not known yet
    with pytest.raises(ShutOutError):
        await offenders.look(ip, found("what it led to"))
    with pytest.raises(ShutOutError):
        offenders.refuse(ip)
    offenders.refuse("192.0.2.2")
    assert await Failures(desk.store).of(ip) == 2
