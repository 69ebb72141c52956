"""``noria program``: what is known of a WebAssembly program before it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from noria.cli.errors import EXIT_FAILURE
from noria.cli.help import examples

app = typer.Typer(help="Look into WebAssembly programs.", no_args_is_help=True)

PAGE_BYTES: Final = 65_536
ADVICE: Final = {
    "not-webassembly": "deliver a core module in the binary format, as compilers for wasm32-wasi write it",
    "invalid": "build it again, or copy it again: it may have been cut short",
    "feature": "build it without this feature: no -pthread, -mtail-call and the like",
    "limit": "make it smaller: split large functions, shrink tables and memories",
    "import": "build it for wasm32-wasi: programs import WASI preview 1 and nothing of another host",
    "reserved-export": "rename the export",
    "not-a-command": "build a command, with a main function, not a library or reactor: it must export _start",
    "unsupported": "this engine cannot run it; others may",
    "compiler": "it is valid, but the compiler of this machine fails on it: report it, with the program",
}


@app.callback()
def program() -> None:
    """Look into WebAssembly programs."""


@app.command(
    "inspect",
    epilog=examples("noria program inspect program.wasm", "noria program inspect program.wasm --json"),
)
def inspect(
    path: Annotated[Path, typer.Argument(help="A WebAssembly module.", metavar="FILE")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a program is called, needs and uses, and whether the sandbox takes it.

    Of a program that is refused: the reason, its place in the file and what to do; the exit code is then 1.
    """
    from noria.cli.run_program import read_module

    found = examine(read_module(path))
    if json_output:
        print(json.dumps({"file": str(path), **found}, indent=2))
    else:
        _print(path, found)
    if not found["accepted"]:
        raise typer.Exit(EXIT_FAILURE)


def examine(module: bytes) -> dict[str, Any]:
    """Say all that the sandbox knows of a module, in plain values.

    Parameters
    ----------
    module
        Anything.

    Returns
    -------
    dict
        With ``accepted``, ``program`` and ``bytes``; then what the module has, or ``refusal``.
    """
    from noria._core import INSTRUMENTER_VERSION, InvalidProgram, instrument
    from noria._core import inspect as look
    from noria.work.ids import program_id

    start: dict[str, Any] = {"accepted": True, "program": program_id(module).hex(), "bytes": len(module)}
    try:
        info = look(module)
        instrumented = len(instrument(module))
    except InvalidProgram as error:
        kind, message = error.args
        offset = re.search(r"offset 0x([0-9a-f]+)", message)
        function = re.search(r"function (\d+)\)", message)
        return start | {
            "accepted": False,
            "refusal": {
                "kind": kind,
                "message": message,
                "offset": int(offset[1], 16) if offset else None,
                "function": int(function[1]) if function else None,
                "advice": ADVICE.get(kind, "see docs/sandbox.md"),
            },
        }
    runs = ("_start", "function") in info["exports"]
    memory = info["memory_pages"]
    return start | {
        "command": runs,
        "functions": info["functions"],
        "instructions": info["instructions"],
        "instrumented_bytes": instrumented,
        "instrumenter_version": INSTRUMENTER_VERSION,
        "memory_bytes": None if memory is None else memory[0] * PAGE_BYTES,
        "memory_bytes_max": None if memory is None or memory[1] is None else memory[1] * PAGE_BYTES,
        "tables": [list(table) for table in info["tables"]],
        "features": [name for name in ("simd", "relaxed_simd", "exceptions") if info[name]],
        "start_function": info["start"],
        "initial_beyond_limit": info["initial_beyond_limit"],
        "imports": [f"{module}.{name}" for module, name in info["imports"]],
        "exports": [name for name, _ in info["exports"]],
    }


def _print(path: Path, found: dict[str, Any]) -> None:
    from noria.work.results import printable

    def row(name: str, value: object) -> None:
        print(f"{name + ':':<14} {printable(str(value))}")

    row("program", found["program"])
    row("file", f"{path}, {found['bytes']:,} bytes")
    if not found["accepted"]:
        refusal = found["refusal"]
        row("refused", f"{refusal['message']} [{refusal['kind']}]")
        row("what to do", refusal["advice"])
        return
    row("code", f"{found['functions']:,} functions, {found['instructions']:,} instructions")
    row(
        "instrumented",
        f"{found['instrumented_bytes']:,} bytes, rules of version {found['instrumenter_version']}",
    )
    row("memory", _memory(found["memory_bytes"], found["memory_bytes_max"]))
    row("features", ", ".join(found["features"]).replace("_", " ") or "none beyond the basic ones")
    row(
        "imports",
        ", ".join(name.removeprefix("wasi_snapshot_preview1.") for name in found["imports"]) or "none",
    )
    row("exports", ", ".join(found["exports"][:20]) + (" …" if len(found["exports"]) > 20 else "") or "none")
    if found["initial_beyond_limit"]:
        row("profile", "accepted, but its first memory or table is too large: every run ends with status 3")
    elif not found["command"]:
        row("profile", "accepted, but not a command (no _start): `noria run` cannot run it")
    else:
        row("profile", "accepted: `noria run` runs it")


def _memory(size: int | None, most: int | None) -> str:
    if size is None:
        return "none"
    return f"{size:,} bytes at the start, {'1 GiB' if most is None else f'{most:,} bytes'} at most"
