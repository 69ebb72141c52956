"""Verifying a chain from its genesis: every block judged and executed again, certificates run again.

Nothing of the store is believed but the bytes of its blocks: they are replayed into an engine of their own in
a temporary folder. What the store holds as final must come out as final.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria._core import Engine
from noria.chain.block_store import BlockBody, BlockStore, StoredBlock
from noria.chain.certificates import confirms, refutation
from noria.chain.chain_service import ChainService
from noria.chain.recovery import open_chain
from noria.chain.service import Chain
from noria.chain.unit_runner import PoolRunner
from noria.consensus.blocks import Block
from noria.consensus.payloads import read_payload_header
from noria.consensus.sent_block import SentBlock, encode_sent_block
from noria.consensus.validity import Accepted, Rejected
from noria.consensus.votes import Checkpoint
from noria.execution.spec import ChainSpec
from noria.node.errors import NodeError
from noria.node.node_folder import NodeFolder
from noria.node.programs import pinned_programs
from noria.primitives.types import Hash32
from noria.work.folders import compiled_folder
from noria.work.workers import Outcome, WorkerPool

BLOCK_SECONDS: Final = 60.0
"""For replaying one block."""
PAGE: Final = 256


class VerificationFailed(NodeError):
    """Something in the store is not what the rules allow; the message names the block and the rule."""


class EnginesDisagree(NodeError):
    """The two engines of this machine do not agree about a unit: it cannot tell whether a block lies."""


class NothingToVerify(NodeError):
    """The folder holds no blocks, or not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one block.

    Attributes
    ----------
    stored, block
        The block.
    state_root
        What execution has come to, which is what the block says.
    outcome
        What running the certificate's unit again has given; `None` where the draw fell on a grant or the
        certificate was not asked for.
    """

    stored: StoredBlock
    block: Block
    state_root: Hash32
    outcome: Outcome | None


async def verify_chain(
    data_dir: Path, *, height: int | None = None, programs: Iterable[Path] = ()
) -> AsyncIterator[Verified]:
    """Replay a node's chain from genesis; the node may be running meanwhile.

    Parameters
    ----------
    data_dir
        The node's folder.
    height
        Where to stop; the certificate of this block alone is run again. Without it, all blocks and all
        certificates.
    programs
        Folders of pinned modules.

    Yields
    ------
    Verified
        Each block, in order.

    Raises
    ------
    VerificationFailed
        At the first thing that is wrong.
    EnginesDisagree
        Where a certificate differs from what one engine gives, and the second engine gives something else.
    NothingToVerify
        Where there is nothing to verify.
    NodeError, SpecError, BlockStoreError
        Where folder or specification cannot be used.
    """
    folder = NodeFolder(data_dir)
    if not folder.blocks.exists():
        raise NothingToVerify(f"{data_dir} holds no chain: give a node's folder with --data-dir")
    spec = folder.specification(None)
    modules = pinned_programs(spec, [folder.programs, *programs])
    cache = compiled_folder()
    with tempfile.TemporaryDirectory(prefix="noria-verify-") as temporary:
        pool = WorkerPool(1, cache=cache)
        try:
            runner = PoolRunner(pool, modules, cache=cache)
            async with _Replica(Path(temporary), spec, runner) as replica:
                store = BlockStore(folder.blocks, replica.rules.genesis_root, read_only=True)
                try:
                    async for found in _replay(store, replica, runner, height):
                        yield found
                finally:
                    store.close()
        finally:
            await asyncio.to_thread(pool.close)


class _Replica:
    """A chain of its own in an empty folder; it is never started, so that it checks nothing by itself."""

    def __init__(self, folder: Path, spec: ChainSpec, runner: PoolRunner) -> None:
        self._folder, self._spec, self._runner = folder, spec, runner

    async def __aenter__(self) -> ChainService:
        self._engine = Engine(str(self._folder / "engine"), self._spec.engine_json(), sync=False)
        self._execution = Chain(self._engine, self._spec, automine=False)
        await self._execution.start()
        self._chain = await open_chain(
            self._execution,
            self._folder / "blocks.sqlite",
            wall=time.time,
            runner=self._runner,
            durable=False,
        )
        return self._chain

    async def __aexit__(self, *exception: object) -> None:
        await self._chain.stop()
        self._chain.store.close()
        await self._execution.stop()
        self._engine.close()


async def _replay(
    store: BlockStore, replica: ChainService, runner: PoolRunner, height: int | None
) -> AsyncIterator[Verified]:
    # A running node goes on: what it holds as final now, the blocks that are read after it must show.
    recorded = next(iter(store.final_checkpoints()), None)
    above = list(store.not_final())
    last, before = 0, replica.rules.genesis_root
    for stored in line(store, above):
        if height is not None and stored.height > height:
            break
        last = stored.height
        body = store.body(stored.root)
        if body is None and store.block(stored.root) is None:
            break  # Of a branch that the node has given up meanwhile.
        if body is None:
            raise VerificationFailed(f"{_name(stored)}: its bytes are missing")
        if stored.parent != before:
            raise VerificationFailed(f"{_name(stored)}: its parent, 0x{stored.parent.hex()}, is missing")
        before = stored.root
        found = await _block(replica, stored, body)
        outcome = None
        if found.certificate is not None and height in (None, stored.height):
            outcome = await _certificate(runner, stored, found, body)
        yield Verified(stored, found, read_payload_header(found.payload).state_root, outcome)
    if height is not None and last < height:
        raise NothingToVerify(f"there is no block {height}: the last one is {last}")
    if height is None and recorded is not None:
        if recorded.epoch > replica.tree.final.epoch:
            # The votes may be in a branch that is not the longest.
            for stored in above:
                is_next = stored.parent in replica.tree and stored.root not in replica.tree
                if is_next and (body := store.body(stored.root)) is not None:
                    await _block(replica, stored, body)
        _check_finality(recorded, replica)


async def _block(replica: ChainService, stored: StoredBlock, body: BlockBody) -> Block:
    arrival = replica.arrival(encode_sent_block(SentBlock(body.block, body.input)), "")
    if isinstance(arrival, Rejected):
        raise VerificationFailed(f"{_name(stored)}: {arrival.kind}: {arrival.message}")
    if arrival.root != stored.root:
        raise VerificationFailed(f"{_name(stored)}: its bytes are another block's, 0x{arrival.root.hex()}")
    if arrival.block.certificate is not None and body.input is None:
        raise VerificationFailed(f"{_name(stored)}: the input of its certificate's unit is missing")
    try:
        async with asyncio.timeout(BLOCK_SECONDS):
            finding = await replica.take_arrival(arrival)
    except TimeoutError:
        raise VerificationFailed(f"{_name(stored)}: no verdict within {BLOCK_SECONDS:g} s") from None
    if isinstance(finding, Rejected):
        raise VerificationFailed(f"{_name(stored)}: {finding.kind}: {finding.message}")
    if not isinstance(finding, Accepted):
        raise VerificationFailed(f"{_name(stored)}: it does not continue the chain ({finding})")
    return arrival.block


async def _certificate(runner: PoolRunner, stored: StoredBlock, block: Block, body: BlockBody) -> Outcome:
    certificate = block.certificate
    assert certificate is not None
    assert body.input is not None, "a block without its input is not accepted"
    outcome = await runner.run(certificate.program, body.input, certificate.fuel_limit)
    refuted = refutation(certificate, outcome)
    if refuted is None:
        return outcome
    again = await runner.confirm(certificate.program, body.input, certificate.fuel_limit)
    if not confirms(certificate, outcome, again):
        raise EnginesDisagree(
            f"{_name(stored)}: this machine's two engines do not agree about the unit of its certificate,"
            " so that it cannot be judged here: check the memory and software of this machine"
        )
    raise VerificationFailed(f"{_name(stored)}: its certificate is a lie: {refuted}")


def _check_finality(recorded: Checkpoint, replica: ChainService) -> None:
    if recorded.epoch > replica.tree.final.epoch:
        raise VerificationFailed(
            f"the store holds epoch {recorded.epoch} as final, its blocks finalise no more than"
            f" {replica.tree.final.epoch}"
        )
    if recorded.epoch == replica.tree.final.epoch and recorded != replica.tree.final:
        raise VerificationFailed(f"epoch {recorded.epoch} is final with another block than the store holds")


def line(store: BlockStore, not_final: Iterable[StoredBlock]) -> Iterable[StoredBlock]:
    """Return the final blocks, and the longest line above them.

    What was not final a moment ago may be among the final ones by now.
    """
    above = {block.root: block for block in not_final}
    first = 1
    while page := store.final_range(first, PAGE):
        yield from page
        first = page[-1].height + 1
    found: list[StoredBlock] = []
    at = max(above.values(), key=lambda block: (block.height, block.slot), default=None)
    while at is not None and at.height >= first:
        found.append(at)
        at = above.get(at.parent)
    yield from reversed(found)


def _name(stored: StoredBlock) -> str:
    return f"block {stored.height} (slot {stored.slot}, 0x{stored.root.hex()})"
