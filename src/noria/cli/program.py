"""``noria program``: what is known of a WebAssembly program before it runs, and its royalty on a chain."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.errors import EXIT_FAILURE, BadArgument, CommandError
from noria.cli.help import examples
from noria.cli.node_access import JsonOption, NodeOption, connected, money

if TYPE_CHECKING:
    from noria.client.rpc_access import RpcAccess
    from noria.market.contracts import Published
    from noria.primitives.types import Hash32

app = typer.Typer(help="Look into WebAssembly programs, and publish them.", no_args_is_help=True)

PAGE_BYTES: Final = 65_536
LOG_BLOCKS: Final = 5_000
"""Blocks whose events are asked for at a time."""
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
    """Look into WebAssembly programs, and publish them."""


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


@app.command(
    "publish",
    epilog=examples(
        "noria program publish program.wasm --royalty '5000 wei' --note 'path tracer'",
        "noria program publish program.wasm",
    ),
)
def publish(
    path: Annotated[Path, typer.Argument(help="A WebAssembly module.", metavar="FILE")],
    royalty: Annotated[
        str,
        typer.Option(help="What you get for each fuel that your program burns for others.", metavar="AMOUNT"),
    ] = "0 wei",
    note: Annotated[str, typer.Option(help="For people: what it is, where its source is.")] = "",
    node: NodeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Claim a program on a chain: from then on whoever has it run pays you its royalty.

    The chain has only its name and the note; who orders work brings the program itself. Publishing again
    changes the royalty for jobs that are opened later.
    """
    from noria.cli.run_program import read_module
    from noria.market.contract_calls import METADATA_BYTES_MAX
    from noria.work.results import printable

    found = examine(read_module(path))
    if not found["accepted"]:
        raise CommandError(f"{path} is refused by every miner: {found['refusal']['message']}")
    wei, metadata = money(royalty, "--royalty"), note.encode(errors="surrogateescape")
    if len(metadata) > METADATA_BYTES_MAX:
        raise BadArgument(f"--note has {len(metadata)} bytes: at most {METADATA_BYTES_MAX} are possible")
    answer = asyncio.run(_publish(node, bytes.fromhex(found["program"]), wei, metadata))
    if json_output:
        print(json.dumps(answer))
    else:
        print(f"{answer['program']} {answer['action']} in block {answer['block']}")
        print(printable(f"royalty {answer['royalty']} per fuel for {answer['developer']}"))


@app.command("list", epilog=examples("noria program list", "noria program list --json"))
def list_programs(node: NodeOption = None, json_output: JsonOption = False) -> None:
    """List the programs of a chain: those that it pins, and those that somebody has published."""
    from noria.work.results import printable

    rows = asyncio.run(_list(node))
    if json_output:
        print(json.dumps({"programs": rows}, indent=2))
        return
    for row in rows:
        whose = "pinned" if row["pinned"] else f"of {row['developer']}, {row['royalty']} per fuel"
        print(printable(f"{row['program']}  {whose}" + (f"  {row['note']}" if row["note"] else "")))
    if not rows:
        typer.echo("no programs: `noria program publish FILE` publishes one", err=True)


async def _publish(node: str | None, program: bytes, royalty: int, metadata: bytes) -> dict[str, Any]:
    from noria.client.wallet import open_wallet
    from noria.market.contracts import PROGRAM_REGISTRY, publish_call, read_program, set_royalty_call
    from noria.market.sending import send_transaction
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount

    wallet = open_wallet()
    async with connected(node) as access:
        there = await read_program(access, program)
        if there is not None and there.pinned:
            raise CommandError(f"0x{program.hex()} is pinned by the chain: nobody can claim it")
        if there is not None and there.developer != wallet.address:
            raise CommandError(
                f"0x{program.hex()} is published by {checksum_address(there.developer)} already"
            )
        if there is None:
            call, action = publish_call(program, royalty, metadata), "published"
        else:
            call, action = set_royalty_call(program, royalty), "has a new royalty"
        result = await send_transaction(access, wallet.key, PROGRAM_REGISTRY, call)
    return {
        "program": "0x" + program.hex(),
        "action": action,
        "developer": str(wallet),
        "royalty": format_amount(royalty),
        "royalty_wei": str(royalty),
        "transaction": "0x" + result.transaction.hex(),
        "block": result.block_number,
    }


async def _list(node: str | None) -> list[dict[str, Any]]:
    from noria.market.contracts import read_program
    from noria.primitives.addresses import checksum_address
    from noria.primitives.amounts import format_amount

    async with connected(node) as access:
        notes: dict[Hash32, str] = {program: name for name, program in access.facts.programs.items()}
        for event in await _published(access):
            notes.setdefault(event.program_id, event.metadata.decode(errors="replace"))
        rows = []
        for program, note in notes.items():
            known = await read_program(access, program)
            pinned = known is None or known.pinned
            rows.append(
                {
                    "program": "0x" + program.hex(),
                    "pinned": pinned,
                    "developer": None if known is None or pinned else checksum_address(known.developer),
                    "royalty": format_amount(0 if known is None else known.royalty),
                    "royalty_wei": str(0 if known is None else known.royalty),
                    "note": note,
                }
            )
        return rows


async def _published(access: RpcAccess) -> list[Published]:
    from noria.market.contracts import PROGRAM_REGISTRY, PUBLISHED_TOPIC, Published, decode_event

    last = (await access.head()).number
    found = []
    for first in range(0, last + 1, LOG_BLOCKS):
        end = min(first + LOG_BLOCKS - 1, last)
        for log in await access.logs([PROGRAM_REGISTRY], [[PUBLISHED_TOPIC]], first, end):
            event = decode_event(log)
            if isinstance(event, Published):
                found.append(event)
    return found


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
