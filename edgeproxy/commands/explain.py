"""The command `edgeproxy explain`."""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click
import orjson

from edgeproxy.accounts.account import Account, Origin, Pool
from edgeproxy.accounts.number import TEXT_MOST
from edgeproxy.commands.faults import fail, run
from edgeproxy.commands.opened import known_account, load_settings, store_of
from edgeproxy.dynamic import signature, wire
from edgeproxy.dynamic.explanation import Explanation, Number, explain_request
from edgeproxy.dynamic.handler import KNOWN
from edgeproxy.errors import Fault, Kind
from edgeproxy.settings import Settings

# What a request that is made of parts alone has, where no part says otherwise.
_PLAIN: dict[str, Any] = {
    "type": "web", "fullUrl": "https://www.example.com/", "trackingId": "", "fullReferrer": "", "parameters": {},
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "requestIpAddress": "192.0.2.1",
}  # fmt: skip


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--account", help="The account, for advId.")
@click.option("--number", "numbers", multiple=True, help="A number on page, as it is written there; may be repeated.")
@click.option("--url", help="The page's address.")
@click.option("--referrer", help="Where the visitor came from.")
@click.option("--user-agent", help="The visitor's.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A custom dimension.")
@click.option("--session-id", help="The session of an earlier answer.")
@click.option("--tracking-id", help="The partner's id of the visitor.")
@click.option("--ip", help="The visitor's, for requestIpAddress.")
@click.option("--app", is_flag=True, help="Of a native app.")
@click.option("--dry-run", is_flag=True, help="With dryRun.")
@click.option("--sign", help="The signature that came with FILE, to be checked.")
def explain(
    file: Any,
    account: str | None,
    numbers: tuple[str, ...],
    url: str | None,
    referrer: str | None,
    user_agent: str | None,
    parameters: tuple[str, ...],
    session_id: str | None,
    tracking_id: str | None,
    ip: str | None,
    app: bool,
    dry_run: bool,
    sign: str | None,
) -> None:
    """Tell of each number of a request why it is replaced, or is not.

    The request is the body in FILE (- is standard input), or made of the options; these also change what FILE says. All
    is asked as POST /api would, of the account as it stands in the store; nothing is written, no number is spent, and
    the limiter is not asked. Exit status 1 if the request would be refused.
    """
    parts = {
        "advId": account, "numbers": list(numbers) or None, "type": "app" if app else None, "fullUrl": url,
        "fullReferrer": referrer, "userAgent": user_agent, "sessionId": session_id, "trackingId": tracking_id,
        "requestIpAddress": ip, "dryRun": True if dry_run else None, "parameters": _dimensions(parameters) or None,
    }  # fmt: skip
    given = {name: value for name, value in parts.items() if value is not None}
    if file is None and not (account and numbers):
        raise click.UsageError("FILE is needed, or --account and --number")
    body = file.read(wire.BODY_MOST + 1) if file is not None else orjson.dumps(_PLAIN | given)
    try:
        tree = wire.parse(body)
        if file is not None and given:
            body = orjson.dumps(tree | given)
            tree = wire.parse(body)
        name = wire.account_name(tree)
    except Fault as fault:
        _refuse(fault)
    settings = load_settings()
    known, explained = run(_explain(settings, name, body), settings)
    click.echo(f"account {known.name}, version {known.version}: national numbers are read in {known.region}")
    changed = file is None or bool(given)
    for line in _signature_lines(known, body, sign, changed=changed):
        click.echo(line)
    if isinstance(explained, Fault):
        _refuse(explained)
    for line in _lines(explained, known.region):
        click.echo(_printable(line))
    if explained.decision.refused is not None:
        _refuse(Fault(explained.decision.refused))


def _dimensions(parameters: Sequence[str]) -> dict[str, str]:
    dimensions = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise click.BadParameter(f"{parameter!r} is not NAME=VALUE", param_hint="'--parameter'")
        dimensions[name] = value
    return dimensions


