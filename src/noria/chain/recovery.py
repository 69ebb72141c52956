"""Opening a chain of drawn blocks, and bringing its two stores together after whatever has happened.

The engine stores a payload before the block store has its block, so that after ``kill -9`` the engine may be
ahead: what it has beyond the block store is not asked for. Should the engine have lost what the block store
has (another folder, or a power cut without durable writes), those blocks are executed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from noria._core import Engine, StoreUnsettled
from noria.chain.block_store import BlockStore, StoredBlock
from noria.chain.block_tree import BlockTree
from noria.chain.chain_service import ChainService
from noria.chain.contract_view import ContractView
from noria.chain.import_queue import Arrival
from noria.chain.rules import chain_rules
from noria.chain.service import Chain
from noria.chain.slot_clock import SlotClock
from noria.chain.unit_runner import UnitRunner
from noria.consensus.blocks import decode_block
from noria.consensus.payloads import read_payload_header
from noria.consensus.signatures import BLS, SignatureScheme
from noria.consensus.validity import InvalidBlock, NotYet
from noria.consensus.votes import Checkpoint
from noria.execution.consensus_state import ConsensusState, TallyState
from noria.execution.kept_answers import KeptAnswers
from noria.execution.spec import ChainSpec
from noria.primitives.types import Hash32

CLOSED_MAX: Final = 4096
"""Tallies without further votes that are kept in memory."""

_log = structlog.get_logger(__name__)


async def open_chain(
    execution: Chain,
    path: Path,
    *,
    wall: Callable[[], float],
    runner: UnitRunner,
    scheme: SignatureScheme = BLS,
    draw: Callable[[], float] | None = None,
    durable: bool = True,
) -> ChainService:
    """Open the chain of a node; its service is not started yet, and its store is closed by `close_chain`.

    Parameters
    ----------
    execution
        Engine and mempool, started.
    path
        File of the block store.
    wall
        Unix seconds.
    runner
        Runs units of certificates again.
    scheme
        How miners sign.
    draw
        A private random number from 0 to 1, exclusive.
    durable
        Whether the block store survives a power cut.

    Raises
    ------
    BlockStoreError
        Where the store cannot be used.
    """
    engine, spec = execution.engine, execution.spec
    genesis_header = engine.header(engine.genesis_hash)
    assert genesis_header is not None
    rules = chain_rules(spec, genesis_header, scheme)
    store = BlockStore(path, rules.genesis_root, durable=durable)
    try:
        genesis = engine.block_rlp(engine.genesis_hash)
        assert genesis is not None
        tree = BlockTree(
            rules,
            spec.grants,
            read_payload_header(genesis),
            store,
            contract_views(engine, spec, rules.genesis_root),
        )
        clock = SlotClock(spec.parameters, spec.timestamp, wall)
        chain = ChainService(rules, tree, store, execution, clock, runner, draw=draw)
        await _restore(chain)
    except BaseException:
        store.close()
        raise
    return chain


def contract_views(engine: Engine, spec: ChainSpec, genesis_root: Hash32) -> Callable[[Hash32], ContractView]:
    """Return what makes the view of the contracts after a payload."""
    closed: dict[tuple[int, Hash32], TallyState] = {}
    reader = KeptAnswers(engine)

    def view(payload_hash: Hash32) -> ContractView:
        if len(closed) > CLOSED_MAX:
            closed.clear()
        contracts = ConsensusState(reader, payload_hash, spec.parameters.leak_epochs, closed)
        return ContractView(contracts, genesis_root, spec.origin)

    return view


def open_engine(path: Path, spec: ChainSpec) -> Engine:
    """Open the engine's store of a node; begin it anew if the machine stopped while it was catching up.

    Its blocks are executed again from the block store then, and whatever is missing there is fetched.

    Raises
    ------
    StoreError
        Where it cannot be used.
    OSError
        Where it cannot be removed.
    """
    try:
        return Engine(str(path), spec.engine_json())
    except StoreUnsettled as error:
        _log.warning("engine_begun_anew", reason=str(error))
        shutil.rmtree(path)
        return Engine(str(path), spec.engine_json())


async def _restore(chain: ChainService) -> None:
    """Fill the tree from the store; execute again what the engine does not have."""
    store, tree, engine = chain.store, chain.tree, chain.execution.engine
    checkpoint: Checkpoint | None = None
    lost = False
    for candidate in store.final_checkpoints():
        stored = store.block(candidate.root)
        # The final chain is one line: if its end is in the engine, so is all of it.
        if stored is not None and engine.header(stored.payload) is not None:
            checkpoint = candidate
            break
        lost = True
    if lost:
        _log.warning("engine_behind", final_epoch=checkpoint.epoch if checkpoint else 0)
        store.begin_again(checkpoint)
    if checkpoint is not None:
        stored = store.block(checkpoint.root)
        assert stored is not None
        tree.final = checkpoint
        _restore_one(chain, stored)
        tree.begin_at(checkpoint)
    again = 0
    for stored in store.not_final():
        if stored.parent not in tree:
            continue
        if engine.header(stored.payload) is not None:
            _restore_one(chain, stored)
        else:
            again += await _execute_again(chain, stored)
    if again:
        _log.warning("blocks_executed_again", count=again)


def _restore_one(chain: ChainService, stored: StoredBlock) -> None:
    body = chain.store.body(stored.root)
    assert body is not None
    block = decode_block(body.block)
    known = chain.tree.restore(block, stored, read_payload_header(block.payload))
    chain.restored.append(known)


async def _execute_again(chain: ChainService, stored: StoredBlock) -> bool:
    body = chain.store.body(stored.root)
    assert body is not None
    block = decode_block(body.block)
    try:
        known = await chain.importer.run(Arrival(block, stored.root, body.block, body.input, ""))
    except (InvalidBlock, NotYet) as error:
        _log.error("stored_block_rejected", block=stored.root.hex(), reason=str(error))
        return False
    chain.restored.append(known)
    if known.node.finalised.epoch > chain.tree.final.epoch:
        # As it was the first time: neither the tree nor what the start tells listeners grows with the chain.
        await chain.finalise()
        chain.restored = [each for each in chain.restored if each.root in chain.tree]
    return True
