"""The `towline` command. It needs typer and rich, which come with the extra `towline[cli]`."""

import sys

_MISSING_EXTRA = "towline: this command needs the extra: pip install 'towline[cli]'"


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    try:
        import rich
        import typer
    except ModuleNotFoundError as missing:
        print(_MISSING_EXTRA + f" ({missing.name} is missing)", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    del rich, typer
    from towline.cli.app import run

    sys.exit(run(sys.argv[1:]))
