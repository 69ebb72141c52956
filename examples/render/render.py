"""Render a picture with a path tracer in C that runs as WebAssembly, one unit of work for each tile.

    python -m examples.render.render --output noria.png
    python -m examples.render.render --local --output noria.png

The tiles are rendered by a network's miners or in this machine's sandbox. What comes out is the same on every
machine, and so is the fuel: the root that `--local` prints is a promise about all of it.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from examples.render.scene import Picture, Tile, noria
from examples.where import add_options, program_executor, stop_on_errors
from noria import ProgramExecutor
from noria.client.errors import UnitFailed
from noria.primitives.amounts import format_amount
from noria.primitives.types import Address, Hash32, Wei
from noria.work.batches import BATCH_RECEIPTS_MAX, Batch, build_batch
from noria.work.folders import compiled_folder
from noria.work.ids import program_id
from noria.work.receipts import Receipt, Status
from noria.work.workers import Outcome, ProgramSource, UnitFuture, WorkerPool

MODULE = Path(__file__).resolve().parent / "pathtracer.wasm"
TILE_WIDTH, TILE_HEIGHT = 16, 9
FUEL_LIMIT = 2 * 10**9
"""Ten times what a tile takes at the default size."""


class RenderFailed(Exception):
    """A tile that has no pixels; the message says why."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture and what it took."""

    image: Image.Image
    receipts: list[Receipt]
    """In the order of the tiles."""
    busy_seconds: float
    """Of all workers together."""

    @property
    def fuel(self) -> int:
        return sum(receipt.fuel for receipt in self.receipts)

    def batches(self) -> list[Batch]:
        """Join the receipts: each batch has a root that proves every tile in it."""
        # On a network each batch would be a draw of a job, with indices of its own.
        return [
            build_batch(self.receipts[i : i + BATCH_RECEIPTS_MAX])
            for i in range(0, len(self.receipts), BATCH_RECEIPTS_MAX)
        ]


def render(picture: Picture, pool: WorkerPool, *, quiet: bool = False) -> Rendered:
    """Render all tiles of a picture on a pool.

    Raises
    ------
    RenderFailed
        If a tile's unit did not end well.
    """
    source = ProgramSource(program_id(MODULE.read_bytes()), MODULE)
    tiles = picture.tiles(TILE_WIDTH, TILE_HEIGHT)
    image = Image.new("RGB", (picture.width, picture.height))
    receipts: dict[int, Receipt] = {}
    busy = 0.0
    with _bar(len(tiles), quiet=quiet) as (progress, task):
        futures = {
            pool.submit(source, picture.encode(tile), FUEL_LIMIT): index for index, tile in enumerate(tiles)
        }
        for future in as_completed(futures):
            assert isinstance(future, UnitFuture)
            index = futures[future]
            outcome = future.result()
            _paste(image, tiles[index], outcome)
            receipts[index] = _receipt(index, future)
            busy += outcome.seconds
            progress.advance(task)
    return Rendered(image, [receipts[index] for index in range(len(tiles))], busy)


def render_by_miners(picture: Picture, executor: ProgramExecutor, *, quiet: bool = False) -> Image.Image:
    """Render all tiles of a picture on a network; several miners render each, and must agree.

    Raises
    ------
    RenderFailed
        If a tile's unit did not end well.
    """
    tiles = picture.tiles(TILE_WIDTH, TILE_HEIGHT)
    image = Image.new("RGB", (picture.width, picture.height))
    with _bar(len(tiles), quiet=quiet) as (progress, task):
        pixels = executor.map_inputs(picture.encode(tile) for tile in tiles)
        for tile in tiles:
            try:
                _put(image, tile, next(pixels))
            except UnitFailed as error:
                raise _failed(tile, error.status, error.log) from None
            progress.advance(task)
    return image


@contextmanager
def _bar(tiles: int, *, quiet: bool) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        yield progress, progress.add_task("tiles", total=tiles)


def _paste(image: Image.Image, tile: Tile, outcome: Outcome) -> None:
    if outcome.status != Status.OK:
        raise _failed(tile, outcome.status, outcome.log.decode(errors="replace"))
    _put(image, tile, outcome.output)


def _put(image: Image.Image, tile: Tile, pixels: bytes) -> None:
    image.paste(Image.frombytes("RGB", (tile.width, tile.height), pixels), (tile.x, tile.y))


def _failed(tile: Tile, status: Status, log: str) -> RenderFailed:
    return RenderFailed(f"the tile at {tile.x},{tile.y} ended with {status.name}: {log.strip()}")


def _receipt(index: int, future: UnitFuture[Outcome]) -> Receipt:
    """Make the receipt that a miner would; nobody pays here, so chain, job and miner are zeros."""
    record = future.record
    assert record is not None
    return Receipt(
        genesis_root=Hash32(bytes(32)),
        job=0,
        k=0,
        miner=Address(bytes(20)),
        index=index,
        unit_id=record.unit_id,
        output_id=record.output_id,
        status=record.status,
        fuel=record.fuel,
        weight=record.fuel,
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="render", description="Render the noria with WebAssembly units.")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--samples", type=int, default=32, help="paths for each pixel: more is smoother")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("noria.png"))
    add_options(parser)
    chosen = parser.parse_args(arguments)
    chosen.workers = len(os.sched_getaffinity(0)) if chosen.workers is None else chosen.workers
    for name, least, most in (
        ("width", 1, 8192),
        ("height", 1, 8192),
        ("samples", 1, 10_000),
        ("workers", 1, 256),
    ):
        if not least <= getattr(chosen, name) <= most:
            parser.error(f"--{name} is from {least} to {most}")
    if not chosen.output.resolve().parent.is_dir() or chosen.output.is_dir():
        parser.error(f"--output {chosen.output} is no file that could be written")
    picture = noria(chosen.width, chosen.height, chosen.samples, chosen.seed)
    size = f"{picture.width} × {picture.height} pixels of {picture.samples} paths"
    print(f"{size} in {len(picture.tiles(TILE_WIDTH, TILE_HEIGHT)):,} tiles")
    image = _by_miners(picture, chosen) if not chosen.local else _here(picture, chosen.workers)
    image.save(chosen.output)
    print(f"wrote {chosen.output}")


def _by_miners(picture: Picture, chosen: argparse.Namespace) -> Image.Image:
    began = time.monotonic()
    with program_executor(chosen, MODULE, FUEL_LIMIT) as executor:
        image = render_by_miners(picture, executor)
        seconds = time.monotonic() - began
    view = executor.stats()
    miners = sum(place.done > 0 for place in view.places)
    cost = format_amount(Wei(int(view.spent)))
    print(f"{view.fuel:,} fuel, {cost} for {view.replicas} replicas of each tile")
    print(f"{seconds:.1f} s on {miners} miners, job {view.job}")
    return image


def _here(picture: Picture, workers: int) -> Image.Image:
    began = time.monotonic()
    with WorkerPool(workers, cache=compiled_folder()) as pool:
        rendered = render(picture, pool)
    seconds = time.monotonic() - began
    most = max(receipt.fuel for receipt in rendered.receipts)
    print(f"{rendered.fuel:,} fuel, at most {most:,} in a unit")
    rate = 1e9 * rendered.busy_seconds / rendered.fuel
    print(f"{seconds:.1f} s on {workers} workers, {rate:.3f} ns per fuel")
    for batch in rendered.batches():
        print(f"receipts root 0x{batch.commitment.root.hex()} ({batch.commitment.count:,} receipts)")
    return rendered.image


if __name__ == "__main__":
    with stop_on_errors(RenderFailed):
        main(sys.argv[1:])
