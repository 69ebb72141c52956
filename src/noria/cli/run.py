"""``noria run``: a WebAssembly program or a Python script in the sandbox of this machine."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Final

import typer

from noria.cli.errors import BadArgument
from noria.cli.help import examples
from noria.primitives.types import FUEL_MAX

EXAMPLES: Final = examples(
    "noria run program.wasm --input data.bin --output result.bin",
    "noria run script.py",
    "noria run script.py --function simulate --map inputs.jsonl --output results.jsonl",
)
DEFAULT_FUEL: Final = "1e12"
MAGIC: Final = b"\0asm"


def run(
    target: Annotated[
        Path, typer.Argument(help="A WebAssembly program (WASI command) or a Python script.", metavar="FILE")
    ],
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="What a program reads from stdin; - is our own. Else nothing.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the output goes; without it, to standard output."
        ),
    ] = None,
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map",
            "-m",
            metavar="FILE",
            help="Call a script's function once for each line of JSON: an array holds positional arguments, "
            "an object named ones, anything else is one argument. - is standard input.",
        ),
    ] = None,
    function: Annotated[
        str, typer.Option("--function", "-f", metavar="NAME", help="Which function of a script to call.")
    ] = "main",
    fuel: Annotated[
        str, typer.Option(metavar="N", help="Most fuel for a program or for one call, like 2000000 or 2e9.")
    ] = DEFAULT_FUEL,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, max=86_400 * 7, help="Longest time for a program or for one call, by the clock."
        ),
    ] = 3600.0,
    workers: Annotated[
        int,
        typer.Option("--workers", "-j", min=0, max=256, help="Calls at once with --map; 0: one per core."),
    ] = 0,
    json_output: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object that tells all about a program's or script's run."
        ),
    ] = False,
) -> None:
    """Run a WebAssembly program or a Python script in the sandbox: no network, no clock, metered in fuel.

    Output and results go to standard output, the log and a summary to standard error.

    With `--map`, each line of input gives one line of output: `line`, `result` or `error` (`type`, `message`,
    `traceback`), `fuel`, `unit`, and `log` if the call wrote one. After an interruption, run the same command
    again: with `--output` it goes on where it stopped.

    **Exit codes**: 0 all is well; 1 it could not be done, or a script or one of the lines failed; 2 the
    command line is wrong; 130 interrupted. Of a unit that did not end well: 11 failed, 12 out of fuel, 13 too
    large at the start, 14 stack limit, 15 output limit.
    """
    from noria.cli.units import Limits

    limits = Limits(parse_fuel(fuel), seconds)
    if is_program(target):
        for given, option in ((map_file is not None, "--map"), (function != "main", "--function")):
            if given:
                raise BadArgument(
                    f"{option} is for Python scripts, and {target} is WebAssembly: leave it out"
                )
        from noria.cli.run_program import run_program

        run_program(target, input_file, output, limits, as_json=json_output)
        return
    if input_file is not None:
        raise BadArgument("--input is for WebAssembly programs: give a script its arguments with --map")
    if map_file is None:
        from noria.cli.run_script import run_script

        run_script(target, function, output, limits, as_json=json_output)
        return
    if json_output:
        raise BadArgument("--map writes JSON lines anyway: leave out --json")
    from noria.cli.run_map import run_map

    run_map(target, function, map_file, output, limits, workers)


def parse_fuel(text: str, option: str = "--fuel", most: int = FUEL_MAX) -> int:
    """Read an amount of fuel: a whole number, with ``_`` between digits or an exponent if one likes.

    Raises
    ------
    BadArgument
        If it is none, or more than `most`, which is what any unit can use.
    """
    try:
        number = Decimal(text.strip())
        whole = int(number) if number.is_finite() and number.adjusted() < 30 else -1
    except InvalidOperation:
        number, whole = Decimal(0), -1
    if whole != number or not 1 <= whole <= most:
        raise BadArgument(f"{option} {text} is not a whole number from 1 to {most}, like 2000000 or 2e9")
    return whole


def is_program(target: Path) -> bool:
    """Tell a program from a script by what is in it, not by what it is called."""
    if target.is_dir():
        raise BadArgument(f"{target} is a folder: name a WebAssembly program or a Python script")
    if target.exists() and not target.is_file():
        raise BadArgument(f"{target} is no regular file: it is read more than once")
    with target.open("rb") as stream:
        start = stream.read(4)
    if start == MAGIC or target.suffix == ".wasm":
        return True
    if target.suffix in (".py", ".pyw"):
        return False
    hint = (
        "compile the text format with wat2wasm" if target.suffix == ".wat" else "call a script something.py"
    )
    raise BadArgument(f"{target} is neither a WebAssembly program nor a Python script: {hint}")
