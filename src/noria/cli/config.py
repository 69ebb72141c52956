"""``noria config``: what a node would be run with, and where each value comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from noria.cli.help import examples
from noria.cli.node import ConfigOption, DataDirOption, load

app = typer.Typer(help="Settings of a node.", no_args_is_help=True)
EXAMPLES: Final = examples("noria config show --config node.toml", "noria config show --json")


@app.command("show", epilog=EXAMPLES)
def show(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting with its value and where it comes from."""
    _, settings = load(config, {"data_dir": data_dir})
    if json_output:
        document = {each.name: {"value": _plain(each.value), "origin": each.origin} for each in settings}
        print(json.dumps(document, indent=2))
        return
    for each in settings:
        print(f"{each.name:<16} {_text(each.value):<40} {each.origin}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    value = _plain(value)
    return "-" if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)
