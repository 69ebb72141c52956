"""A small ray tracer of ordinary Python functions: balls that mirror, a chequered floor, sun and shadows.

`render_tile` is all that leaves the machine: a scene and a rectangle go in, the pixels of that rectangle come
out. It knows nothing of where it runs.
"""

from math import floor, sqrt
from typing import NamedTuple

Vector = tuple[float, float, float]

BOUNCES = 2
HORIZON: Vector = (0.95, 0.52, 0.26)
NEAR = 1e-4
"""Nearer hits are the surface that the ray leaves."""


class Ball(NamedTuple):
    """A ball; `mirror` is how much of what it shows is a reflection, from 0 to 1."""

    centre: Vector
    radius: float
    colour: Vector
    mirror: float = 0.2


class Scene(NamedTuple):
    """Balls above a floor at height 0, the eye, what it looks at, and the direction to the sun."""

    balls: tuple[Ball, ...]
    eye: Vector
    target: Vector
    sun: Vector
    view: float = 0.6
    """Half of the picture's height at distance 1."""


class Tile(NamedTuple):
    """A rectangle of a picture of `width` by `height` pixels, each of `samples` by `samples` rays."""

    width: int
    height: int
    samples: int
    left: int
    top: int
    right: int
    bottom: int


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def minus(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def along(a: Vector, b: Vector, t: float) -> Vector:
    return (a[0] + t * b[0], a[1] + t * b[1], a[2] + t * b[2])


def unit(a: Vector) -> Vector:
    length = sqrt(dot(a, a))
    return (a[0] / length, a[1] / length, a[2] / length)


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def mixed(a: Vector, b: Vector, share: float) -> Vector:
    """Return so much of `b` and the rest of `a`."""
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2]))


def nearest(scene: Scene, origin: Vector, direction: Vector) -> tuple[float, Ball | None]:
    """Return how far away the first ball is that a ray meets; infinitely far and none if it meets none."""
    ox, oy, oz = origin
    dx, dy, dz = direction
    best, found = float("inf"), None
    for ball in scene.balls:
        cx, cy, cz = ball.centre
        x, y, z = cx - ox, cy - oy, cz - oz
        middle = x * dx + y * dy + z * dz
        if middle <= 0:
            continue
        inside = ball.radius * ball.radius - (x * x + y * y + z * z - middle * middle)
        if inside <= 0:
            continue
        distance = middle - sqrt(inside)
        if NEAR < distance < best:
            best, found = distance, ball
    return best, found


def sky(scene: Scene, direction: Vector) -> Vector:
    """Dusk: warm at the horizon, blue above, brightest around the sun."""
    height = max(0.0, direction[1])
    colour = mixed(HORIZON, (0.07, 0.15, 0.42), height**0.45)
    glow = max(0.0, dot(direction, scene.sun))
    return along(colour, (1.0, 0.75, 0.45), 0.5 * glow**24 + 3.0 * glow**900)


def colour(scene: Scene, origin: Vector, direction: Vector, bounces: int = BOUNCES) -> Vector:
    """Return the colour that comes back along a ray."""
    distance, ball = nearest(scene, origin, direction)
    if ball is None:
        if direction[1] >= -1e-6:
            return sky(scene, direction)
        distance = -origin[1] / direction[1]
        place = along(origin, direction, distance)
        normal, mirror = (0.0, 1.0, 0.0), 0.15
        dark = (floor(place[0]) + floor(place[2])) % 2 == 0
        own = (0.04, 0.05, 0.08) if dark else (0.55, 0.50, 0.44)
    else:
        place = along(origin, direction, distance)
        normal, mirror, own = unit(minus(place, ball.centre)), ball.mirror, ball.colour
    facing = dot(normal, scene.sun)
    light = 0.0
    if facing > 0 and nearest(scene, along(place, normal, NEAR), scene.sun)[1] is None:
        light = facing
    above = 0.5 + 0.5 * normal[1]
    shade = (0.12 * above + 1.10 * light, 0.14 * above + 0.85 * light, 0.22 * above + 0.55 * light)
    seen = (own[0] * shade[0], own[1] * shade[1], own[2] * shade[2])
    if mirror > 0 and bounces > 0:
        back = unit(along(direction, normal, -2.0 * dot(direction, normal)))
        # What is seen at a flat angle mirrors more (Schlick).
        share = mirror + (1.0 - mirror) * (1.0 + min(0.0, dot(direction, normal))) ** 5
        seen = mixed(seen, colour(scene, along(place, normal, NEAR), back, bounces - 1), share)
    # Far away everything takes the colour of the horizon.
    return mixed(seen, HORIZON, 1.0 - 1.0 / (1.0 + 0.0006 * distance * distance))


def render_tile(scene: Scene, tile: Tile) -> bytes:
    """The task: return a tile's pixels, row by row, three bytes each."""
    forward = unit(minus(scene.target, scene.eye))
    aside = unit(cross(forward, (0.0, 1.0, 0.0)))
    upward = cross(aside, forward)
    samples, pixels = tile.samples, bytearray()
    for y in range(tile.top, tile.bottom):
        for x in range(tile.left, tile.right):
            red = green = blue = 0.0
            for sample in range(samples * samples):
                across = x + (sample % samples + 0.5) / samples - 0.5 * tile.width
                down = y + (sample // samples + 0.5) / samples - 0.5 * tile.height
                scale = 2.0 * scene.view / tile.height
                ray = along(along(forward, aside, across * scale), upward, -down * scale)
                r, g, b = colour(scene, scene.eye, unit(ray))
                red, green, blue = red + r, green + g, blue + b
            for value in (red, green, blue):
                # As eyes see brightness: 2 is what monitors undo, nearly.
                pixels.append(int(255.0 * sqrt(min(1.0, max(0.0, value / (samples * samples)))) + 0.5))
    return bytes(pixels)
