"""Whoever knows one peer finds the others, and what peers tell cannot be made use of against anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.wire import InvalidMessage
from noria.network.config import ProtocolSpec
from noria.network.errors import DialFailed, InvalidAddress, Refusal, RequestTimeout
from noria.network.peer_exchange import (
    DIALS_PER_MINUTE,
    DIALS_WAITING,
    DISAPPOINTMENT,
    FRUITLESS_MAX,
    LIE,
    TAKEN_MAX,
    TRIES_MAX,
    ExchangePace,
    PeerExchange,
)
from noria.network.peer_lists import (
    ADDRESSES_MAX,
    ANSWER_BYTES_MAX,
    PEERS_MAX,
    REQUEST_BYTES_MAX,
    PeerRecord,
    Scope,
    SocketAddress,
    decode_peers,
    decode_peers_request,
    encode_peers,
    encode_peers_request,
    read_address,
    tellable,
)
from noria.network.peers import PeerEvent, PeerEventKind, PeerId, PeerInfo
from noria.network.transport import Request, Transport, peer_id
from noria.primitives.rlp import encode
from noria.primitives.subscriptions import Subscription, Topic
from tests.consensus.hostile import bytes_like, check_decoder
from tests.network.settings import config, eventually, seed
from tests.virtual_time import run_virtually

PROTOCOL = "/test/peers/1"
SPEC = ProtocolSpec(PROTOCOL, REQUEST_BYTES_MAX, ANSWER_BYTES_MAX, 10.0)
QUICK = ExchangePace(look=0.1, ask=0.2, retry=60.0)


def name(number: int) -> PeerId:
    return peer_id(seed(number))


def socket(text: str) -> SocketAddress:
    found = read_address(text)
    assert found is not None
    return found


def info(number: int, address: str, *listens: str, **changes: Any) -> PeerInfo:
    base = PeerInfo(name(number), address, listens, False, "noria/1", (PROTOCOL,), 0.0, None, 1.0)
    return replace(base, **changes)


# ---------------------------------------------------------------- lists


@given(
    st.lists(
        st.tuples(
            st.integers(1, 99),
            st.lists(st.tuples(st.ip_addresses(), st.integers(0, 65535)), max_size=ADDRESSES_MAX),
        ),
        max_size=PEERS_MAX,
    )
)
def test_a_list_comes_back_as_it_was_told(told: list[tuple[int, list[tuple[Any, int]]]]) -> None:
    records = [
        PeerRecord(name(number), tuple(SocketAddress(ip, port) for ip, port in addresses))
        for number, addresses in told
    ]
    encoded = encode_peers(records)
    assert len(encoded) <= ANSWER_BYTES_MAX
    plain = [
        [(getattr(a.ip, "ipv4_mapped", None) or a.ip, a.port) for a in record.addresses] for record in records
    ]
    decoded = decode_peers(encoded)
    assert [record.peer for record in decoded] == [record.peer for record in records]
    assert [[(a.ip, a.port) for a in record.addresses] for record in decoded] == plain


TOLD = [
    encode_peers(records)
    for records in (
        [],
        [PeerRecord(name(1), ())],
        [PeerRecord(name(1), (socket("/ip4/192.0.2.1/tcp/30400"), socket("/ip6/2001:db8::1/tcp/1")))],
        [PeerRecord(name(n), (socket(f"/ip4/192.0.2.{n}/tcp/3040{n}"),)) for n in range(1, 9)],
    )
]


@given(bytes_like(TOLD))
def test_any_bytes_are_a_list_or_a_named_error(data: bytes) -> None:
    try:
        found = decode_peers(data)
    except InvalidMessage:
        return
    assert len(found) <= PEERS_MAX
    assert all(len(record.addresses) <= ADDRESSES_MAX for record in found)
    # One address has two encodings, and nothing else has.
    again = encode_peers(found)
    assert decode_peers(again) == found
    assert again == data or b"\xff\xff" in data


@given(bytes_like([encode_peers_request(count) for count in (1, 16, PEERS_MAX)]))
def test_any_bytes_are_a_request_for_peers_or_a_named_error(data: bytes) -> None:
    check_decoder(data, decode_peers_request, encode_peers_request)


@pytest.mark.parametrize(
    "told",
    [
        [[name(1).encode(), [b"\x7f\0\0\1\1\1"] * (ADDRESSES_MAX + 1)]],
        [[name(1).encode(), []]] * (PEERS_MAX + 1),
        [[b"no name", []]],
        [[b"0" * 46, []]],
        [[name(1).encode(), [b"\x7f\0\0\1"]]],
        [[name(1).encode(), [bytes(17)]]],
        [[name(1).encode()]],
        [[name(1).encode(), [], b""]],
        [b"x"],
    ],
)
def test_lists_that_are_none_are_refused(told: Any) -> None:
    with pytest.raises(InvalidMessage):
        decode_peers(encode(told))


@pytest.mark.parametrize("count", [0, PEERS_MAX + 1, 255])
def test_so_many_peers_are_told_and_no_more(count: int) -> None:
    with pytest.raises(InvalidMessage):
        decode_peers_request(encode_peers_request(count))
    assert decode_peers_request(encode_peers_request(PEERS_MAX)) == PEERS_MAX


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("/ip4/127.0.0.1/tcp/1", Scope.LOOPBACK),
        ("/ip6/::1/tcp/1", Scope.LOOPBACK),
        ("/ip6/::ffff:127.0.0.1/tcp/1", Scope.LOOPBACK),
        ("/ip4/10.1.2.3/tcp/1", Scope.PRIVATE),
        ("/ip4/192.168.0.1/tcp/1", Scope.PRIVATE),
        ("/ip4/169.254.1.1/tcp/1", Scope.PRIVATE),
        ("/ip4/100.64.0.1/tcp/1", Scope.PRIVATE),
        ("/ip6/fd00::1/tcp/1", Scope.PRIVATE),
        ("/ip6/fe80::1/tcp/1", Scope.PRIVATE),
        ("/ip4/8.8.8.8/tcp/1", Scope.PUBLIC),
        ("/ip6/2606:4700::1111/tcp/1", Scope.PUBLIC),
        ("/ip4/8.8.8.8/tcp/0", None),
        ("/ip4/0.0.0.0/tcp/1", None),
        ("/ip4/224.0.0.1/tcp/1", None),
        ("/ip4/255.255.255.255/tcp/1", None),
        ("/ip6/ff02::1/tcp/1", None),
    ],
)
def test_addresses_reach_so_far(text: str, scope: Scope | None) -> None:
    assert socket(text).scope is scope


@pytest.mark.parametrize(
    "text", ["", "/dns4/a.example/tcp/1", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/65536"]
)
def test_other_addresses_are_not_told(text: str) -> None:
    assert read_address(text) is None


def test_what_is_told_reaches_at_least_as_far_as_who_asks() -> None:
    here, near, far = "/ip4/127.0.0.1/tcp/9", "/ip4/10.0.0.2/tcp/9", "/ip4/8.8.8.8/tcp/9"
    peers = [info(1, "/ip4/127.0.0.1/tcp/5000", here, near, far)]
    for address, told in (
        ("/ip4/127.0.0.1/tcp/6000", [here, near, far]),
        ("/ip4/10.0.0.7/tcp/6000", [near, far]),
        ("/ip4/9.9.9.9/tcp/6000", [far]),
        ("/dns4/a.example/tcp/1", [far]),
    ):
        (record,) = tellable(peers, info(2, address))
        assert record.addresses == tuple(map(socket, told))
    assert tellable([info(1, "/ip4/127.0.0.1/tcp/5000", here)], info(2, "/ip4/10.0.0.7/tcp/1")) == []


def test_only_what_was_dialled_or_told_by_the_peer_itself_is_passed_on() -> None:
    asker = info(9, "/ip4/127.0.0.1/tcp/1")
    incoming, outgoing = "/ip4/127.0.0.1/tcp/50001", "/ip4/127.0.0.1/tcp/50002"
    peers = [info(1, incoming), info(2, outgoing, outbound=True), asker]
    assert [record.peer for record in tellable(peers, asker)] == [name(2)]
    # Who has not said what it is, or is in bad standing, is nobody to pass on.
    assert tellable([info(3, outgoing, outbound=True, agent="")], asker) == []
    assert tellable([info(3, outgoing, outbound=True, score=-1.0)], asker) == []


# ---------------------------------------------------------------- real peers


async def test_six_nodes_that_know_one_find_each_other() -> None:
    async with AsyncExitStack() as stack:
        nodes: list[Transport] = []
        for number in range(1, 7):
            bootstrap = nodes[0].addresses[:1] if nodes else []
            node = await Transport.start(
                seed(number), replace(config(*bootstrap), protocols=(SPEC,), peers_wanted=5)
            )
            stack.push_async_callback(node.close)
            nodes.append(node)
            exchange = PeerExchange(node, PROTOCOL, wanted=5, pace=QUICK)
            exchange.start()
            stack.push_async_callback(exchange.stop)
        await eventually(lambda: all(len(node.peers()) == 5 for node in nodes))
        # Nobody is held in bad standing for what it told.
        assert not any(node.bans() for node in nodes)


# ---------------------------------------------------------------- hostile tellers


class Stub:
    """A transport with one peer, which tells what a test wants; nobody else is there."""

    def __init__(self, teller: PeerInfo, answer: bytes, present: Sequence[str] = ()) -> None:
        self.infos, self.answer, self.present = [teller], answer, present
        self.asked, self.dialled = 0, list[str]()
        self.scores: list[float] = []
        self.handler: Any = None
        self.feed: Topic[PeerEvent] = Topic()

    @property
    def peer_id(self) -> PeerId:
        return name(100)

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_seconds: float | None = None
    ) -> bytes:
        self.asked += 1
        if not self.answer:
            raise RequestTimeout("silence")
        return self.answer

    def serve(self, protocol: str, handler: Any) -> None:
        self.handler = handler

    def events(self) -> Subscription[PeerEvent]:
        return self.feed.subscribe(10)

    def peers(self) -> Sequence[PeerInfo]:
        return self.infos

    async def dial(self, address: str) -> PeerId:
        self.dialled.append(address)
        await asyncio.sleep(0.5)
        if "/p2p/1111" in address:
            raise InvalidAddress(address)
        if not any(address.startswith(present) for present in self.present):
            raise DialFailed("nobody is there")
        peer = PeerId(address.rpartition("/")[2])
        self.infos.append(replace(self.infos[0], peer=peer, address=address.partition("/p2p/")[0]))
        return peer

    def score(self, peer: PeerId, delta: float, reason: str) -> None:
        self.scores.append(delta)


def told(count: int, ip: str = "8.8.0.0", *, first: int = 200, each: int = 1) -> bytes:
    start = int(ip_address(ip))
    return encode_peers(
        [
            PeerRecord(
                name(first + number),
                tuple(SocketAddress(ip_address(start + number * each + at), 9) for at in range(each)),
            )
            for number in range(count)
        ]
    )


def lived(stub: Stub, seconds: float, *, wanted: int = 16) -> Stub:
    """Let peer exchange run over a stub for a time."""

    async def story() -> None:
        exchange = PeerExchange(stub, PROTOCOL, wanted=wanted)  # type: ignore[arg-type]
        exchange.start()
        await asyncio.sleep(seconds)
        await exchange.stop()

    run_virtually(story())
    return stub


PUBLIC = info(1, "/ip4/9.9.9.9/tcp/9")


def test_a_list_of_the_absent_is_dialled_once_and_costs_who_told_it() -> None:
    stub = lived(Stub(PUBLIC, told(PEERS_MAX, each=ADDRESSES_MAX)), 25)
    assert len(stub.dialled) == len(set(stub.dialled)) == TAKEN_MAX * TRIES_MAX
    assert stub.scores == [DISAPPOINTMENT]
    # It is not asked again for an hour.
    assert lived(stub, 600).asked == 2  # once by each life


def test_no_more_is_dialled_than_the_minute_allows_whatever_is_told() -> None:
    class Inventive(Stub):
        async def request(self, *arguments: Any, **options: Any) -> bytes:
            self.asked += 1
            return told(PEERS_MAX, first=1_000 * self.asked, ip=f"8.{self.asked}.0.0", each=2)

        def score(self, peer: PeerId, delta: float, reason: str) -> None:
            self.scores.append(delta)

    stub = Inventive(PUBLIC, b"")
    stub.infos += [info(number, f"/ip4/9.9.9.{number}/tcp/9") for number in range(2, 14)]
    lived(stub, 59)
    assert len(stub.dialled) <= DIALS_PER_MINUTE


def test_peers_that_wait_to_be_dialled_are_bounded_however_many_tell_of_more() -> None:
    class Inventive(Stub):
        async def request(self, *arguments: Any, **options: Any) -> bytes:
            self.asked += 1
            return told(PEERS_MAX, first=1_000 * self.asked, ip=f"8.{self.asked % 256}.0.0", each=2)

        async def dial(self, address: str) -> PeerId:
            await asyncio.sleep(15.0)
            raise DialFailed("nobody is there")

    async def story() -> None:
        stub = Inventive(PUBLIC, b"")
        stub.infos += [info(number, f"/ip4/9.9.9.{number}/tcp/9") for number in range(2, 60)]
        exchange = PeerExchange(stub, PROTOCOL, wanted=64)  # type: ignore[arg-type]
        exchange.start()
        most = 0
        for _ in range(600):
            await asyncio.sleep(1.0)
            most = max(most, len(exchange._dialling_tasks))
        assert most == DIALS_WAITING
        await exchange.stop()
        assert len(exchange._dialling_tasks) == 0

    run_virtually(story())


def test_one_address_under_many_names_is_dialled_once() -> None:
    records = [PeerRecord(name(200 + n), (socket("/ip4/8.8.8.8/tcp/9"),)) for n in range(PEERS_MAX)]
    stub = lived(Stub(PUBLIC, encode_peers(records)), 250)
    assert len(stub.dialled) == 1


def test_a_stranger_cannot_make_this_node_dial_its_own_machine_or_network() -> None:
    inside = [
        "/ip4/127.0.0.1/tcp/22", "/ip4/10.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
    ]  # fmt: skip
    records = [PeerRecord(name(200 + n), (socket(text),)) for n, text in enumerate(inside)]
    assert lived(Stub(PUBLIC, encode_peers(records)), 120).dialled == []
    near = info(1, "/ip4/10.0.0.9/tcp/9")
    assert len(lived(Stub(near, encode_peers(records)), 120).dialled) == 3


def test_the_known_and_this_node_itself_are_not_dialled() -> None:
    records = [PeerRecord(name(n), (socket("/ip4/8.8.8.8/tcp/9"),)) for n in (1, 100)]
    assert lived(Stub(PUBLIC, encode_peers(records)), 120).dialled == []


def test_with_enough_peers_nobody_is_asked() -> None:
    stub = lived(Stub(PUBLIC, told(PEERS_MAX)), 120, wanted=1)
    assert (stub.asked, stub.dialled) == (0, [])


def test_no_more_peers_are_taken_than_are_wanted() -> None:
    stub = lived(Stub(PUBLIC, told(PEERS_MAX), present=["/ip4/8.8."]), 120, wanted=4)
    # Those that were on their way when the last place was taken are let in.
    assert 4 <= len(stub.infos) <= 4 + 3
    assert stub.scores == []


@pytest.mark.parametrize("answer", [b"\xff", b"\xc1\xc0", encode([[b"x", []]])])
def test_an_answer_that_is_none_costs_a_lie(answer: bytes) -> None:
    stub = lived(Stub(PUBLIC, answer), 20)
    assert (set(stub.scores), stub.dialled) == ({LIE}, [])


def test_a_name_that_cannot_be_is_a_lie() -> None:
    records = [PeerRecord(PeerId("1111" + "2" * 44), (socket("/ip4/8.8.8.8/tcp/9"),))]
    assert lived(Stub(PUBLIC, encode_peers(records)), 20).scores == [LIE]


def test_silence_costs_nothing() -> None:
    stub = lived(Stub(PUBLIC, b""), 120)
    assert (stub.scores, stub.dialled) == ([], [])
    assert 2 <= stub.asked <= 5


def test_a_refused_question_has_a_reason() -> None:
    async def story() -> None:
        stub = Stub(PUBLIC, b"")
        exchange = PeerExchange(stub, PROTOCOL, wanted=0)  # type: ignore[arg-type]
        exchange.start()
        for data in (b"", b"\xff" * 4, encode_peers_request(PEERS_MAX + 1)):
            with pytest.raises(Refusal):
                await stub.handler(Request(PROTOCOL, name(1), data))
        with pytest.raises(Refusal, match="not connected"):
            await stub.handler(Request(PROTOCOL, name(2), encode_peers_request(1)))
        stub.infos += [
            info(number, f"/ip4/8.8.8.{number}/tcp/9", outbound=True)
            for number in range(2, 2 + FRUITLESS_MAX)
        ]
        answer = await stub.handler(Request(PROTOCOL, name(1), encode_peers_request(3)))
        assert len(decode_peers(answer)) == 3
        await exchange.stop()

    run_virtually(story())


def test_a_peer_that_is_identified_is_asked_at_once() -> None:
    async def story() -> None:
        stub = Stub(replace(PUBLIC, agent=""), told(1))
        exchange = PeerExchange(stub, PROTOCOL, wanted=4)  # type: ignore[arg-type]
        exchange.start()
        await asyncio.sleep(1.0)
        assert stub.asked == 0
        stub.infos[0] = PUBLIC
        stub.feed.publish(PeerEvent(PeerEventKind.IDENTIFIED, PUBLIC.peer, "", ""))
        await asyncio.sleep(0.1)
        assert stub.asked == 1
        await exchange.stop()

    run_virtually(story())
