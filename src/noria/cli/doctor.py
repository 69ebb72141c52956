"""``noria doctor``: checks of the machine that a node is to run on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from noria.cli.errors import EXIT_FAILURE
from noria.cli.help import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noria.node.doctor import CheckResult

EXAMPLES: Final = examples("noria doctor", "noria doctor --data-dir ./chain --port 8545 --json")
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder where a chain would be kept.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address on which a node would listen.")] = "127.0.0.1",
    port: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=65535, help="Port that a node would use; may be repeated.", show_default="8545"
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check clock, ports, disk, memory, limits and versions, and say what to do about what is wrong.

    The exit code is 1 if a node would not run here.
    """
    from noria.node.doctor import run_checks

    results = run_checks(data_dir=data_dir, host=host, ports=port or (8545,))
    if json_output:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(results), indent=2).decode())
    else:
        _print_table(results)
    if any(result.status == "fail" for result in results):
        raise typer.Exit(EXIT_FAILURE)


def _print_table(results: Sequence[CheckResult]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Check", "Result", "Found", "What to do", box=box.SIMPLE_HEAD)
    for result in results:
        status = Text(result.status, style=_COLOURS[result.status])
        table.add_row(result.name, status, Text(result.detail), Text(result.advice))
    Console().print(table)
