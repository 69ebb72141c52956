"""The ray tracer in Python: the same picture however it is cut, wherever it runs; scenes that are none."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from examples.raytrace import render as example
from examples.raytrace.render import render, tiles
from examples.raytrace.scenes import BadScene, read_scene, wheel
from examples.raytrace.tracer import Ball, Scene, Tile, nearest, render_tile
from noria import LocalExecutor
from noria.execution.parameters import DEVNET
from tests.client.runtime import python_runtime

REPOSITORY = Path(example.__file__).resolve().parent.parent.parent
BALL = {"centre": [0, 1, 0], "radius": 1, "colour": [0.8, 0.1, 0.1]}
ONE = {
    "eye": [0, 2, 6],
    "target": [0, 1, 0],
    "sun": [1, 1, 0.5],
    "balls": [BALL],
}


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 8))
def test_tiles_cover_every_pixel_once(width: int, height: int, samples: int) -> None:
    covered = [
        (x, y)
        for tile in tiles(width, height, samples)
        for y in range(tile.top, tile.bottom)
        for x in range(tile.left, tile.right)
    ]
    assert sorted(covered) == [(x, y) for x in range(width) for y in range(height)]


@settings(max_examples=5)
@given(st.integers(1, 23), st.integers(1, 17))
def test_a_picture_does_not_depend_on_its_tiles(column: int, row: int) -> None:
    scene = wheel()
    whole = Image.frombytes("RGB", (24, 18), render_tile(scene, Tile(24, 18, 1, 0, 0, 24, 18)))
    part = render_tile(scene, Tile(24, 18, 1, column, row, 24, 18))
    assert part == whole.crop((column, row, 24, 18)).tobytes()


def test_the_sandbox_gives_the_picture_and_each_tile_may_win_a_block() -> None:
    runtime = python_runtime()
    scene = wheel()
    with LocalExecutor(2, runtime=runtime) as executor:
        here = render(scene, 48, 27, 1, executor)
        # The middle has the most mirrors: the dearest tiles of the picture at its usual size.
        cut = tiles(240, 135, 1)
        dear = [tile for tile in cut if 100 <= tile.left < 140 and 50 <= tile.top < 70]
        futures = [executor.submit(render_tile, scene, tile) for tile in dear]
        assert all(future.result() for future in futures)
        assert max(future.fuel for future in futures) < DEVNET.unit_fuel_max
    with ThreadPoolExecutor(1) as executor:
        there = render(scene, 48, 27, 1, executor)
    # C libraries differ in the last bits of their square roots' surroundings, hardly ever in a pixel.
    differences = sum(a != b for a, b in zip(here.tobytes(), there.tobytes(), strict=True))
    assert differences <= 10
    assert hashlib.sha256(here.tobytes()).hexdigest() == SMALL_SHA256


SMALL_SHA256 = "59e75c43e16ce38ca54c78ac38bba3c70dfba503b87f4fa71ddc3e840dd137c8"


def test_a_ray_finds_the_first_ball() -> None:
    near, far = Ball((0, 0, -5), 1, (1, 0, 0)), Ball((0, 0, -9), 1, (0, 1, 0))
    scene = Scene((far, near), eye=(0, 0, 0), target=(0, 0, -1), sun=(0, 1, 0))
    assert nearest(scene, (0, 0, 0), (0, 0, -1)) == (4, near)
    assert nearest(scene, (0, 0, -7), (0, 0, -1)) == (1, far)
    assert nearest(scene, (0, 0, 0), (0, 0, 1)) == (float("inf"), None)
    assert nearest(scene, (0, 2, 0), (0, 0, -1))[1] is None


def test_a_shadow_is_darker_than_the_sun_and_the_sky_is_bright() -> None:
    ball = Ball((0, 3, 0), 1, (1, 1, 1))
    scene = Scene((ball,), eye=(0, 2, 8), target=(0, 0, 0), sun=(0, 1, 0))
    image = Image.frombytes("RGB", (40, 40), render_tile(scene, Tile(40, 40, 1, 0, 0, 40, 40)))
    under, beside = brightness(image, 20, 20), brightness(image, 2, 20)
    assert under < beside / sqrt(2)
    assert brightness(image, 20, 0) > under


def brightness(image: Image.Image, x: int, y: int) -> int:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return int(sum(pixel))


def test_a_scene_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(ONE))
    scene = read_scene(path)
    assert scene.balls == (Ball((0, 1, 0), 1, (0.8, 0.1, 0.1), 0.2),)
    assert sum(part**2 for part in scene.sun) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[" * 5000, "is not JSON"),
        ("[]", "is no object"),
        ("{}", "has no balls"),
        (json.dumps(ONE | {"balls": []}), "no list of 1 to 200"),
        (json.dumps(ONE | {"lamps": 1}), "'lamps' is unknown"),
        (json.dumps(ONE | {"sun": [0, 0, 0]}), "sun is no direction"),
        (json.dumps(ONE | {"sun": [0, 1]}), "sun is no list of three"),
        (json.dumps(ONE | {"eye": [0, 9, 0]}), "straight above"),
        (json.dumps(ONE | {"eye": [0, 1e999, 5]}), "eye inf is no number"),
        (json.dumps(ONE | {"view": True}), "view True is no number"),
        (json.dumps(ONE | {"balls": [BALL | {"radius": -1}]}), "ball 1: radius -1 is"),
        (json.dumps(ONE | {"balls": [{"centre": [0, 0, 0]}]}), "ball 1 has no colour"),
    ],
)
def test_a_file_without_a_scene_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "scene.json").write_text(text)
    with pytest.raises(BadScene, match=words):
        read_scene(tmp_path / "scene.json")


def script(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.raytrace.render", "--local", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    python_runtime()
    (tmp_path / "scene.json").write_text(json.dumps(ONE))
    done = script(
        "--width", 16, "--height", 9, "--scene", tmp_path / "scene.json", "--output", tmp_path / "a.png"
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (16, 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--width", "0"], "--width is from 1 to 8192"),
        (["--output", "/nowhere/balls.png"], "/balls.png is no file"),
        (["--scene", "/nowhere/scene.json"], "No such file"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], words: str) -> None:
    done = script(*arguments)
    assert done.returncode != 0
    assert words in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
