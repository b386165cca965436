"""Options that several commands have, in the words that ``towline`` has for them too."""

from pathlib import Path
from typing import Annotated

import typer

from towline.channel import DEFAULT_ADDRESS


def store(default: str) -> typer.models.OptionInfo:
    """An option that names a store, by name or by url."""
    option: typer.models.OptionInfo = typer.Option(
        "--store",
        metavar="NAME|URL",
        help="The store: its name in the settings; or its url, though others on this machine can "
        f"see a password in it then.  [default: {default}]",
    )
    return option


Store = Annotated[str | None, store("the one that the settings name")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings, as TOML, YAML or JSON.  [default: $TOWLINE_CONFIG, or towline-broker.toml "
        "if it exists]",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="HOST:PORT",
        help="Where the broker is; over TLS grpcs://HOST:PORT.  [default: $TOWLINE_URL, or "
        f"{DEFAULT_ADDRESS}]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
