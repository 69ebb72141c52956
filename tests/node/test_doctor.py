from __future__ import annotations

import resource
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from noria.node import doctor
from noria.node.doctor import GIB, MIB


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_every_check_has_a_name_and_a_result(tmp_path: Path) -> None:
    port = free_port()
    results = doctor.run_checks(data_dir=tmp_path / "not" / "yet", ports=[port])
    assert [result.name for result in results] == [
        "versions", "clock", f"port {port}", "disk", "memory", "open files",
    ]  # fmt: skip
    by_name = {result.name: result for result in results}
    assert by_name["versions"].status == "ok", by_name["versions"].detail
    assert by_name[f"port {port}"].status == "ok"
    assert all(result.advice for result in results if result.status != "ok")
    assert not (tmp_path / "not").exists(), "a check changes nothing"


def test_a_taken_port_fails() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = doctor.check_port("127.0.0.1", listener.getsockname()[1])
    assert result.status == "fail"
    assert "in use" in result.detail
    assert "--port" in result.advice


def test_a_host_that_is_not_ours_fails() -> None:
    assert doctor.check_port("192.0.2.1", 8545).status == "fail"


def clock(wall: list[float], monotonic: list[float]) -> doctor.CheckResult:
    slept: list[float] = []
    result = doctor.check_clock(lambda: wall.pop(0), lambda: monotonic.pop(0), slept.append)
    assert len(slept) <= 1
    return result


def test_a_clock_that_shows_the_past_fails() -> None:
    result = clock([0.0], [0.0])
    assert result.status == "fail"
    assert "1970-01-01" in result.detail


def test_a_clock_that_is_set_meanwhile_warns() -> None:
    assert clock([1.8e9, 1.8e9 + 0.25], [5.0, 5.25]).status == "ok"
    result = clock([1.8e9, 1.8e9 + 60.25], [5.0, 5.25])
    assert result.status == "warn"
    assert "+60.000 s" in result.detail
    assert clock([1.8e9, 1.8e9 - 1], [5.0, 5.25]).status == "warn"


@pytest.mark.parametrize(("free", "status"), [(6 * GIB, "ok"), (5 * GIB - 1, "warn"), (GIB // 2 - 1, "fail")])
def test_the_disk_needs_room(free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    result = doctor.check_disk(tmp_path)
    assert result.status == status
    assert bool(result.advice) == (status != "ok")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = doctor.check_disk(tmp_path / "file")
    assert (result.name, result.status) == ("disk", "fail")


def test_a_folder_that_cannot_be_written_fails() -> None:
    # Not even root can write here.
    result = doctor.check_disk(Path("/proc"))
    assert (result.status, result.detail[:24]) == ("fail", "/proc cannot be written:")


@pytest.mark.parametrize(
    ("available", "allowed", "status"),
    [
        (2 * GIB, "max", "ok"),
        (2 * GIB, str(8 * GIB), "ok"),
        (GIB - MIB, "max", "warn"),
        (8 * GIB, str(700 * MIB), "warn"),
        (8 * GIB, str(300 * MIB), "fail"),
        (200 * MIB, "max", "fail"),
    ],
)
def test_memory_is_what_the_machine_and_the_group_leave(
    available: int, allowed: str, status: str, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {available // 1024} kB\n")
    (tmp_path / "memory.max").write_text(allowed + "\n")
    (tmp_path / "memory.current").write_text(str(100 * MIB))
    assert doctor.check_memory(tmp_path / "meminfo", tmp_path).status == status


def test_what_cannot_be_checked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.CheckResult:
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "check_memory", broken)
    result = next(result for result in doctor.run_checks(ports=[]) if result.name == "memory")
    assert (result.status, result.detail) == ("warn", "could not be checked: no such thing")


def test_few_open_files_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, status in ((256, "warn"), (1_024, "ok"), (resource.RLIM_INFINITY, "ok")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, resource.RLIM_INFINITY))
        assert doctor.check_open_files().status == status


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", (*doctor.LIBRARIES, "no-such-library"))
    result = doctor.check_versions()
    assert result.status == "fail"
    assert "no-such-library" in result.detail
