"""``noria job``: work that miners do for you."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.errors import BadArgument, CommandError
from noria.cli.help import examples
from noria.cli.job_run import EXAMPLES as RUN_EXAMPLES
from noria.cli.job_run import run
from noria.cli.node_access import JsonOption, NodeOption, connected

if TYPE_CHECKING:
    from noria.market.requester.journal import JobJournal, StoredJob, StoredReceipt

app = typer.Typer(help="Work that miners do for you.", no_args_is_help=True)
SHOWN: Final = 20
END_SECONDS: Final = 120.0
"""How long a job's own process may take to end it."""
POLL_SECONDS: Final = 0.25
POLL_BLOCK_SECONDS: Final = 5.0
NEAR_BLOCKS: Final = 64
"""For so many blocks the end of a job is waited for."""

JobArgument = Annotated[
    int | None, typer.Argument(help="Number of the job.", metavar="JOB", min=1, show_default="the latest")
]


@app.callback()
def job() -> None:
    """Have miners work for you, and look at the jobs that you have opened from this machine."""


app.command("run", epilog=RUN_EXAMPLES)(run)


@app.command("list", epilog=examples("noria job list", "noria job list --all --json"))
def list_jobs(
    everything: Annotated[bool, typer.Option("--all", help=f"Not only the latest {SHOWN}.")] = False,
    json_output: JsonOption = False,
) -> None:
    """List your jobs, the latest first. `left` are those whose program ended before they did."""
    from noria.cli.job_store import described, opened_journal
    from noria.cli.mine_report import short_money
    from noria.work.results import printable

    with opened_journal() as journal:
        rows = [described(each) for each in journal.jobs(limit=1_000_000 if everything else SHOWN)]
    if json_output:
        print(json.dumps({"jobs": rows}, indent=2))
        return
    if not rows:
        typer.echo("no jobs yet: `noria job run SCRIPT --map FILE` opens one", err=True)
        return
    print(f"{'job':>6}  {'state':<10} {'units':>13} {'spent':>12} {'budget':>12}  {'opened':<17} title")
    for row in rows:
        number = "-" if row["job"] is None else row["job"]
        units = f"{row['done']:,}/{row['units']:,}"
        spent, budget = short_money(int(row["spent_wei"])), short_money(int(row["budget_wei"]))
        opened = row["created"][:16].replace("T", " ")
        line = f"{number:>6}  {row['state']:<10} {units:>13} {spent:>12} {budget:>12}  {opened:<17}"
        print(printable(f"{line} {row['title']}"))
    if any(row["state"] in ("left", "closing") and row["process"] is None for row in rows):
        typer.echo(
            "what is left of jobs that are `left` or `closing` comes back with the next job, or with "
            "`noria job cancel JOB`",
            err=True,
        )


@app.command("show", epilog=examples("noria job show", "noria job show 12 --json"))
def show(number: JobArgument = None, node: NodeOption = None, json_output: JsonOption = False) -> None:
    """Show all about a job: its money, and what each miner has done."""
    from noria.cli.job_store import described, find_job, opened_journal

    with opened_journal() as journal:
        stored = find_job(journal, number)
    chain, problem = asyncio.run(_look(node, stored))
    answer = described(stored) | {"chain": chain}
    if json_output:
        print(json.dumps(answer, indent=2))
        return
    _print_job(answer)
    if problem:
        typer.echo(problem, err=True)


@app.command("explain", epilog=examples("noria job explain", "noria job explain 12"))
def explain(number: JobArgument = None, node: NodeOption = None, json_output: JsonOption = False) -> None:
    """Say why a job is where it is: too little money, no miner at this price, all busy, not drawn yet."""
    from noria.cli.job_store import explained, find_job, on_chain, opened_journal

    with opened_journal() as journal:
        stored = find_job(journal, number)

    async def look() -> Any:
        from noria.client.local_network import NoNode
        from noria.market.access import ChainAccessError

        try:
            async with connected(node or stored.node) as access:
                return await on_chain(access, stored)
        except (NoNode, ChainAccessError):
            return None

    explanation = explained(stored, asyncio.run(look()))
    if json_output:
        reasons = [{"name": reason.name, "message": reason.message} for reason in explanation.reasons]
        print(
            json.dumps({"job": stored.number, "summary": explanation.summary, "reasons": reasons}, indent=2)
        )
    else:
        print(explanation)


