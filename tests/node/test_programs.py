"""Pinned programs: served to peers, and fetched from them by a node that lacks one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from noria.execution.spec import dev_spec
from noria.network.blobs import PROTOCOL, REQUEST, BlobKind, BlobName, BlobServer
from noria.network.transport import Request, Transport
from noria.node.config import NodeConfig
from noria.node.full import FullNode
from noria.node.programs import ProgramFiles, ProgramsMissing, fetch_programs, find_programs
from noria.work.ids import ProgramId, program_id
from noria.work.runtimes.errors import RuntimeMissing
from noria.work.runtimes.local import installed
from tests.chain.drawn import PROGRAM, Network
from tests.network.settings import config, connected, eventually
from tests.work.modules import SPIN

MODULE = bytes(range(251)) * 4_000
"""Four pieces; what is fetched need not run."""
SETTINGS = replace(config(), protocols=(replace(PROTOCOL, timeout_seconds=5.0),))


def shelf(folder: Path, data: bytes = MODULE) -> dict[ProgramId, Path]:
    path = folder / "served.wasm"
    path.write_bytes(data)
    return {program_id(data): path}


def serve(node: Transport, programs: dict[ProgramId, Path]) -> BlobServer:
    server = BlobServer(ProgramFiles(programs))
    node.serve(PROTOCOL.name, server.answer)
    return server


async def test_a_missing_program_comes_from_a_peer_that_has_it(tmp_path: Path) -> None:
    async with connected(SETTINGS, SETTINGS, SETTINGS) as (reader, empty, full):
        servers = [serve(empty, {}), serve(full, shelf(tmp_path))]
        found = await fetch_programs(reader, [program_id(MODULE)], tmp_path / "programs")
        (path,) = found.values()
        assert path.read_bytes() == MODULE
        assert path.parent == tmp_path / "programs"
        for server in servers:
            server.close()


async def test_what_has_come_is_not_fetched_again(tmp_path: Path) -> None:
    asked: list[int] = []
    broken = True

    def flaky(server: BlobServer) -> Callable[[Request], object]:
        async def answer(request: Request) -> bytes:
            _, what, _, place = REQUEST.unpack(request.data)
            if what:
                asked.append(place)
            if what and place == 3 and broken:
                await asyncio.sleep(60)
            return await server.answer(request)

        return answer

    async with connected(SETTINGS, SETTINGS) as (reader, full):
        server = BlobServer(ProgramFiles(shelf(tmp_path)))
        full.serve(PROTOCOL.name, flaky(server))  # type: ignore[arg-type]
        with pytest.raises(ProgramsMissing, match=r"on this machine, and peers have not sent it \(.+\)"):
            await fetch_programs(reader, [program_id(MODULE)], tmp_path, patience_seconds=1.0)
        assert (tmp_path / f"{program_id(MODULE).hex()}.wasm.partial").exists()
        asked.clear()
        broken = False
        await fetch_programs(reader, [program_id(MODULE)], tmp_path)
        assert set(asked) == {3}
        server.close()


async def test_a_program_with_changed_bytes_is_refused_and_the_true_one_taken(tmp_path: Path) -> None:
    async with connected(SETTINGS, SETTINGS, SETTINGS) as (reader, liar, honest):
        programs = shelf(tmp_path)
        server = BlobServer(ProgramFiles(programs))

        async def lie(request: Request) -> bytes:
            _, what, _, _ = REQUEST.unpack(request.data)
            answer = await server.answer(request)
            return b"?" + answer[1:] if what else answer

        async def late(request: Request) -> bytes:
            await asyncio.sleep(0.3)
            return await server.answer(request)

        liar.serve(PROTOCOL.name, lie)
        honest.serve(PROTOCOL.name, late)
        (path,) = (await fetch_programs(reader, [program_id(MODULE)], tmp_path / "own")).values()
        assert path.read_bytes() == MODULE
        await eventually(lambda: [ban.peer for ban in reader.bans()] == [liar.peer_id])
        server.close()


async def test_nobody_who_has_it_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    async with connected(SETTINGS, SETTINGS) as (reader, empty):
        server = serve(empty, {})
        with pytest.raises(ProgramsMissing, match=r"not here.*put its module into a folder"):
            await fetch_programs(reader, [program_id(MODULE)], tmp_path, patience_seconds=0.5)
        server.close()
    async with connected(SETTINGS) as (alone,):
        with pytest.raises(ProgramsMissing, match="no peer is connected"):
            await fetch_programs(alone, [program_id(MODULE)], tmp_path, patience_seconds=0.2)


async def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with connected(SETTINGS) as (alone,):
        with pytest.raises(ProgramsMissing, match=r"cannot be kept in .*: Not a directory; mend that"):
            await fetch_programs(alone, [program_id(MODULE)], tmp_path / "file" / "programs")


def test_blobs_that_are_no_programs_and_files_that_are_gone_are_not_here(tmp_path: Path) -> None:
    programs = shelf(tmp_path)
    files, (name,) = ProgramFiles(programs), programs
    assert files.open(BlobName(BlobKind.BLOB, name)) is None
    file = files.open(BlobName(BlobKind.PROGRAM, name))
    assert file is not None
    file.close()
    programs[name].unlink()
    assert files.open(BlobName(BlobKind.PROGRAM, name)) is None


def test_an_installed_runtime_is_found(tmp_path: Path) -> None:
    try:
        runtime = installed("python")
    except RuntimeMissing:
        pytest.skip("the runtime is not installed")
    base = dev_spec([], 1_800_000_000)
    spec = dataclasses.replace(base, programs=(runtime.program_id,))
    assert find_programs(spec, []) == ({runtime.program_id: runtime.path}, ())


async def test_a_node_without_a_pinned_program_fetches_it_and_starts(tmp_path: Path) -> None:
    spec = tmp_path / "chain.json"
    spec.write_bytes(Network(tmp_path, 1).spec.to_json())
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "spin.wasm").write_bytes(SPIN)
    base = NodeConfig(spec=spec, listen=("/ip4/127.0.0.1/tcp/0",))
    with pytest.raises(ProgramsMissing, match="no peer can be asked"):
        await FullNode(dataclasses.replace(base, data_dir=tmp_path / "alone"), "noria/0").start()
    has = dataclasses.replace(base, data_dir=tmp_path / "has", programs=modules)
    async with FullNode(has, "noria/0") as first:
        lacks = dataclasses.replace(
            base, data_dir=tmp_path / "lacks", bootstrap=(first.transport.addresses[0],)
        )
        async with FullNode(lacks, "noria/0") as second:
            path = second.folder.programs / f"{PROGRAM.hex()}.wasm"
            assert path.read_bytes() == SPIN
        # And it need not ask again, even alone.
        again = dataclasses.replace(lacks, bootstrap=())
        async with FullNode(again, "noria/0"):
            pass
