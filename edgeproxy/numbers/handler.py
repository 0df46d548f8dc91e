"""Answers the static numbers API (`README.md`)."""

import hmac
from typing import cast

from aiohttp import web

from edgeproxy.accounts.account import Account, rate_limits
from edgeproxy.errors import RefusedError
from edgeproxy.http.aside import aside
from edgeproxy.http.endpoint import Call, Endpoint, OwnFaults, Refusal, Worker
from edgeproxy.numbers import wire
from edgeproxy.store.numbers import Spent, StaticNumbers, spent

PATH = "/phone-service/v1/api/calltracking/ad-platform/phone/"

_SITE_ID = "SiteId"


class NumbersAPI(Endpoint):
    """Serves `PATH` of the manage port."""

    NAME = "numbers"
    OWN_FAULTS = OwnFaults(
        status=500,
        not_durable="the change was made, but is not known to be safe on disk: look before you repeat it",
        uncertain="it is not known whether the change was made: look before you repeat it",
        fault="{}",
        internal="internal error",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._static = StaticNumbers(worker.store, worker.settings.durable_replicas)

    def routes(self) -> list[web.RouteDef]:
        """A path a method."""
        return [web.route("*", PATH + "{method}", self.handle)]

    async def answer(self, call: Call) -> web.Response:
        """Method → token and body → fields → limiter → points and number, in this order."""
        method = wire.method(call.request)
        account, body = await self.take_in(call, wire.BODY_MOST)
        tree = wire.parse(body)
        asked = await aside(wire.check, method, tree) if method == "list" else wire.check(method, tree)
        window = await self._static.admit(call.client.counted, account.per_second)
        call.limits = rate_limits(account, window.left, None, 0)
        if not window.passed:
            wait_s = -(-window.wait_ms // 1000)
            raise Refusal(429, f"more than {account.per_second} requests per second", retry_after=wait_s)
        try:
            answer, left = await self._run(call, account, method, asked)
        except RefusedError as refused:
            left = spent(refused.detail)
            call.limits = rate_limits(account, window.left, left.points_left, left.day_left_ms)
            raise wire.refusal(refused, left.day_left_ms) from None
        call.limits = rate_limits(account, window.left, left.points_left, left.day_left_ms)
        return wire.respond(answer)

    async def _run(
        self, call: Call, account: Account, method: wire.Method, asked: wire.Many | wire.One | wire.Change
    ) -> tuple[bytes, Spent]:
        """What was asked, done: the answer, and what is left of the day's points.

        Raises:
            RefusedError, NotDurableError, UncertainError, Fault.
        """
        if method == "list":
            numbers = cast("wire.Many", asked).phone_numbers
            records, left = await self._static.read(account, numbers)
            return wire.render(numbers, records), left
        asked = cast("wire.One | wire.Change", asked)
        parts = asked.parts()
        with call.write(f"numbers.{method}", record=asked.phone_number, fields=parts):
            return b"", await self._static.change(account, method, asked.phone_number, parts)

    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        """The error, with its code."""
        return wire.respond_refusal(refusal)

    async def prove(self, call: Call) -> Account:
        """Whose access token the request brings, if its site is the account's."""
        account = await super().prove(call)
        sites, site = call.request.headers.getall(_SITE_ID, ()), account.site
        if (
            site is None
            or len(sites) != 1
            or not hmac.compare_digest(sites[0].encode(errors="surrogateescape"), site.encode())
        ):
            raise Refusal(403, f"{_SITE_ID}: is not the site of this access token")
        return account
