"""The commands `edgeproxy numbers import` and `export`: static numbers as files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeproxy import wording
from edgeproxy.commands.audited import audited
from edgeproxy.commands.faults import NOTHING_CHANGED, fail, run, unreadable
from edgeproxy.commands.opened import known_account, load_settings, store_of
from edgeproxy.numbers import file as numbers_file
from edgeproxy.numbers import wire
from edgeproxy.numbers.file import NumbersFileError
from edgeproxy.settings import Settings
from edgeproxy.store.numbers import StaticNumbers
from edgeproxy.whole_file import written_whole


@click.group()
def numbers() -> None:
    """Static numbers, many at once: their display options, redirect scenarios and pool names as CSV or YAML."""


@numbers.command("import")
@click.option("--account", required=True, help="The account whose numbers they are.")
@click.argument("file", type=Path)
def import_numbers(account: str, file: Path) -> None:
    """Bring the numbers of FILE to use, or change them; an empty cell leaves what is set.

    Each row is taken whole or refused whole; refused ones are listed, and the exit status is 1. Rows that are as the
    file says are left alone, so an import that was interrupted goes on when it is started again. Spends no points.
    """
    try:
        rows = numbers_file.read(file)
    except NumbersFileError as error:
        fail(f"{error}\n{NOTHING_CHANGED}")
    except OSError as error:
        fail(unreadable(file, error))
    settings = load_settings()
    with click.progressbar(length=len(rows), label="numbers", file=sys.stderr) as bar:
        report = run(_import_numbers(settings, account, rows, bar.update), settings)
    for text in wording.first_of([f"{file}:{line}: {fault}" for line, fault in report.refused]):
        click.echo(text, err=True)
    click.echo(
        f"{report.counts['create']} put to use, {report.counts['update']} changed, "
        f"{report.counts['unchanged']} as they were, {len(report.refused)} refused"
    )
    if report.refused:
        sys.exit(1)


@numbers.command("export")
@click.option("--account", required=True, help="The account whose numbers they are.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_numbers(account: str, file: Path) -> None:
    """Write all numbers in use to FILE: YAML if it ends in .yaml, else CSV. An import takes it as it is."""
    settings = load_settings()
    in_use = run(_numbers_in_use(settings, account), settings)
    bodies = [{"phoneNumber": number.removeprefix("+"), **wire.show(parts)} for number, parts in in_use.items()]
    text = numbers_file.write(bodies, as_yaml=numbers_file.is_yaml(file))
    try:
        with written_whole(file) as sink:
            sink.write(text.encode())
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    click.echo(f"{len(bodies)} numbers")


async def _import_numbers(
    settings: Settings, account_name: str, rows: list[numbers_file.Row], done: Callable[[int], object]
) -> numbers_file.Report:
    parts = {name for row in rows if row.change is not None for name in row.change.parts()}
    async with store_of(settings) as store:
        with audited("numbers.import", account=account_name, fields=parts) as write:
            await store.load_functions()
            account = await known_account(store, account_name)
            report = await numbers_file.bring_in(store, account, rows, done, replicas=settings.durable_replicas)
            write.refused = len(report.refused) == len(rows) > 0
        return report


async def _numbers_in_use(settings: Settings, account_name: str) -> dict[str, Any]:
    async with store_of(settings) as store:
        return await StaticNumbers(store).in_use(await known_account(store, account_name))
