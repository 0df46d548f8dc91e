"""Paced clients of a gateway, and what they were answered while its store has a fault."""

import asyncio
import time
from collections import Counter
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from edgeproxy.dynamic import signature
from tests.conftest import web_request

CLIENTS = 8


class Answer(NamedTuple):
    begun: float  # of time.monotonic
    took: float  # s
    text: str  # `success`, or the error
    session: str
    number: str  # shown, "" for none
    limited: bool  # it says what is left of limits: the store decided it


class Load:
    """Clients, each on a connection of its own, that ask again after each answer and a pause.

    Half of them stay in their sessions; with `fresh`, each request is another session's. `body` changes the request.
    """

    def __init__(self, edge: str, *, key: str = "freespee", fresh: bool = False, **body: Any) -> None:
        self._edge, self._key, self._fresh, self._body = edge, key.encode(), fresh, body
        self.answers: list[Answer] = []
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]
        await asyncio.sleep(0.7)
        if not self._fresh:
            self.answers.clear()  # a fresh worker's first answers may be late by themselves
        await asyncio.sleep(0.5)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._client.close()

    async def _ask(self, number: int) -> None:
        serial, session = 0, ""
        while not self._stop.is_set():
            serial += 1
            session = "" if self._fresh or number % 2 else session
            body = orjson.dumps(web_request(sessionId=session, **self._body))
            headers = {
                "X-SIGN": signature.sign(body, self._key),
                "X-Forwarded-For": f"10.{number}.{serial >> 8 & 255}.{serial & 255}",
            }
            begun = time.monotonic()
            async with self._client.post(self._edge + "/api", data=body, headers=headers) as response:
                answer = orjson.loads(await response.read())
            shown = answer.get("numbers") or [{"replace_with": {"e164": ""}}]
            session = answer.get("sessionId", session)
            self.answers.append(
                Answer(
                    begun, time.monotonic() - begun, answer.get("error", "success"), session,
                    shown[0]["replace_with"]["e164"], "RateLimit" in response.headers,
                )
            )  # fmt: skip
            await asyncio.sleep(0.02)

    def seen(self, since: float = 0, until: float = float("inf")) -> Counter[str]:
        """How often each text was answered to requests begun meanwhile."""
        return Counter(answer.text for answer in self.answers if since <= answer.begun < until)

    def took(self, since: float, until: float) -> list[float]:
        """How long the answers to requests begun meanwhile took, s, ascending."""
        return sorted(answer.took for answer in self.answers if since <= answer.begun < until)

    async def answers_well(self, within_s: float) -> float:
        """Wait until the store's answers are back: new sessions are served. How long that took, s."""
        begun = time.monotonic()
        while time.monotonic() - begun < within_s:
            await asyncio.sleep(0.02)
            late = [answer.text for answer in self.answers if answer.begun > time.monotonic() - 0.1]
            if len(late) >= CLIENTS and set(late) == {"success"}:
                return time.monotonic() - begun
        raise AssertionError(self.seen(begun))
