"""Scenes: the one that comes with the example, and those of a JSON file."""

import json
from math import cos, isfinite, pi, sin
from pathlib import Path
from typing import Any

from examples.raytrace.tracer import Ball, Scene, Vector, dot, minus, unit

BALLS_MAX = 200
FILE_BYTES_MAX = 1 << 20


class BadScene(ValueError):
    """A file that holds no scene; the message says what is wrong with it."""


def wheel() -> Scene:
    """A wheel of twelve balls around a mirror, and its shadow on the floor."""
    centre, radius, count = (0.0, 2.0, 0.0), 1.55, 12
    balls = [Ball(centre, 0.85, (0.92, 0.90, 0.86), 0.75)]
    for i in range(count):
        angle = 2 * pi * i / count
        place = (radius * cos(angle), centre[1] + radius * sin(angle), 0.18 * sin(3 * angle))
        shade = 0.5 + 0.5 * cos(angle)
        balls.append(Ball(place, 0.34, (0.78, 0.08 + 0.42 * shade, 0.05 + 0.08 * (1 - shade)), 0.18))
    balls += [
        Ball((-2.6, 0.55, 1.3), 0.55, (0.06, 0.16, 0.45), 0.30),
        Ball((2.5, 0.42, 1.7), 0.42, (0.08, 0.30, 0.16), 0.15),
        Ball((3.4, 0.75, -1.6), 0.75, (0.78, 0.74, 0.68), 0.55),
    ]
    return Scene(
        tuple(balls), eye=(1.3, 2.2, 6.4), target=(0.0, 1.65, 0.0), sun=unit((0.85, 0.62, 0.55)), view=0.42
    )


def read_scene(path: Path) -> Scene:
    """Read a scene.

    Raises
    ------
    BadScene
        If the file holds none.
    """
    with path.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise BadScene(f"{path.name} is longer than {FILE_BYTES_MAX} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise BadScene(f"{path.name} is not JSON") from None
    members = _members(path.name, found, {"balls", "eye", "target", "sun"}, {"view"})
    balls = members["balls"]
    if not isinstance(balls, list) or not 1 <= len(balls) <= BALLS_MAX:
        raise BadScene(f"{path.name}: balls is no list of 1 to {BALLS_MAX}")
    eye, target = (_vector(f"{path.name}: {name}", members[name]) for name in ("eye", "target"))
    across = minus(target, eye)
    if across[0] == across[2] == 0:
        raise BadScene(f"{path.name}: target is straight above or below eye, or at the same place")
    sun = _vector(f"{path.name}: sun", members["sun"])
    if dot(sun, sun) == 0:
        raise BadScene(f"{path.name}: sun is no direction")
    return Scene(
        tuple(_ball(f"{path.name}: ball {i}", ball) for i, ball in enumerate(balls, start=1)),
        eye=eye,
        target=target,
        sun=unit(sun),
        view=_number(f"{path.name}: view", members.get("view", 0.6), 0.01, 100),
    )


def _ball(name: str, found: object) -> Ball:
    members = _members(name, found, {"centre", "radius", "colour"}, {"mirror"})
    red, green, blue = _vector(f"{name}: colour", members["colour"])
    return Ball(
        _vector(f"{name}: centre", members["centre"]),
        _number(f"{name}: radius", members["radius"], 1e-3, 1e6),
        tuple(_number(f"{name}: colour", part, 0, 1) for part in (red, green, blue)),  # type: ignore[arg-type]
        _number(f"{name}: mirror", members.get("mirror", 0.2), 0, 1),
    )


def _members(name: str, found: object, needed: set[str], possible: set[str]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadScene(f"{name} is no object")
    for member in sorted(needed - found.keys()):
        raise BadScene(f"{name} has no {member}")
    for member in sorted(found.keys() - needed - possible):
        raise BadScene(f"{name}: {member!r} is unknown: there are {', '.join(sorted(needed | possible))}")
    return found


def _number(name: str, found: object, least: float, most: float) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
        raise BadScene(f"{name} {found!r:.40} is no number from {least:g} to {most:g}")
    return float(found)


def _vector(name: str, found: object) -> Vector:
    if not isinstance(found, list) or len(found) != 3:
        raise BadScene(f"{name} is no list of three numbers")
    x, y, z = (_number(name, part, -1e6, 1e6) for part in found)
    assert isfinite(x + y + z)
    return (x, y, z)
