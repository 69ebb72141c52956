"""Where peers say they stand: whose head is not here, who is to be asked for it first, and who rests."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from noria.chain.chain_service import ChainService
from noria.network.messages import PeerStatus
from noria.network.peers import PeerId

REST_SECONDS: Final = 60.0
"""How long a peer that disappointed, or led nowhere, is not asked for ranges."""
APART_SECONDS: Final = 15.0
"""How long a peer's head is waited for before the peer is asked for its chain, however short that is."""
IN_VAIN_MAX: Final = 2
"""Rests of a peer that has brought nothing, from which on what it says counts for nothing while it rests."""
GONE_MAX: Final = 256
"""Peers that have gone and of which is remembered how they have failed: coming back makes nobody new."""


@dataclass(slots=True)
class _Peer:
    """What is known of a peer."""

    status: PeerStatus
    awaited: PeerStatus
    """What it said when its head had not come here yet, and since when."""
    awaited_since: float
    rests_until: float = 0.0
    in_vain: int = 0
    """Its rests since it last brought this node on."""


class PeerHeads:
    """What peers say about their heads. Belongs to the event loop.

    Parameters
    ----------
    chain
        What is here.
    """

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain
        self._peers: dict[PeerId, _Peer] = {}
        self._gone: dict[PeerId, tuple[float, int]] = {}
        """Until when they rest, and how often they have failed."""

    @property
    def statuses(self) -> dict[PeerId, PeerStatus]:
        """Where peers say they stand, the first to be asked first."""
        return {peer: known.status for peer, known in self._peers.items()}

    # ------------------------------------------------------------ what is heard

    def note(self, peer: PeerId, status: PeerStatus) -> bool:
        """Take note of what a peer says; return whether it may have something that this node lacks."""
        known = self._peers.get(peer)
        if known is None:
            known = _Peer(status, status, self._now(), *self._gone.pop(peer, (0.0, 0)))
            self._peers[peer] = known
        known.status = status
        if not self._is_news(status) or not self._is_news(known.awaited):
            known.awaited, known.awaited_since = status, self._now()
        return status.head_height > self._chain.head.node.height or self.is_apart(peer)

    def forget(self, peer: PeerId) -> None:
        """Forget a peer that has gone, but not how it has failed."""
        known = self._peers.pop(peer, None)
        if known is not None and known.in_vain:
            self._gone[peer] = known.rests_until, known.in_vain
            while len(self._gone) > GONE_MAX:
                del self._gone[next(iter(self._gone))]

    def keep(self, present: Collection[PeerId]) -> None:
        """Forget whoever is not present."""
        for peer in [peer for peer in self._peers if peer not in present]:
            self.forget(peer)

    def rest(self, peer: PeerId) -> None:
        """Ask others for ranges meanwhile, and all others first after that: else some would take turns."""
        known = self._peers.pop(peer, None)
        if known is not None:
            now = self._now()
            known.in_vain += known.rests_until <= now
            known.rests_until = now + REST_SECONDS
            self._peers[peer] = known

    def ask_last(self, peer: PeerId) -> None:
        """Ask a peer after all others."""
        if peer in self._peers:
            self._peers[peer] = self._peers.pop(peer)

    def follow(self, peer: PeerId) -> None:
        """Take note that a peer is asked for all of its chain now: next time after all others."""
        known = self._peers.pop(peer, None)
        if known is not None:
            known.awaited, known.awaited_since = known.status, self._now()
            self._peers[peer] = known

    def has_helped(self, peer: PeerId) -> None:
        """Take note that a peer has brought this node on."""
        if peer in self._peers:
            self._peers[peer].in_vain = 0

    # ------------------------------------------------------------ what is to be asked for

    @property
    def final_height(self) -> int:
        """Of this node's final block."""
        known = self._chain.tree.get(self._chain.tree.final.root)
        return known.node.height if known else 0

    def heights(self) -> dict[PeerId, int]:
        """Return how high peers are that may be asked for what is not here, the first to be asked first."""
        now = self._now()
        return {
            peer: known.status.head_height
            for peer, known in self._peers.items()
            if known.rests_until <= now and self._is_news(known.status)
        }

    def best_height(self) -> int:
        """Return the highest of these."""
        return max(self.heights().values(), default=0)

    def claimed(self) -> list[int]:
        """Return the heights of heads that are not here, also of who rests: it may be alone ahead."""
        now = self._now()
        return [
            peer.status.head_height
            for peer in self._peers.values()
            if (peer.rests_until <= now or peer.in_vain < IN_VAIN_MAX) and self._is_news(peer.status)
        ]

    def is_apart(self, peer: PeerId) -> bool:
        """Tell whether a peer's chain does not come block by block: it may be a long one, and the better one.

        The better chain need not be the longer one.
        """
        known = self._peers[peer]
        return self._is_news(known.awaited) and self._now() - known.awaited_since >= APART_SECONDS

    def _is_news(self, status: PeerStatus) -> bool:
        """Tell whether a peer's head is not here and may still be of use."""
        return status.head_height > self.final_height and status.head_root not in self._chain.tree

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
