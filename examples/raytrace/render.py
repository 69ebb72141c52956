"""Render a picture with a ray tracer in plain Python: every tile is a task of its own.

    python -m examples.raytrace.render --output balls.png
    python -m examples.raytrace.render --local --scene my_scene.json

Nothing here is made for Noria but the executor: a `ProcessPoolExecutor` gives the same picture, all but the
last bits of its mathematics.
"""

import argparse
import sys
import time
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from PIL import Image

from examples.raytrace.scenes import BadScene, read_scene, wheel
from examples.raytrace.tracer import Scene, Tile, render_tile
from examples.where import add_options, chosen_executor, stop_on_errors

RAYS = 256
"""Rays of the eye in a tile: some fifty milliseconds of work, long beside what it takes to begin."""


def tiles(width: int, height: int, samples: int) -> list[Tile]:
    """Cut a picture into tiles of about as many rays each."""
    pixels = max(1, RAYS // samples**2)
    edge = min(width, max(1, int(pixels**0.5)))
    tall = max(1, pixels // edge)
    return [
        Tile(width, height, samples, left, top, min(left + edge, width), min(top + tall, height))
        for top in range(0, height, tall)
        for left in range(0, width, edge)
    ]


def render(scene: Scene, width: int, height: int, samples: int, executor: Executor) -> Image.Image:
    """Render all tiles, and put them together."""
    cut = tiles(width, height, samples)
    image = Image.new("RGB", (width, height))
    for tile, pixels in zip(cut, executor.map(partial(render_tile, scene), cut), strict=True):
        size = (tile.right - tile.left, tile.bottom - tile.top)
        image.paste(Image.frombytes("RGB", size, pixels), (tile.left, tile.top))
    return image


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="render", description="Render balls with plain Python.")
    parser.add_argument("--width", type=int, default=240)
    parser.add_argument("--height", type=int, default=135)
    parser.add_argument("--samples", type=int, default=1, help="rays across a pixel: 3 make 9, and smooth")
    parser.add_argument("--scene", type=Path, help="a scene of your own (JSON; see README.md)")
    parser.add_argument("--output", type=Path, default=Path("balls.png"))
    add_options(parser)
    chosen = parser.parse_args(arguments)
    for name, least, most in (("width", 1, 8192), ("height", 1, 8192), ("samples", 1, 8)):
        if not least <= getattr(chosen, name) <= most:
            parser.error(f"--{name} is from {least} to {most}")
    if not chosen.output.resolve().parent.is_dir() or chosen.output.is_dir():
        parser.error(f"--output {chosen.output} is no file that could be written")
    scene = wheel() if chosen.scene is None else read_scene(chosen.scene)
    began = time.monotonic()
    with chosen_executor(chosen) as executor:
        image = render(scene, chosen.width, chosen.height, chosen.samples, executor)
    image.save(chosen.output)
    count = len(tiles(chosen.width, chosen.height, chosen.samples))
    seconds = time.monotonic() - began
    print(f"{chosen.width} × {chosen.height} pixels in {count:,} tiles, {seconds:.1f} s")
    print(f"wrote {chosen.output}")


if __name__ == "__main__":
    with stop_on_errors(BadScene):
        main(sys.argv[1:])
