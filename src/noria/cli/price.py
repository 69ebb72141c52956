"""``noria price``: what miners ask for now."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from noria.cli.help import examples
from noria.cli.node_access import JsonOption, NodeOption, connected

if TYPE_CHECKING:
    from noria.cli.quotes import Offer

EXAMPLES: Final = examples(
    "noria price",
    "noria price --node http://127.0.0.1:8545 --json",
    "noria price --fuel 3e12 --program program.wasm",
)
BILLION: Final = 10**9


def price(
    fuel: Annotated[
        str | None,
        typer.Option(help="Say what so much fuel would cost.", metavar="FUEL", show_default=False),
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, max=8, help="Miners that run each unit, for --fuel; each is paid.")
    ] = 2,
    ask: Annotated[
        bool, typer.Option("--ask/--no-ask", help="Ask the miners' nodes how busy they are.")
    ] = True,
    program: Annotated[
        Path | None,
        typer.Option(
            help="A WebAssembly program: its developer's royalty is added to what --fuel costs.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    node: NodeOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what miners ask now, for 10⁹ fuel and for an hour of a core, and how busy they are.

    A miner is paid what it asks when it is drawn, times the fuel that a unit burns; `noria run` tells
    how much that is. A core is reckoned with 10¹⁰ fuel in a second.
    """
    from noria.cli.run import parse_fuel

    amount = None if fuel is None else parse_fuel(fuel)
    answer = asyncio.run(_price(node, amount, replicas, ask, program))
    if json_output:
        print(json.dumps(answer, indent=2))
    else:
        _print(answer, with_quotes=ask)


async def _price(
    node: str | None, fuel: int | None, replicas: int, ask: bool, program: Path | None
) -> dict[str, Any]:
    from noria.cli.quotes import read_offers
    from noria.cli.run_program import read_module
    from noria.market.contracts import read_floor_price, read_program
    from noria.work.ids import program_id

    name = None if program is None else program_id(read_module(program))
    async with connected(node) as access:
        offers, floor = await asyncio.gather(read_offers(access, ask=ask), read_floor_price(access))
        published = None if name is None else await read_program(access, name)
    royalty = 0 if published is None else published.royalty
    rows = [_row(offer) for offer in offers]
    asks = [offer.terms.ask_price for offer in offers]
    answer: dict[str, Any] = {"floor": _prices(floor), "miners": rows}
    if asks:
        answer["median"] = _prices(int(statistics.median_low(asks)))
    if name is not None:
        answer |= {"program": name.hex(), "royalty_wei": str(royalty)}
    if fuel is not None and asks:
        from noria.primitives.amounts import format_amount

        wei = (statistics.median_low(asks) + royalty) * fuel * replicas
        answer["cost"] = {"fuel": fuel, "replicas": replicas, "wei": str(wei), "amount": format_amount(wei)}
    return answer


def _row(offer: Offer) -> dict[str, Any]:
    from noria.primitives.addresses import checksum_address

    terms, quote = offer.terms, offer.quote
    return {
        "miner": checksum_address(terms.miner),
        **_prices(terms.ask_price),
        "capacity": terms.capacity,
        "workers": None if quote is None else quote.workers,
        "running": None if quote is None else quote.running,
        "queued": None if quote is None else quote.queued,
        "problem": offer.problem,
    }


def _prices(wei: int) -> dict[str, str]:
    from noria.cli.mine_report import FUEL_PER_CORE_SECOND

    def nor(fuel: int) -> str:
        return f"{wei * fuel / 10**18:.6g}"

    return {
        "wei_per_fuel": str(wei),
        "nor_per_billion_fuel": nor(BILLION),
        "nor_per_core_hour": nor(FUEL_PER_CORE_SECOND * 3600),
    }


def _print(answer: dict[str, Any], *, with_quotes: bool) -> None:
    from noria.work.results import printable

    rows = answer["miners"]
    if not rows:
        typer.echo("no miner is registered: `noria mine` makes this machine one", err=True)
        return
    print(f"{'miner':<42} {'NOR per 10⁹ fuel':>17} {'per core-hour':>14} {'wei per fuel':>13}  busy")
    for row in rows:
        if row["workers"] is not None:
            busy = f"{row['running']} of {row['workers']} run, {row['queued']} wait"
        else:
            busy = printable(row["problem"]) if with_quotes else ""
        print(
            f"{row['miner']:<42} {row['nor_per_billion_fuel']:>17} {row['nor_per_core_hour']:>14} "
            f"{row['wei_per_fuel']:>13}  {busy}"
        )
    floor = answer["floor"]
    print(f"the chain counts work in full from {floor['wei_per_fuel']} wei per fuel on")
    if "program" in answer:
        print(f"the program's developer asks {int(answer['royalty_wei']):,} wei per fuel beside")
    if "cost" in answer:
        cost = answer["cost"]
        print(f"{cost['fuel']:,} fuel with {cost['replicas']} replicas cost about {cost['amount']}")
