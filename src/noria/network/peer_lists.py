"""What nodes tell each other about where peers are (protocol 8). Strict, bounded RLP.

An address is an internet address of 4 or 16 bytes and a port of 2, so that it has one form and nothing in it
needs to be looked up.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from noria.consensus.wire import FieldOutOfRange, InvalidMessage, Reader, TooManyItems, integer_to_bytes
from noria.network.peers import PeerId, PeerInfo
from noria.primitives import rlp

PEERS_MAX: Final = 32
"""Most peers that are told at once."""
ADDRESSES_MAX: Final = 4
"""Most addresses of one peer."""
NAME_BYTES_MAX: Final = 64
REQUEST_BYTES_MAX: Final = 4
_PORT: Final = struct.Struct(">H")
_ADDRESS_BYTES_MAX: Final = 16 + _PORT.size
ANSWER_BYTES_MAX: Final = PEERS_MAX * (NAME_BYTES_MAX + ADDRESSES_MAX * (_ADDRESS_BYTES_MAX + 1) + 8) + 4
_NAME: Final = re.compile(rb"[1-9A-HJ-NP-Za-km-z]{40,64}")
_MULTIADDRESS: Final = re.compile(r"/ip[46]/([0-9a-fA-F.:]{2,45})/tcp/([0-9]{1,5})")


class Scope(IntEnum):
    """From how far an address can be reached. What a peer is told reaches as far as its own, or farther."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An internet address and a port that can be dialled."""

    ip: IPv4Address | IPv6Address
    port: int

    @property
    def scope(self) -> Scope | None:
        """From how far it can be reached; `None` where it is nobody's."""
        if self.port == 0 or self.ip.is_unspecified or self.ip.is_multicast:
            return None
        if self.ip.is_loopback:
            return Scope.LOOPBACK
        if self.ip.is_reserved:
            return None
        return Scope.PUBLIC if self.ip.is_global else Scope.PRIVATE

    def text(self, peer: PeerId) -> str:
        """Return what `noria.network.transport.Transport.dial` takes."""
        return f"/ip{self.ip.version}/{self.ip}/tcp/{self.port}/p2p/{peer}"


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer is said to be."""

    peer: PeerId
    addresses: tuple[SocketAddress, ...]


def read_address(text: str) -> SocketAddress | None:
    """Read an address like ``/ip4/192.0.2.1/tcp/30400``; `None` where it is another kind of address."""
    found = _MULTIADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 0xFFFF:
        return None
    try:
        return SocketAddress(_plain(ip_address(found[1])), int(found[2]))
    except ValueError:
        return None


def tellable(peers: Iterable[PeerInfo], asker: PeerInfo) -> list[PeerRecord]:
    """Return what may be told to a peer: who is in good standing, at addresses that it may be able to reach.

    An address is told if this node has dialled it, or if the peer there says that it listens on it. One of
    this machine or of a private network goes only to peers that are there themselves.
    """
    near = read_address(asker.address)
    least = Scope.PUBLIC if near is None or near.scope is None else near.scope
    found: list[PeerRecord] = []
    for info in peers:
        if info.peer == asker.peer or not info.agent or info.score < 0:
            continue
        texts = [*([info.address] if info.outbound else []), *info.listens]
        read = dict.fromkeys(filter(None, map(read_address, texts)))
        usable = [address for address in read if (scope := address.scope) is not None and scope >= least]
        if usable:
            found.append(PeerRecord(info.peer, tuple(usable[:ADDRESSES_MAX])))
    return found


def encode_peers_request(count: int) -> bytes:
    """Return a request's RLP: how many peers to tell at most."""
    return rlp.encode([integer_to_bytes(count)])


def decode_peers_request(data: bytes) -> int:
    """Read a request for peers; raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "peers request", max_bytes=REQUEST_BYTES_MAX)
    count = reader.integer("count", 8, least=1)
    reader.close()
    if count > PEERS_MAX:
        raise FieldOutOfRange(f"peers request: {count} peers, at most {PEERS_MAX} are told")
    return count


def encode_peers(records: Sequence[PeerRecord]) -> bytes:
    """Return an answer's RLP: for each peer its name and a list of addresses."""
    items: list[rlp.RlpItem] = []
    for record in records:
        packed: list[rlp.RlpItem] = [
            address.ip.packed + _PORT.pack(address.port) for address in record.addresses
        ]
        items.append([record.peer.encode(), packed])
    return rlp.encode(items)


def decode_peers(data: bytes) -> tuple[PeerRecord, ...]:
    """Read an answer; raise `InvalidMessage` where the bytes are none."""
    reader = Reader.open(data, "peers", max_bytes=ANSWER_BYTES_MAX)
    records: list[PeerRecord] = []
    while not reader.at_end:
        if len(records) == PEERS_MAX:
            raise TooManyItems(f"peers: more than {PEERS_MAX}")
        records.append(_record(reader.list(f"peer[{len(records)}]")))
    return tuple(records)


def _record(reader: Reader) -> PeerRecord:
    name = reader.blob("name", max_bytes=NAME_BYTES_MAX)
    if _NAME.fullmatch(name) is None:
        raise InvalidMessage(f"peers: {name[:NAME_BYTES_MAX]!r} is no peer's name")
    inner = reader.list("addresses")
    addresses: list[SocketAddress] = []
    while not inner.at_end:
        if len(addresses) == ADDRESSES_MAX:
            raise TooManyItems(f"peers: more than {ADDRESSES_MAX} addresses of {name.decode()}")
        packed = inner.blob(f"address[{len(addresses)}]", max_bytes=_ADDRESS_BYTES_MAX)
        if len(packed) not in (4 + _PORT.size, _ADDRESS_BYTES_MAX):
            raise InvalidMessage(f"peers: {len(packed)} bytes are no address")
        ip = _plain(ip_address(packed[: -_PORT.size]))
        addresses.append(SocketAddress(ip, _PORT.unpack(packed[-_PORT.size :])[0]))
    reader.close()
    return PeerRecord(PeerId(name.decode()), tuple(addresses))


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the address of the older kind that one of the newer kind may stand for."""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped
