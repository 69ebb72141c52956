"""Signatures of blocks that are about to be imported, checked together, beside the import of earlier ones.

Who may propose is known an epoch ahead, and what its lottery proof signs follows from the proofs before it:
both signatures of a block can be checked before its parent has been executed. Many together take half the
time of one after the other. What was found right is remembered until the block's own checks ask for it;
where one of many is wrong nothing is remembered, and those checks find the culprit.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from noria.chain.block_tree import BlockTree
from noria.chain.import_queue import Arrival
from noria.consensus.lottery import Randomness, after_block, eta_for, vrf_message
from noria.consensus.signatures import SignatureScheme, Signed
from noria.consensus.slots import epoch_of
from noria.consensus.validity import ChainRules
from noria.primitives.types import BlsPublicKey, BlsSignature, Hash32

AT_ONCE: Final = 16
"""Blocks whose signatures are checked together."""
KNOWN_MAX: Final = 1_024
"""Signatures that are remembered as right."""


class KnownSignatures:
    """A scheme that remembers which signatures have been found right, each until it is asked for once.

    Parameters
    ----------
    scheme
        What checks them.
    """

    def __init__(self, scheme: SignatureScheme) -> None:
        self._scheme = scheme
        self._known: OrderedDict[Signed, None] = OrderedDict()

    def check_ahead(self, signed: Sequence[Signed]) -> bool:
        """Check many signatures together and remember them if all are right."""
        if not signed or not self._scheme.verify_many(signed):
            return False
        self._known.update(dict.fromkeys(signed))
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return True

    def verify(self, public_key: BlsPublicKey, message: bytes, signature: BlsSignature) -> bool:
        """Tell whether a key's owner signed a message."""
        try:
            del self._known[public_key, message, signature]
        except KeyError:
            return self._scheme.verify(public_key, message, signature)
        return True

    def verify_many(self, signed: Sequence[Signed]) -> bool:
        """Tell whether all signatures are right."""
        return self._scheme.verify_many(signed)

    def aggregate(self, signatures: Sequence[BlsSignature]) -> BlsSignature:
        """Add signatures up."""
        return self._scheme.aggregate(signatures)

    def verify_aggregate(
        self, public_keys: Sequence[BlsPublicKey], message: bytes, signature: BlsSignature
    ) -> bool:
        """Tell whether the owners of all keys signed one message."""
        return self._scheme.verify_aggregate(public_keys, message, signature)


@dataclass(frozen=True, slots=True)
class _Point:
    """How far a line has been checked."""

    root: Hash32
    slot: int
    randomness: Randomness


class LookAhead:
    """Checks signatures of a line of blocks while it is imported; made by `ChainService.look_ahead`.

    Parameters
    ----------
    rules, tree
        The chain's; the rules' scheme is not used.
    known
        Where right signatures are remembered.
    threads
        Runs a function off the event loop.
    """

    def __init__(
        self,
        rules: ChainRules,
        tree: BlockTree,
        known: KnownSignatures,
        threads: Callable[[Callable[[], int]], Awaitable[int]],
    ) -> None:
        self._rules, self._tree, self._known, self._threads = rules, tree, known, threads
        self._line: deque[Arrival] = deque()
        self._tip: Hash32 | None = None
        self._checked: _Point | None = None
        self._moved = asyncio.Event()
        self._stuck = asyncio.Condition()
        self._is_working = self._is_over = False

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Take in what will be imported after all that was added before."""
        self._line.extend(arrivals)
        self._moved.set()

    def moved(self, root: Hash32) -> None:
        """Take note that a block of the line has been imported."""
        self._tip = root
        self._moved.set()

    async def passed(self, root: Hash32) -> None:
        """Wait until a block of the line has been checked, or cannot be before others are imported."""
        async with self._stuck:
            while self._is_busy and any(arrival.root == root for arrival in self._line):
                await self._stuck.wait()

    async def run(self) -> None:
        """Check whatever can be, until cancelled."""
        try:
            while True:
                await self._moved.wait()
                self._moved.clear()
                self._is_working = True
                while self._line and (done := await self._threads(self._check_some)):
                    for _ in range(done):
                        self._line.popleft()
                    await self._tell()
                self._is_working = False
                await self._tell()
        finally:
            # Whoever waits goes on without: what was not checked here the block's own checks do.
            self._is_over = True
            await self._tell()

    @property
    def _is_busy(self) -> bool:
        return not self._is_over and (self._is_working or self._moved.is_set())

    async def _tell(self) -> None:
        async with self._stuck:
            self._stuck.notify_all()

    def _check_some(self) -> int:
        """Check the next blocks; return how many of the line are done with."""
        line = list(islice(self._line, AT_ONCE))
        gone = sum(1 for arrival in line if arrival.root in self._tree)
        if gone:
            return gone
        signed = self._signed(line)
        self._known.check_ahead(signed)
        return len(signed) // 2

    def _signed(self, line: Sequence[Arrival]) -> list[Signed]:
        """Return what the next blocks are signed with, as far as that is settled."""
        rules, parameters = self._rules, self._rules.parameters
        at = self._checked
        if at is None or at.root != line[0].block.header.parent_root:
            base = self._tree.get(line[0].block.header.parent_root)
            if base is None:
                return []
            at = _Point(base.root, base.node.slot, base.state.randomness)
        tip = self._tree.get(self._tip or at.root)
        if tip is None:
            return []
        # Later snapshots are taken from blocks that have not been executed.
        latest = epoch_of(parameters, tip.node.slot) + 1
        found: list[Signed] = []
        for arrival in line:
            header = arrival.block.header
            epoch = epoch_of(parameters, header.slot)
            if header.parent_root != at.root or header.slot <= at.slot or epoch > latest:
                break
            snapshot = self._tree.snapshot(tip.root, epoch)
            row = None if snapshot is None else snapshot.row(header.proposer)
            if row is None:
                break
            message = vrf_message(rules.genesis_root, eta_for(at.randomness, epoch), header.slot)
            found.append((row.bls_key, arrival.root, arrival.block.signature))
            found.append((row.bls_key, message, header.vrf_proof))
            randomness = after_block(parameters, at.randomness, header.slot, header.vrf_proof)
            at = _Point(arrival.root, header.slot, randomness)
        self._checked = at
        return found