@app.command("cancel", epilog=examples("noria job cancel", "noria job cancel 12"))
def cancel(number: JobArgument = None, node: NodeOption = None, json_output: JsonOption = False) -> None:
    """End a job: miners stop, get what they have earned, and the rest comes back.

    A program that works on it ends with an error; a job that was left by its program is ended on the chain.
    """
    from noria.cli.job_store import OVER, find_job, opened_journal

    with opened_journal() as journal:
        stored = find_job(journal, number)
        if stored.state in OVER:
            text = f"job {stored.number} is {stored.state} already"
        elif stored.is_alive:
            journal.ask_close(stored.id)
            text = _await_end(journal, stored)
        else:
            text = asyncio.run(_end_left(node, journal, stored))
    print(json.dumps({"job": stored.number, "text": text}) if json_output else text)


@app.command("logs", epilog=examples("noria job logs", "noria job logs 12 --unit 5655aa8a"))
def logs(
    number: JobArgument = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Beginning of a unit's name.", metavar="HEX", show_default="all"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Print what a job's units have printed, the beginning of each."""
    from noria.work.results import printable

    told = set()
    for receipt in _receipts(number, unit):
        # All replicas of a unit print the same.
        if receipt.unit in told or not receipt.log:
            continue
        told.add(receipt.unit)
        text = receipt.log.decode(errors="replace")
        if json_output:
            print(json.dumps({"unit": receipt.unit.hex(), "log": text}))
            continue
        for line in printable(text).splitlines():
            print(f"{receipt.unit.hex()[:8]}  {line}")
    if not told:
        typer.echo("nothing was printed", err=True)


@app.command("receipts", epilog=examples("noria job receipts", "noria job receipts 12 --json"))
def receipts(
    number: JobArgument = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Beginning of a unit's name.", metavar="HEX", show_default="all"),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List the miners' signed claims: which unit ended how, for what price. Signatures are checked again.

    Files that others can check have the whole unit: `noria job run --receipts FOLDER`, `future.receipt.save`.
    """
    from noria.primitives.amounts import format_amount

    for stored in _receipts(number, unit):
        row = _claim(stored)
        if json_output:
            print(json.dumps(row))
        else:
            price = format_amount(int(row["price_wei"]))
            print(
                f"{row['unit'][2:10]}  {row['miner']} {row['k']}/{row['index']:<6} {row['status']:<12} "
                f"{row['fuel']:>15,} fuel  {price}"
            )


# ---------------------------------------------------------------- inside


def _receipts(number: int | None, unit: str | None) -> list[StoredReceipt]:
    from noria.cli.job_store import find_job, opened_journal

    beginning = "" if unit is None else unit.removeprefix("0x").lower()
    if not all(letter in "0123456789abcdef" for letter in beginning):
        raise BadArgument(f"--unit {unit!r:.80} is no beginning of a unit's name: hexadecimal digits are")
    with opened_journal() as journal:
        found = journal.receipts(find_job(journal, number).id)
    chosen = [receipt for receipt in found if receipt.unit.hex().startswith(beginning)]
    if unit is not None and not chosen:
        raise BadArgument(f"the job has no unit {unit}: `noria job receipts` lists them")
    return chosen


def _claim(stored: StoredReceipt) -> dict[str, Any]:
    from noria.primitives.addresses import checksum_address
    from noria.primitives.keys import InvalidKey, recover_address
    from noria.primitives.types import Signature
    from noria.work.receipts import ReceiptError, decode_receipt

    try:
        receipt = decode_receipt(stored.receipt)
        signer = recover_address(receipt.leaf().hash, Signature(stored.signature))
    except (ReceiptError, InvalidKey) as error:
        raise CommandError(f"a receipt in the journal is damaged: {error}") from None
    if signer != receipt.miner:
        raise CommandError(
            f"receipt {receipt.index} of place {receipt.k} in the journal is not signed by its miner"
        )
    return {
        "unit": "0x" + receipt.unit_id.hex(),
        "miner": checksum_address(receipt.miner),
        "job": receipt.job,
        "k": receipt.k,
        "index": receipt.index,
        "status": receipt.status.name.lower(),
        "fuel": receipt.fuel,
        "weight": receipt.weight,
        "output_id": "0x" + receipt.output_id.hex(),
        "price_wei": stored.price,
        "milliseconds": stored.milliseconds,
        "sealed": stored.seal is not None,
        "receipt": "0x" + stored.receipt.hex(),
        "signature": "0x" + stored.signature.hex(),
    }


async def _look(node: str | None, stored: StoredJob) -> tuple[dict[str, Any] | None, str]:
    """Return what the chain has of a job, or why that is not known."""
    from noria.cli.job_store import chain_values, on_chain
    from noria.client.local_network import NoNode
    from noria.market.access import ChainAccessError

    try:
        async with connected(node or stored.node) as access:
            found = await on_chain(access, stored)
    except (NoNode, ChainAccessError) as error:
        if node is not None:
            raise
        return None, f"the chain was not asked: {error}"
    if found is None:
        return (
            None,
            "" if stored.number is None else f"{stored.node} does not have it: it is of another chain",
        )
    return chain_values(found), ""


def _print_job(answer: dict[str, Any]) -> None:
    from noria.cli.mine_report import short_money
    from noria.work.results import printable

    def row(name: str, value: object) -> None:
        print(f"{name + ':':<11} {printable(str(value))}")

    row("job", "not opened" if answer["job"] is None else answer["job"])
    row("state", answer["state"] + (f", {answer['problem']}" if answer.get("problem") else ""))
    row("title", answer["title"])
    row("opened", f"{answer['created']} by {answer['requester']}")
    row("money", f"{short_money(int(answer['spent_wei']))} of {short_money(int(answer['budget_wei']))} spent")
    row("units", f"{answer['done']:,} of {answer['units']:,} done, {answer['failed']:,} failed")
    row("fuel", f"{answer['fuel']:,}")
    chain = answer["chain"]
    if chain is not None:
        row("on chain", f"{chain['state']}, opened in block {chain['opened_block']} of {chain['head_block']}")
    committed = {place["k"]: place["committed_wei"] for place in chain["places"]} if chain else {}
    for place in answer.get("places", []):
        line = f"{place['units']:,} units, {short_money(int(place['earned_wei']))} earned"
        if place["k"] in committed:
            line += f", {short_money(int(committed[place['k']]))} on chain"
        line += f"; {place['state']}" + (f", {place['reason']}" if place["reason"] else "")
        row(f"place {place['k']}", f"{place['miner']} {line}")


def _await_end(journal: JobJournal, stored: StoredJob) -> str:
    """Wait until the process that works on a job has ended it."""
    from noria.cli.job_store import OVER

    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end:
        now = next(each for each in journal.jobs(limit=1_000_000) if each.id == stored.id)
        if now.state in OVER or (now.state == "closing" and not now.is_alive):
            return f"job {now.number} is {now.state}" if now.number is not None else "the job is over"
        if not now.is_alive:
            raise CommandError("its program has ended in the middle of it: run the same command again")
        time.sleep(POLL_SECONDS)
    raise CommandError(
        f"process {stored.pid} has been asked to end the job, and has not within {END_SECONDS:g} s: "
        "end that process, then run the same command again"
    )


async def _end_left(node: str | None, journal: JobJournal, stored: StoredJob) -> str:
    """End a job that was left by its program; wait until the rest is paid back if that is soon."""
    from noria.cli.job_store import on_chain
    from noria.client.leftovers import close_leftovers
    from noria.client.wallet import open_wallet
    from noria.primitives.addresses import checksum_address

    wallet = open_wallet(create=False)
    if wallet.address != stored.requester:
        raise CommandError(
            f"the job is {checksum_address(stored.requester)}'s, the wallet is {wallet}: name its folder "
            "with NORIA_WALLET"
        )
    async with connected(node or stored.node) as access:
        if access.genesis_root != stored.chain:
            raise CommandError(
                f"{access.url} is of another chain than the job: name a node of its chain with --node"
            )
        deadline = time.monotonic() + END_SECONDS
        while True:
            done = await close_leftovers(access, wallet, journal, first=stored.id)
            own = next((each for each in done if each.id == stored.id), None)
            if own is None:
                return f"job {stored.number} is over"
            name = "the job" if own.number is None else f"job {own.number}"
            found = await on_chain(access, replace(stored, number=own.number))
            last = 0 if found is None else found.job.closing_block + found.close_blocks
            if own.state != "closing":
                return f"{name}: {own.message}"
            if found is None or last - found.block > NEAR_BLOCKS or time.monotonic() > deadline:
                return f"{name}: {own.message}; run this again then, or let the next job do it"
            block = found.block
            while block <= last and time.monotonic() < deadline:
                block = (await access.wait_head(block, POLL_BLOCK_SECONDS)).number
