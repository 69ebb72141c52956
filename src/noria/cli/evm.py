"""``noria evm``: the execution engine on its own, without a chain."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from noria.cli.errors import EXIT_FAILURE, CommandError
from noria.cli.help import examples

app = typer.Typer(help="Work with the execution engine directly.", no_args_is_help=True)


@app.callback()
def evm() -> None:
    """Work with the execution engine directly."""


@app.command(
    "statetest",
    epilog=examples(
        "noria evm statetest GeneralStateTests/stExample/add11.json",
        "noria evm statetest GeneralStateTests --fork Cancun --jobs 4 > results.jsonl",
    ),
)
def statetest(
    paths: Annotated[
        list[Path], typer.Argument(help="Test files, or folders searched for *.json.", metavar="PATH…")
    ],
    fork: Annotated[
        list[str] | None,
        typer.Option("--fork", "-f", help="Only this fork, as the file names it (Cancun); may be repeated."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, max=256, help="Worker processes; 0 means one per core.")
    ] = 0,
) -> None:
    """Run official Ethereum state tests (GeneralStateTests) on the engine.

    Prints one JSON object per case on standard output (`file`, `name`, `fork`, `index`, `pass`, `stateRoot`,
    `error`) and a summary on standard error. A file that cannot be read or understood is one failed line.
    The exit code is 1 if anything failed.
    """
    from noria.cli.statetest import find_files, run_files

    files = find_files(paths)
    if not files:
        raise CommandError(f"no .json file in {', '.join(map(str, paths))}")
    began = time.monotonic()
    cases = failures = 0
    progress = sys.stderr.isatty()
    for done, lines in enumerate(run_files(files, fork, jobs), start=1):
        for line in lines:
            cases += 1
            failures += not line.passed
            print(line.text)
        if progress:
            print(f"\r{done}/{len(files)} files, {cases} cases, {failures} failed", end="", file=sys.stderr)
    if progress:
        print(file=sys.stderr)
    sys.stdout.flush()
    seconds = time.monotonic() - began
    print(f"{cases} cases in {len(files)} files: {failures} failed, {seconds:.1f} s", file=sys.stderr)
    if cases == 0:
        # A run that checked nothing must not look like a success.
        raise CommandError(f"no case for fork {', '.join(fork or [])}" if fork else "the files hold no case")
    if failures:
        raise typer.Exit(EXIT_FAILURE)
