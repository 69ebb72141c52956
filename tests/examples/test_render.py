"""The path tracer: the same pixels as its native build, the fuel that was recorded, and named refusals."""

import hashlib
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from examples.render import render as example
from examples.render.build import MODULE, SOURCE, build
from examples.render.render import RenderFailed, render
from examples.render.scene import MAGIC, Picture, Tile, noria
from noria._core import Outcome, Program, Sandbox
from noria.work.workers import WorkerPool

REPOSITORY = Path(example.__file__).resolve().parent.parent.parent
SMALL = noria(64, 36, 4)
SMALL_SHA256 = "69e2bd7aad8b754e8e7ae9ec3feac3200b4a66630017ba71a25445584482e2e7"
SMALL_FUEL = 247475447
SMALL_ROOT = "1c6864df7cfbf0b00cb83da740a17c6fe49b321b8d829fdc137fb618dfbc80c1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tracer(cache: Path) -> Program:
    return Sandbox(cache).load(MODULE.read_bytes())


@pytest.fixture(scope="module")
def pool(cache: Path) -> Iterator[WorkerPool]:
    with WorkerPool(2, cache=cache, wall_seconds=60) as pool:
        yield pool


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path tracer compiled for this machine."""
    compiler = shutil.which("cc")
    assert compiler is not None, "a C compiler is needed to build the project, too"
    target = tmp_path_factory.mktemp("native") / "pathtracer"
    subprocess.run(
        [compiler, "-O2", "-ffp-contract=off", "-o", str(target), str(SOURCE), "-lm"], check=True, timeout=60
    )
    return target


def whole(picture: Picture) -> Tile:
    return Tile(0, 0, picture.width, picture.height)


def run(tracer: Program, data: bytes) -> Outcome:
    return tracer.run(data, 10**10)


def test_a_picture_has_the_recorded_pixels_fuel_and_root(pool: WorkerPool) -> None:
    rendered = render(SMALL, pool, quiet=True)
    (batch,) = rendered.batches()
    assert hashlib.sha256(rendered.image.tobytes()).hexdigest() == SMALL_SHA256
    assert rendered.fuel == SMALL_FUEL
    assert batch.commitment.root.hex() == SMALL_ROOT
    assert batch.commitment.count == 16


def test_the_native_build_gives_the_same_pixels(native: Path, pool: WorkerPool) -> None:
    done = subprocess.run([native], input=SMALL.encode(whole(SMALL)), capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == render(SMALL, pool, quiet=True).image.tobytes()


@pytest.mark.parametrize("engine", ["baseline", "pulley", "wasmi"])
def test_other_engines_give_the_same_outcome(tracer: Program, cache: Path, engine: str) -> None:
    data = SMALL.encode(Tile(24, 10, 8, 6))
    expected, found = run(tracer, data), run(Sandbox(cache, engine).load(MODULE.read_bytes()), data)
    assert expected.status == 0
    assert (found.status, found.output, found.fuel) == (0, expected.output, expected.fuel)


def test_a_picture_does_not_depend_on_its_tiles(tracer: Program) -> None:
    at_once = run(tracer, SMALL.encode(whole(SMALL))).output
    left = run(tracer, SMALL.encode(Tile(0, 0, 20, 36))).output
    right = run(tracer, SMALL.encode(Tile(20, 0, 44, 36))).output
    rows = [left[60 * y : 60 * (y + 1)] + right[132 * y : 132 * (y + 1)] for y in range(36)]
    assert b"".join(rows) == at_once


def test_the_seed_changes_the_picture(tracer: Program) -> None:
    other = noria(64, 36, 4, seed=2)
    assert run(tracer, SMALL.encode(whole(SMALL))).output != run(tracer, other.encode(whole(other))).output


def test_the_sky_is_bright_and_the_picture_has_colours(pool: WorkerPool) -> None:
    image = render(SMALL, pool, quiet=True).image
    red, green, blue = (sum(image.getpixel((x, 1))[i] for x in range(64)) / 64 for i in range(3))  # type: ignore[index,misc]
    assert red > blue > green > 100
    colours = image.getcolors(64 * 36)
    assert colours is not None
    assert len(colours) > 500


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


GOOD = SMALL.encode(Tile(0, 0, 4, 4))
FIRST_SHAPE = 8 + 10 * 4 + 31 * 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a scene"),
        (b"\x89PNG" + GOOD, "not a scene"),
        (GOOD[: len(MAGIC)], "not a scene"),
        (GOOD[:-1], "longer or shorter"),
        (GOOD + b"\0", "longer or shorter"),
        (patched(GOOD, 8, struct.pack("<I", 0)), "1 to 65536"),
        (patched(GOOD, 16, struct.pack("<I", 64)), "not within the picture"),
        (patched(GOOD, 24, struct.pack("<I", 2**32 - 1)), "not within the picture"),
        (patched(GOOD, 32, struct.pack("<I", 0)), "at least 1"),
        (patched(GOOD, 44, struct.pack("<I", 1025)), "at most 1024"),
        (patched(GOOD, 48, struct.pack("<d", float("nan"))), "within a billion"),
        (patched(GOOD, FIRST_SHAPE, struct.pack("<I", 9)), "unknown material"),
        (patched(GOOD, FIRST_SHAPE + 56, struct.pack("<d", -1.0)), "radius above 0"),
    ],
)
def test_bad_input_is_refused_by_name(tracer: Program, data: bytes, reason: str) -> None:
    outcome = run(tracer, data)
    assert outcome.status == 1
    assert reason in outcome.log.decode()


def test_a_tile_that_fails_is_named(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "FUEL_LIMIT", 1000)
    with pytest.raises(RenderFailed, match=r"the tile at .* ended with OUT_OF_FUEL"):
        render(SMALL, pool, quiet=True)


def script(*arguments: str | int | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.render.render", "--local", *map(str, arguments)],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "NORIA_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    done = script(
        "--width", 48, "--height", 27, "--samples", 1, "--output", tmp_path / "small.png", folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "receipts root 0x" in done.stdout
    with Image.open(tmp_path / "small.png") as image:
        assert image.size == (48, 27)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--width", "0"], "--width is from 1 to 8192"),
        (["--output", "/nowhere/noria.png"], "/noria.png is no file"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = script("--height", 9, "--samples", 1, *arguments, folder=tmp_path)
    assert done.returncode != 0
    assert words in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_module_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    build(tmp_path / "again.wasm")
    assert (tmp_path / "again.wasm").read_bytes() == MODULE.read_bytes()
