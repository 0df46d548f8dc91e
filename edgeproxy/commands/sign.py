"""The command `edgeproxy sign`."""

from typing import Any

import click

from edgeproxy.dynamic import signature


@click.command()
@click.option("--key", required=True, help="The account's secret.")
@click.argument("file", type=click.File("rb"), default="-")
def sign(key: str, file: Any) -> None:
    """Print the signature of a request body (HMAC-SHA1, for X-SIGN) from FILE, or from standard input."""
    click.echo(signature.sign(file.read(), key.encode()))
