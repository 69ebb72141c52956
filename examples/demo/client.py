"""The requester of the demonstration: renders a picture on strangers' machines, from a process of its own.

    python -m examples.demo.client --node build/demo-network --output build/noria.png --report build/demo.json

It knows nothing of the network but a node's address. What it leaves behind is the picture, a report of who
ran what, and a receipt that can be checked without any node.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from examples.raytrace.render import tiles
from examples.raytrace.scenes import wheel
from examples.raytrace.tracer import render_tile
from examples.where import stop_on_errors
from noria import Executor
from noria.client.network_futures import NetworkFuture
from noria.primitives.addresses import checksum_address

WIDTH, HEIGHT = 240, 135
SAMPLE = 0.05
"""Share of the tiles that this machine renders again by itself."""


def render(executor: Executor, image: Image.Image) -> list[NetworkFuture[bytes]]:
    """Render every tile as a unit of its own; return the futures, all done."""
    scene = wheel()
    cut = tiles(image.width, image.height, 1)
    futures = [executor.submit(render_tile, scene, tile) for tile in cut]
    for tile, future in zip(cut, futures, strict=True):
        size = (tile.right - tile.left, tile.bottom - tile.top)
        image.paste(Image.frombytes("RGB", size, future.result()), (tile.left, tile.top))
    return futures


def report(executor: Executor, futures: list[NetworkFuture[bytes]]) -> dict[str, Any]:
    """Tell who ran what, and what it cost."""
    view = executor.job.view()
    fuel: Counter[str] = Counter()
    price: Counter[str] = Counter()
    units: Counter[str] = Counter()
    own = agreed = 0
    for future in futures:
        settled = future.receipt.settled
        own += settled.own_run
        agreed += len(settled.replicas) >= view.replicas
        for replica in settled.replicas:
            miner = checksum_address(replica.receipt.miner)
            units[miner] += 1
            fuel[miner] += replica.receipt.fuel
            price[miner] += replica.price
    miners = [
        {"miner": miner, "units": units[miner], "fuel": fuel[miner], "wei": str(price[miner])}
        for miner in sorted(units)
    ]
    return {
        "job": view.job,
        "units": len(futures),
        "agreed": agreed,
        "own": own,
        "spent_wei": view.spent,
        "budget_wei": view.budget,
        "miners": miners,
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="client", description="Render a picture on a network's miners.")
    parser.add_argument("--node", help="URL of a node, or folder of a local network")
    parser.add_argument("--budget", default="2 NOR")
    parser.add_argument("--output", type=Path, default=Path("noria.png"))
    parser.add_argument("--report", type=Path, help="write who ran what, as JSON")
    parser.add_argument("--receipt", type=Path, help="write the receipt of one tile")
    chosen = parser.parse_args(arguments)
    image = Image.new("RGB", (WIDTH, HEIGHT))
    with Executor(chosen.budget, node=chosen.node, sample=SAMPLE, progress=True, title="demo") as executor:
        futures = render(executor, image)
    # After the end, when the batches are approved: the receipt then holds its path to a root on chain.
    if chosen.receipt is not None:
        futures[0].receipt.save(chosen.receipt)
    if chosen.report is not None:
        chosen.report.write_bytes(msgspec.json.encode(report(executor, futures)))
    image.save(chosen.output)


if __name__ == "__main__":
    with stop_on_errors():
        main(sys.argv[1:])
