"""The market in a node: what its miner needs to work for others, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from noria.chain.chain_service import ChainService
from noria.chain.own_work import OwnWork
from noria.consensus.parameters import weight_rules
from noria.execution.accounts import AccountError, Keystore
from noria.execution.spec import ChainSpec
from noria.market.access import ChainAccessError
from noria.market.contracts import read_rules
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.journal import open_journal
from noria.market.miner.keeping import Keeper
from noria.market.miner.onchain import OnChain
from noria.market.miner.service import MinerService
from noria.market.miner.units import Signing
from noria.market.protocol import work_protocol
from noria.market.sending import TransactionSender
from noria.market.typed_data import Domain
from noria.network.transport import Transport
from noria.node.bls_keystore import read_password_file
from noria.node.config import NodeConfig
from noria.node.errors import InvalidConfiguration
from noria.node.market_access import NodeAccess
from noria.node.node_folder import NodeFolder
from noria.primitives.addresses import parse_address
from noria.primitives.hashes import blake3
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address, Hash32
from noria.work.ids import ProgramId
from noria.work.workers import WorkerPool

SECRET_TAG: Final = b"noria/nonces/1"
MARGIN_EPOCHS: Final = 4
"""Beyond the window, for draws of snapshots that are older than now."""

_log = structlog.get_logger(__name__)


def account_key(config: NodeConfig) -> PrivateKey | None:
    """Open the key of the miner's account; None where the node takes no jobs.

    Raises
    ------
    InvalidConfiguration
        Where it cannot be opened.
    """
    if not config.takes_jobs:
        return None
    assert config.miner_account_keystore is not None
    assert config.password_file is not None
    assert config.miner_address is not None
    address = parse_address(config.miner_address)
    try:
        keystore = Keystore(config.miner_account_keystore)
        return PrivateKey(keystore.unlock(address, read_password_file(config.password_file)))
    except AccountError as error:
        raise InvalidConfiguration(f"miner_account_keystore: {error}") from None


async def start_market(
    stack: AsyncExitStack,
    config: NodeConfig,
    folder: NodeFolder,
    spec: ChainSpec,
    chain: ChainService,
    transport: Transport,
    access: NodeAccess,
    key: PrivateKey,
    work: OwnWork,
    programs: Mapping[ProgramId, Path],
    cache: Path,
) -> MinerService | None:
    """Start the miner's side of the market; it is stopped with the stack.

    Units of jobs run in a pool of their own: a unit that runs is never interrupted, and a certificate must
    not wait behind one of many minutes. What is compiled is shared, so that a second process takes little.

    Returns
    -------
    MinerService or None
        None where the chain has no market.

    Raises
    ------
    JournalError, BlobStoreError
        Where its files cannot be used.
    """
    rules = chain.rules
    try:
        market_rules = await read_rules(access)
    except ChainAccessError as error:
        _log.warning("market_missing", reason=str(error))
        return None
    journal = await open_journal(folder.jobs / "journal.sqlite", rules.genesis_root, key.address)
    stack.push_async_callback(journal.close)
    deliveries = await asyncio.to_thread(
        Deliveries,
        folder.jobs,
        quota_bytes=config.job_storage_mb << 20,
        pinned=programs,
        program_bytes_max=rules.parameters.program_bytes_max,
    )
    stack.callback(deliveries.close)
    workers = config.job_workers or len(os.sched_getaffinity(0))
    pool = await asyncio.to_thread(WorkerPool, workers, cache=cache)

    async def end_pool() -> None:
        await asyncio.to_thread(pool.close, cancel_queued=True, stop_running=True)

    stack.push_async_callback(end_pool)
    signing = Signing(
        rules.genesis_root, key, blake3(SECRET_TAG + key.secret), weight_rules(rules.parameters)
    )
    service = MinerService(
        access,
        OnChain(access, TransactionSender(access, key)),
        transport,
        work_protocol(rules.genesis_root).name,
        journal=journal,
        deliveries=deliveries,
        keeper=Keeper(journal, deliveries, work, signing),
        pool=pool,
        workers=workers,
        signing=signing,
        domain=Domain(spec.chain_id, rules.genesis_root),
        rules=market_rules,
        pinned=frozenset(ProgramId(program) for program in spec.programs),
        counting=lambda: counting_batches(chain, key.address),
    )
    await service.start()
    stack.push_async_callback(service.stop)
    return service


def counting_batches(chain: ChainService, miner: Address) -> set[Hash32] | None:
    """Return a miner's credited batches that are still in the window; None where that is not known.

    Reads contracts, from the newest credit back.
    """
    view = chain.tree.view(chain.head.root)
    if view is None:
        return None
    parameters = chain.rules.parameters
    oldest = chain.status.epoch - parameters.window_epochs - MARGIN_EPOCHS
    found: set[Hash32] = set()
    for entry in reversed(view.state.credits(miner)):
        if entry.epoch < oldest:
            break
        found.add(entry.batch_root)
    return found
