"""Units with which a development network starts: tiles of a picture, path-traced in WebAssembly.

``pinned/pathtracer.wasm`` is the module of ``examples/render``; ``pinned/scene.bin`` is what all inputs of a
picture of 16 by 9 have in common: camera, light and shapes, as ``examples/render/scene.py`` writes them.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

from noria.node.programs import PACKAGED
from noria.work.ids import ProgramId, program_id
from noria.work.workers import ProgramSource

MAGIC: Final = b"NRND\x01\0\0\0"
WIDTH, HEIGHT = 320, 180
TILE_WIDTH, TILE_HEIGHT = 16, 9
SAMPLES: Final = 16
BOUNCES: Final = 8
SHAPE_BYTES: Final = 96
VIEW_BYTES: Final = 31 * 8
"""Camera, sun, sky and water before the shapes."""
TILES: Final = (WIDTH // TILE_WIDTH) * (HEIGHT // TILE_HEIGHT)


@cache
def module() -> ProgramSource:
    """Return the path tracer."""
    path = PACKAGED / "pathtracer.wasm"
    return ProgramSource(ProgramId(program_id(path.read_bytes())), path)


@cache
def _scene() -> bytes:
    return (PACKAGED / "scene.bin").read_bytes()


def tile_input(seed: int, place: int) -> bytes:
    """Return the input of the unit that renders one tile.

    Parameters
    ----------
    seed
        Of the picture's random numbers, below 2^32: another seed makes another unit.
    place
        Which tile, from 0 to `TILES` - 1.
    """
    scene = _scene()
    x = place % (WIDTH // TILE_WIDTH) * TILE_WIDTH
    y = place // (WIDTH // TILE_WIDTH) * TILE_HEIGHT
    shapes = (len(scene) - VIEW_BYTES) // SHAPE_BYTES
    numbers = (WIDTH, HEIGHT, x, y, TILE_WIDTH, TILE_HEIGHT, SAMPLES, BOUNCES, seed, shapes)
    return MAGIC + struct.pack("<10I", *numbers) + scene


def miner_inputs(seed: int, count: int) -> list[bytes]:
    """Return inputs of ``count`` units of one miner, spread over the picture.

    Parameters
    ----------
    seed
        The miner's own, so that no two miners have run the same unit.
    count
        At most `TILES`.
    """
    return [tile_input(seed, index * TILES // count) for index in range(count)]
