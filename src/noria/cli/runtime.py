"""``noria runtime``: the pinned programs that run other people's code."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noria.cli.errors import EXIT_FAILURE
from noria.cli.help import examples

if TYPE_CHECKING:
    from noria.work.runtimes import Progress

app = typer.Typer(
    help="Pinned programs that run other people's code, such as Python functions.", no_args_is_help=True
)

WheelOption = Annotated[
    Path | None,
    typer.Option(
        "--wheel",
        help="The package's file, instead of fetching it.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]


@app.callback()
def runtime() -> None:
    """Pinned programs that run other people's code, such as Python functions."""


@app.command("list", epilog=examples("noria runtime list", "noria runtime list --json"))
def list_runtimes(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the runtimes: what they are, where they come from, and whether they are installed here."""
    from noria.work.runtimes import NAMES, RuntimeDamaged, RuntimeMissing, installed, pinned

    rows = []
    for name in NAMES:
        pin = pinned(name)
        try:
            state, path = "installed", str(installed(name).path)
        except RuntimeMissing:
            state, path = "not installed", None
        except RuntimeDamaged:
            state, path = "damaged", None
        rows.append(
            {
                "name": name,
                "state": state,
                "program_id": f"0x{pin.program_id.hex()}",
                "source": f"{pin.package} {pin.version}",
                "summary": pin.summary,
                "licence": pin.licence,
                "path": path,
            }
        )
    if json_output:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    for row in rows:
        print(f"{row['name']}: {row['state']}")
        for key in ("summary", "program_id", "source", "licence", "path"):
            if row[key]:
                print(f"  {key.replace('_', ' ')}: {row[key]}")


@app.command("install", epilog=examples("noria runtime install", "noria runtime install --wheel FILE.whl"))
def install_runtime(
    name: Annotated[str, typer.Argument(help="Which one.")] = "python",
    wheel: WheelOption = None,
) -> None:
    """Fetch a runtime's package, take the snapshot, check its id, compile it. Does what is not done yet."""
    from noria.work.runtimes import install

    began = time.monotonic()
    with _shown() as progress:
        found = install(name, progress=progress, wheel=wheel)
    print(f"{found.name} is ready: program 0x{found.program_id.hex()} ({time.monotonic() - began:.1f} s)")


@app.command("verify", epilog=examples("noria runtime verify", "noria runtime verify --rebuild"))
def verify_runtime(
    name: Annotated[str, typer.Argument(help="Which one.")] = "python",
    rebuild_it: Annotated[
        bool, typer.Option("--rebuild", help="Also make the snapshot anew from the package and compare.")
    ] = False,
    wheel: WheelOption = None,
) -> None:
    """Check that what is installed is the pinned program. The exit code is 1 if it is not."""
    from noria.work.runtimes import installed, pinned, rebuild

    found = installed(name)
    print(f"{found.path} is program 0x{found.program_id.hex()}, as pinned")
    if not (rebuild_it or wheel):
        return
    with _shown() as progress:
        made = rebuild(name, progress=progress, wheel=wheel)
    pin = pinned(name)
    if made != pin.program_id:
        print(
            f"error: made from {pin.package} {pin.version} here, it is program 0x{made.hex()} instead",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_FAILURE)
    print(f"made anew from {pin.package} {pin.version}, it is the same program")


@contextmanager
def _shown() -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, a line for each stage elsewhere."""
    if not sys.stderr.isatty():
        last = ""

        def tell(stage: str, part: float) -> None:
            nonlocal last
            if stage != last:
                last = stage
                print(stage, file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking", total=None)

        def show(stage: str, part: float) -> None:
            bar.update(task, description=stage, total=None if part < 0 else 1.0, completed=max(part, 0.0))

        yield show