def _printable(line: str) -> str:
    """A line without characters that a terminal would act on: who wrote the request may not have meant well."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def _refuse(fault: Fault) -> NoReturn:
    fail(f"the request is refused: {fault.kind.status} {fault.text}")


async def _explain(settings: Settings, name: str, body: bytes) -> tuple[Account, Explanation | Fault]:
    async with store_of(settings) as store:
        account = await known_account(store, name)
        try:
            return account, await explain_request(store, settings, account, body)
        except Fault as fault:
            if fault.kind is Kind.STORE_UNAVAILABLE:
                raise
            return account, fault


def _signature_lines(account: Account, body: bytes, sign: str | None, *, changed: bool) -> Iterator[str]:
    if sign is None:
        yield "signature: not given, so not checked"
    elif changed:
        yield "signature: not checked, because options have changed what was signed"
    elif signature.verify(body, [sign], account.secrets) is signature.Outcome.GOOD:
        yield "signature: good"
    else:
        yield "signature: does not fit the body and a secret of the account; the request would be refused"


def _lines(explained: Explanation, region: str) -> Iterator[str]:
    page, origin = explained.page, explained.origin
    campaign = [f"{name}={value}" for name, value in {**origin.utm, **origin.click_ids}.items()]
    yield (
        f"visit: {'app' if page.is_app else 'web'}; {' '.join(campaign) or 'no campaign'}; "
        f"referrer host: {origin.referrer_host or '-'}; landing path: {origin.landing_path}"
    )
    if explained.crawler_mark is not None:
        known = explained.crawler_mark == KNOWN
        why = "the usual list has it" if known else f"crawlers.add has {explained.crawler_mark!r}"
        yield f"crawler: yes, {why}: no number is spent on it"
    if page.dry_run:
        yield "dry run: no number is spent on it"
    if explained.decision.refused is None:
        if explained.decision.joined:
            yield "session: none that lives was sent; the one in which the visitor holds numbers would be joined"
        elif explained.decision.session_lives:
            yield "session: lives"
        elif page.session_id:
            yield "session: is none of the account's that lives; a fresh one would be made"
        else:
            yield "session: none was sent; a fresh one would be made"
    for number in explained.numbers:
        yield from _number_lines(number, explained, region)


def _number_lines(number: Number, explained: Explanation, region: str) -> Iterator[str]:
    if number.read is None:
        yield f"{number.sent!r}: stays: {_why_no_number(number.sent, region)}"
        return
    yield f"{number.sent!r}: is {number.read}"
    for pool, unmet in number.asked:
        yield f"  pool {pool.name}: {'serves it' if unmet is None else _unmet(pool, unmet, explained.origin)}"
    yield f"  {_verdict(number, explained)}"


def _why_no_number(text: str, region: str) -> str:
    if len(text) > TEXT_MOST:
        return f"it has more than {TEXT_MOST} characters"
    if not any(char.isdigit() for char in text):
        return "it has no digits"
    return f"nothing in it can be a phone number, neither as one of {region} nor as one with its country code"


def _unmet(pool: Pool, condition: str, origin: Origin) -> str:
    """Why a pool does not serve a number."""
    if condition == "replaces" and not pool.replaces:
        return "replaces all numbers that are valid, and this one is not"
    if condition == "replaces" or pool.match is None:
        return "does not replace it"
    match = pool.match
    wanted: Sequence[str] = match.utm.get(condition) or match.click_ids.get(condition) or getattr(match, condition)
    seen = origin.utm.get(condition) or origin.click_ids.get(condition) or getattr(origin, condition, "")
    return f"replaces it, but {condition} is {seen or 'not there'}, and is to be {' or '.join(wanted)}"


def _verdict(number: Number, explained: Explanation) -> str:
    verdict = number.verdict
    if verdict is None:
        return "it stays: the request is refused"
    events = verdict.events
    if verdict.number is not None:
        return f"{verdict.number}: {_shown(number, explained)}"
    if "original" in events:
        return "it stays: no number of the pool is free"
    if not number.asked or number.asked[-1][1] is not None:
        return "it stays: no pool serves it, and it is the destination of no source that serves"
    why = {"crawler": "a crawler", "dry_run": "a dry run"}[explained.bare]
    return f"it stays: the session holds no number for it, and {why} is given none"


def _shown(number: Number, explained: Explanation) -> str:
    """Why the tracking number is shown that would be."""
    verdict = number.verdict
    if verdict is None or "source" in verdict.events:
        return "the number of a source whose destination it is"
    if "recycled" in verdict.events:
        return "would be leased, and somebody else's lease or cooldown ended for it"
    if "granted" in verdict.events:
        return "would be leased"
    if "shared" in verdict.events:
        return "no number of the pool is free, so it is the shared one"
    held = "the session holds it"
    if verdict.pool is not None:
        held += ", from another pool, which an earlier page of the visit was for"
    return f"{held}, and the lease would be renewed" if "renewed" in verdict.events else held
