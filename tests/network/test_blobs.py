"""Blobs from several peers, some of which lie: what arrives is right, and liars are banned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria._core import blake3_leaf, blake3_root
from noria.network.blob_transfer import BlobTooLong, BlobUnavailable, fetch
from noria.network.blobs import (
    FILES_OPEN,
    PIECE_BYTES,
    PROTOCOL,
    REQUEST,
    BlobKind,
    BlobName,
    BlobServer,
    leaf,
    piece_count,
    read_piece,
)
from noria.network.config import Budget, TransportConfig
from noria.network.errors import Refusal
from noria.network.peers import PeerId
from noria.network.transport import Request, Transport
from noria.primitives.hashes import blake3
from noria.work.ids import blob_id, program_id
from tests.consensus.hostile import mutated
from tests.network.settings import config, connected, eventually

Handler = Callable[[Request], object]


def blob(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def name_of(data: bytes, kind: BlobKind = BlobKind.BLOB) -> BlobName:
    return BlobName(kind, blob_id(data) if kind is BlobKind.BLOB else program_id(data))


class Shelf:
    """Blobs in files."""

    def __init__(self, folder: Path, *blobs: bytes) -> None:
        self.files: dict[BlobName, Path] = {}
        self.opened: list[BinaryIO] = []
        for number, data in enumerate(blobs):
            path = folder / f"{number}"
            path.write_bytes(data)
            for kind in BlobKind:
                self.files[name_of(data, kind)] = path

    def open(self, name: BlobName) -> BinaryIO | None:
        if (path := self.files.get(name)) is None:
            return None
        file = path.open("rb")
        self.opened.append(file)
        return file


def settings(**changes: object) -> TransportConfig:
    return replace(config(**changes), protocols=(replace(PROTOCOL, timeout_seconds=2.0),))


class Liar:
    """Serves a blob, except what it changes."""

    def __init__(self, server: BlobServer, change: Callable[[int, int, bytes], bytes]) -> None:
        self.server, self.change = server, change

    async def answer(self, request: Request) -> bytes:
        _, what, _, place = REQUEST.unpack(request.data)
        return self.change(what, place, await self.server.answer(request))


async def fetched(
    folder: Path, data: bytes, nodes: tuple[Transport, ...], *, bytes_max: int = 1 << 30
) -> bytes:
    reader, *others = nodes
    path = folder / "fetched"
    await fetch(reader, name_of(data), [node.peer_id for node in others], path, bytes_max=bytes_max)
    assert not path.with_name("fetched.partial").exists()
    return path.read_bytes()


TAG = len(BlobKind.BLOB.tag)


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        PIECE_BYTES - TAG,
        PIECE_BYTES - TAG + 1,
        2 * PIECE_BYTES - TAG,
        3 * PIECE_BYTES - TAG + 1,
        5_000_000,
    ],
)
async def test_a_blob_of_any_size_arrives_whole(tmp_path: Path, size: int) -> None:
    data = blob(size)
    server = BlobServer(Shelf(tmp_path, data))
    async with connected(settings(), settings()) as nodes:
        nodes[1].serve(PROTOCOL.name, server.answer)
        assert await fetched(tmp_path, data, tuple(nodes)) == data
    server.close()


def test_the_values_of_the_pieces_give_the_name(tmp_path: Path) -> None:
    data = blob(1_500_000)
    path = tmp_path / "blob"
    path.write_bytes(data)
    for kind in BlobKind:
        name = name_of(data, kind)
        count = piece_count(len(data), kind)
        assert count == 6
        with path.open("rb") as file:
            pieces = [read_piece(file, name, place) for place in range(count)]
        leaves = b"".join(leaf(name, place, piece, count) for place, piece in enumerate(pieces))
        assert blake3_root(leaves) == name.id == blake3(kind.tag + data)


async def test_several_peers_share_the_work(tmp_path: Path) -> None:
    data = blob(6_000_000)
    server = BlobServer(Shelf(tmp_path, data))
    served: dict[int, int] = {}

    def counting(number: int) -> Callable[[Request], object]:
        async def answer(request: Request) -> bytes:
            served[number] = served.get(number, 0) + 1
            return await server.answer(request)

        return answer

    async with connected(settings(), settings(), settings(), settings()) as nodes:
        for number, node in enumerate(nodes[1:]):
            node.serve(PROTOCOL.name, counting(number))  # type: ignore[arg-type]
        assert await fetched(tmp_path, data, tuple(nodes)) == data
    assert len(served) == 3
    assert min(served.values()) >= 3
    assert sum(served.values()) <= 23 + 3 + 6
    server.close()


def wrong_piece(what: int, place: int, answer: bytes) -> bytes:
    return answer[:-1] + bytes([answer[-1] ^ 1]) if what == 1 and place == 2 else answer


def wrong_values(what: int, place: int, answer: bytes) -> bytes:
    return answer if what else bytes(32) + answer[32:]


def inner_nodes(what: int, place: int, answer: bytes) -> bytes:
    """Answer with a shorter list that gives the same name."""
    if what:
        return answer
    return join(answer[:128]) + join(answer[128:])


def join(leaves: bytes) -> bytes:
    """Return the value of an inner node: what no piece has."""
    return bytes(32) if not leaves else blake3_root(leaves)


def cut_piece(what: int, place: int, answer: bytes) -> bytes:
    return answer[: len(answer) // 2] if what else answer


def no_values(what: int, place: int, answer: bytes) -> bytes:
    return b"" if what == 0 else answer


@pytest.mark.parametrize("lie", [wrong_piece, wrong_values, inner_nodes, cut_piece, no_values])
async def test_a_liar_is_banned_and_the_blob_arrives(
    tmp_path: Path, lie: Callable[[int, int, bytes], bytes]
) -> None:
    data = blob(8 * PIECE_BYTES - 100)
    server = BlobServer(Shelf(tmp_path, data))
    async with connected(settings(), settings(), settings()) as nodes:
        reader, liar, honest = nodes
        liar.serve(PROTOCOL.name, Liar(server, lie).answer)
        honest.serve(PROTOCOL.name, server.answer)
        assert await fetched(tmp_path, data, tuple(nodes)) == data
        if lie is not wrong_piece:  # Which peer is asked for that piece is chance.
            await eventually(lambda: [ban.peer for ban in reader.bans()] == [liar.peer_id])
        assert honest.peer_id in [peer.peer for peer in reader.peers()]
    server.close()


async def test_a_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = blob(20 * PIECE_BYTES)
    server = BlobServer(Shelf(tmp_path, data))
    asked: list[int] = []
    stop_after = 8

    async def answer(request: Request) -> bytes:
        _, what, _, place = REQUEST.unpack(request.data)
        if what:
            if len(asked) >= stop_after:
                raise Refusal("enough")
            asked.append(place)
        return await server.answer(request)

    async with connected(settings(), settings()) as nodes:
        nodes[1].serve(PROTOCOL.name, answer)
        with pytest.raises(BlobUnavailable, match="enough"):
            await fetched(tmp_path, data, tuple(nodes))
        partial = tmp_path / "fetched.partial"
        assert partial.exists()
        # One piece rots meanwhile: it is fetched again.
        with partial.open("r+b") as file:
            file.seek(3 * PIECE_BYTES)
            file.write(b"rot")
        first, stop_after = list(asked), 1000
        asked.clear()
        assert await fetched(tmp_path, data, tuple(nodes)) == data
        assert len(set(first) & set(asked)) <= 2 + 1
        assert 3 in asked
    server.close()


async def test_a_peer_that_hangs_delays_and_does_not_hinder(tmp_path: Path) -> None:
    data = blob(6 * PIECE_BYTES)
    server = BlobServer(Shelf(tmp_path, data))

    async def hang(request: Request) -> bytes:
        if REQUEST.unpack(request.data)[1]:
            await asyncio.Event().wait()
        return await server.answer(request)

    async with connected(settings(), settings(), settings()) as nodes:
        nodes[1].serve(PROTOCOL.name, hang)
        nodes[2].serve(PROTOCOL.name, server.answer)
        assert await fetched(tmp_path, data, tuple(nodes)) == data
        assert nodes[0].bans() == []
    server.close()


async def test_a_budget_that_is_used_up_only_slows(tmp_path: Path) -> None:
    data = blob(8 * PIECE_BYTES)
    server = BlobServer(Shelf(tmp_path, data))
    async with connected(settings(), settings(peer_requests=Budget(4, 4))) as nodes:
        nodes[1].serve(PROTOCOL.name, server.answer)
        assert await fetched(tmp_path, data, tuple(nodes)) == data
    server.close()


async def test_what_cannot_be_had_is_named(tmp_path: Path) -> None:
    data = blob(3 * PIECE_BYTES)
    server = BlobServer(Shelf(tmp_path, data))
    async with connected(settings(), settings()) as nodes:
        nodes[1].serve(PROTOCOL.name, server.answer)
        with pytest.raises(BlobUnavailable, match="not here"):
            await fetched(tmp_path, b"another", tuple(nodes))
        with pytest.raises(BlobUnavailable, match="nobody was asked"):
            await fetched(tmp_path, data, tuple(nodes[:1]))
        for most in (PIECE_BYTES, 3 * PIECE_BYTES - 1):
            with pytest.raises(BlobTooLong, match=f"longer than {most} bytes"):
                await fetched(tmp_path, data, tuple(nodes), bytes_max=most)
        assert await fetched(tmp_path, data, tuple(nodes), bytes_max=3 * PIECE_BYTES) == data
    server.close()


async def ask(server: BlobServer, data: bytes) -> bytes:
    return await server.answer(Request(PROTOCOL.name, PeerId("x"), data))


async def test_a_server_refuses_what_is_no_request(tmp_path: Path) -> None:
    data = blob(1000)
    server = BlobServer(Shelf(tmp_path, data))
    good = REQUEST.pack(0, 1, blob_id(data), 0)
    assert await ask(server, good) == data
    for bad in (b"", good[:-1], good + b"x", b"\xff" + good[1:], REQUEST.pack(0, 1, bytes(32), 0)):
        with pytest.raises(Refusal):
            await ask(server, bad)
    for place in (1, 2**32 - 1):
        with pytest.raises(Refusal, match="no such piece"):
            await ask(server, REQUEST.pack(0, 1, blob_id(data), place))
    server.close()


STORED = [blob(1000), blob(2 * PIECE_BYTES + 1)]
REQUESTS = [
    REQUEST.pack(kind.value, what, name_of(data, kind).id, place)
    for data in STORED
    for kind in BlobKind
    for what, place in ((0, 0), (1, 0), (1, 2))
]


LIKE_REQUESTS = st.one_of(
    st.binary(max_size=60),
    mutated(REQUESTS),
    st.builds(
        REQUEST.pack,
        st.integers(0, 3) | st.integers(0, 255),
        st.integers(0, 3) | st.integers(0, 255),
        st.sampled_from([name_of(data, kind).id for data in STORED for kind in BlobKind]),
        st.integers(0, 3) | st.integers(0, 2**32 - 1),
    ),
)


@given(requests=st.lists(LIKE_REQUESTS, max_size=20))
def test_any_bytes_are_a_request_or_refused(
    tmp_path_factory: pytest.TempPathFactory, requests: list[bytes]
) -> None:
    async def story() -> None:
        server = BlobServer(Shelf(tmp_path_factory.mktemp("shelf"), *STORED))
        for request in requests:
            try:
                found = await ask(server, request)
            except Refusal:
                continue
            kind, what, name, place = REQUEST.unpack(request)
            data = next(data for data in STORED if name_of(data, BlobKind(kind)).id == name)
            assert what in (0, 1)
            if what == 1:
                assert found == read_part(data, place, BlobKind(kind))
            else:
                assert len(found) == 32 * piece_count(len(data), BlobKind(kind))
        server.close()

    asyncio.run(story())


def read_part(data: bytes, place: int, kind: BlobKind) -> bytes:
    """A piece of a blob, cut from all that is hashed."""
    whole = kind.tag + data
    return whole[place * PIECE_BYTES : (place + 1) * PIECE_BYTES].removeprefix(b"" if place else kind.tag)


async def test_a_server_keeps_few_files_open(tmp_path: Path) -> None:
    blobs = [blob(1000 + number) for number in range(3 * FILES_OPEN)]
    shelf = Shelf(tmp_path, *blobs)
    server = BlobServer(shelf)
    for _ in range(2):
        for data in blobs:
            leaves, piece = await asyncio.gather(
                ask(server, REQUEST.pack(0, 0, blob_id(data), 0)),
                ask(server, REQUEST.pack(0, 1, blob_id(data), 0)),
            )
            assert (leaves, piece) == (blob_id(data), data)
            assert sum(not file.closed for file in shelf.opened) <= FILES_OPEN
    server.close()
    assert all(file.closed for file in shelf.opened)


def test_a_piece_that_cannot_be_one_is_refused() -> None:
    for place, data, alone in (
        (0, b"", False),
        (0, bytes(PIECE_BYTES + 1), False),
        (1, b"x", True),
        (2**63, b"x", False),
    ):
        with pytest.raises(ValueError, match="piece"):
            blake3_leaf(place, data, alone)
    with pytest.raises(ValueError, match="32 bytes each"):
        blake3_root(b"x" * 33)
