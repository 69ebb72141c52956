"""The scene: a noria at dusk, the wheel that lifts a river into the fields; and its bytes for the tracer."""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Vector = tuple[float, float, float]

DIFFUSE, METAL, GLASS, LIGHT = range(4)
MAGIC = b"NRND\x01\0\0\0"
BOUNCES = 8

WOOD = (0.42, 0.24, 0.12)
OLD_WOOD = (0.26, 0.17, 0.11)
COPPER = (0.95, 0.55, 0.36)
WATER_GLASS = (0.90, 0.98, 0.99)
HILL = (0.10, 0.13, 0.09)


@dataclass(frozen=True, slots=True)
class Shape:
    """A rod with round ends from `a` to `b`; a ball where both are the same."""

    material: int
    a: Vector
    b: Vector
    radius: float
    colour: Vector
    roughness: float = 0.0

    def encode(self) -> bytes:
        return struct.pack(
            "<II11d", self.material, 0, *self.a, *self.b, self.radius, *self.colour, self.roughness
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be rendered, before it is cut into tiles."""

    width: int
    height: int
    samples: int
    seed: int
    shapes: Sequence[Shape]

    def encode(self, tile: Tile) -> bytes:
        """Input of the unit that renders one tile; the layout is at the top of ``pathtracer.c``."""
        numbers = (self.width, self.height, tile.x, tile.y, tile.width, tile.height)
        return b"".join(
            (
                MAGIC,
                struct.pack("<10I", *numbers, self.samples, BOUNCES, self.seed, len(self.shapes)),
                _camera(self.width / self.height),
                _light(),
                *(shape.encode() for shape in self.shapes),
            )
        )

    def tiles(self, width: int, height: int) -> list[Tile]:
        """Cut the picture into tiles of at most this size, row by row."""
        return [
            Tile(x, y, min(width, self.width - x), min(height, self.height - y))
            for y in range(0, self.height, height)
            for x in range(0, self.width, width)
        ]


def noria(width: int, height: int, samples: int, seed: int = 1) -> Picture:
    """The picture of the wheel."""
    return Picture(width, height, samples, seed, [*_wheel(), *_frame(), *_lanterns(), *_hills()])


def _wheel() -> Iterator[Shape]:
    """Two rims with spokes, boards between them, and a bucket at every board."""
    count, radius, half, centre = 24, 2.7, 0.45, 2.35
    ring = [_on_circle(i / count, radius, centre) for i in range(count)]
    for side in (-half, half):
        for i, (x, y) in enumerate(ring):
            after = ring[(i + 1) % count]
            yield _rod((x, y, side), (*after, side), 0.075, WOOD)
            if i % 2 == 0:
                yield _rod((0, centre, side), (x, y, side), 0.05, WOOD)
        inner = [_on_circle(i / 12, radius * 0.55, centre) for i in range(12)]
        for i, start in enumerate(inner):
            yield _rod((*start, side), (*inner[(i + 1) % 12], side), 0.045, OLD_WOOD)
    for i, (x, y) in enumerate(ring):
        yield _rod((x, y, -half), (x, y, half), 0.04, OLD_WOOD)
        out_x, out_y = _on_circle(i / count, radius + 0.2, centre)
        if i % 2:
            yield _ball(GLASS, (out_x, out_y, 0.0), 0.27, WATER_GLASS)
        else:
            yield _ball(METAL, (out_x, out_y, 0.0), 0.22, COPPER, 0.06)
    yield Shape(METAL, (0, centre, -1.05), (0, centre, 1.05), 0.17, COPPER, 0.12)


def _frame() -> Iterator[Shape]:
    """Legs that carry the axle, and the trough that takes the water away."""
    for side in (-0.95, 0.95):
        for foot in (-1.5, 1.5):
            yield _rod((foot, -0.5, side * 1.25), (0, 2.35, side), 0.11, OLD_WOOD)
        yield _rod((-0.95, 0.55, side * 1.17), (0.95, 0.55, side * 1.17), 0.07, OLD_WOOD)
    for side in (-0.3, 0.3):
        yield _rod((1.4, 4.75, side - 1.2), (6.5, 4.45, side - 1.2), 0.06, WOOD)
    for x in (2.6, 4.4, 6.2):
        yield _rod((x, -0.5, -1.2), (x, 4.5 - 0.06 * (x - 2.6), -1.2), 0.08, OLD_WOOD)


def _lanterns() -> Iterator[Shape]:
    """Lights that float on the river."""
    for x, z, size in (
        (-3.1, 2.6, 0.16),
        (-4.6, 0.4, 0.15),
        (2.7, 3.1, 0.17),
        (3.9, 0.9, 0.15),
        (-1.3, 4.3, 0.13),
    ):
        yield _ball(LIGHT, (x, 0.12, z), size, (3.4, 1.5, 0.45))


def _hills() -> Iterator[Shape]:
    """Spheres so large that only their tops are seen."""
    for x, z, radius, top in ((-46, -78, 60, 9), (18, -95, 80, 7), (75, -80, 60, 11), (-100, -60, 60, 12)):
        yield _ball(DIFFUSE, (float(x), float(top - radius), float(z)), float(radius), HILL)


def _on_circle(turn: float, radius: float, height: float) -> tuple[float, float]:
    # Rounded, because sine and cosine may differ in their last bit from machine to machine.
    angle = 2 * math.pi * (turn + 0.013)
    return round(radius * math.cos(angle), 6), round(height + radius * math.sin(angle), 6)


def _rod(a: Vector, b: Vector, radius: float, colour: Vector) -> Shape:
    return Shape(DIFFUSE, a, b, radius, colour)


def _ball(material: int, centre: Vector, radius: float, colour: Vector, roughness: float = 0.0) -> Shape:
    return Shape(material, centre, centre, radius, colour, roughness)


def _camera(aspect: float) -> bytes:
    eye, target, half_height = (-3.6, 1.9, 9.6), (0.35, 2.2, 0.0), 0.36
    forward = _unit(_minus(target, eye))
    right = _unit(_cross(forward, (0.0, 1.0, 0.0)))
    up = _cross(right, forward)
    distance = math.sqrt(sum(part * part for part in _minus(target, eye)))
    return struct.pack(
        "<14d", *eye, *_times(right, half_height * aspect), *_times(up, half_height), *forward, 0.05, distance
    )


def _light() -> bytes:
    sun = (*_unit((0.62, 0.30, -0.42)), 3.2, 1.75, 0.85, 0.0006)
    sky = (0.98, 0.50, 0.26, 0.10, 0.19, 0.42)
    water = (0.010, 0.030, 0.036, 0.030)
    return struct.pack("<17d", *sun, *sky, *water)


def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _times(a: Vector, factor: float) -> Vector:
    return a[0] * factor, a[1] * factor, a[2] * factor


def _unit(a: Vector) -> Vector:
    return _times(a, 1 / math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]))


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
