"""The full node: engine, chain, work, network and miner, started in this order and stopped in the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

import structlog

from noria._core import Engine
from noria.chain.chain_service import ChainService
from noria.chain.hearsay import Hearsay
from noria.chain.miner import Miner, first_unsigned
from noria.chain.own_journal import OwnJournal
from noria.chain.own_work import OwnWork
from noria.chain.recovery import open_chain, open_engine
from noria.chain.rules import chain_rules
from noria.chain.service import Chain
from noria.chain.unit_runner import PoolRunner
from noria.consensus.signatures import BLS
from noria.execution.spec import ChainSpec
from noria.market.miner.service import MinerService
from noria.market.protocol import WORK_LIMITS, work_protocol
from noria.network.blobs import PROTOCOL as BLOBS
from noria.network.blobs import BlobServer
from noria.network.config import TransportConfig
from noria.network.peer_exchange import PeerExchange
from noria.network.peers import PeerId
from noria.network.topics import chain_topics, protocol_specs, topic_specs
from noria.network.transport import Transport
from noria.node.bans import BanWatch
from noria.node.bls_keystore import read_keystore, read_password_file
from noria.node.config import NodeConfig
from noria.node.errors import InvalidConfiguration
from noria.node.gossip import Gossip
from noria.node.market import account_key, start_market
from noria.node.market_access import NodeAccess
from noria.node.node_folder import NodeFolder
from noria.node.peer_heads import REST_SECONDS
from noria.node.programs import ProgramFiles, ProgramsMissing, fetch_programs, find_programs
from noria.node.resolving import resolved
from noria.node.sync import STATUS_SECONDS, Sync
from noria.primitives.addresses import parse_address
from noria.primitives.hexes import format_data
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import Address, BlsPublicKey
from noria.work.folders import compiled_folder
from noria.work.ids import ProgramId
from noria.work.workers import WorkerPool

FOREVER_SECONDS: Final = 10 * 365 * 86_400.0
"""How long a peer is kept away that the operator has blocked."""

PATIENCE_SLOTS: Final = 5
"""How long a miner waits for its peers at the start, unless it is catching up."""
POLL_SECONDS: Final = 0.1

_log = structlog.get_logger(__name__)


class FullNode:
    """A node of a network and its life. The RPC is put on top by the caller.

    Parameters
    ----------
    config
        How to run it.
    version
        What it calls itself before its peers.

    Attributes
    ----------
    execution, chain, hearsay, transport, gossip, sync, access, miner, market
        Its parts; only between `start` and `stop`, `miner` only where the node mines, `market` only where it
        takes jobs.

    Examples
    --------
    >>> async def run(config: NodeConfig) -> None:
    ...     async with FullNode(config, "noria/0") as node:
    ...         print(node.chain.status)
    """

    spec: ChainSpec
    execution: Chain
    chain: ChainService
    hearsay: Hearsay
    transport: Transport
    gossip: Gossip
    sync: Sync
    access: NodeAccess
    miner: Miner | None
    market: MinerService | None

    def __init__(self, config: NodeConfig, version: str) -> None:
        self.config, self.version = config, version
        self.folder = NodeFolder(config.data_dir)
        self.miner = None
        self.market = None
        self.started_seconds = time.time()
        self._stack = AsyncExitStack()
        self._blocked: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Start all parts; a failed start leaves nothing running.

        Raises
        ------
        NodeError, SpecError, StoreError, BlockStoreError, JournalError, TransportError
            Each says in one line what is wrong and what to do.
        """
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Stop all parts, the miner first; what is being written is finished."""
        _log.info("node_stopping")
        await self._stack.aclose()
        _log.info("node_stopped")

    async def __aenter__(self) -> Self:
        """Start the node."""
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop the node."""
        await self.stop()

    # ------------------------------------------------------------ parts

    async def _start(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.folder.lock()
        stack.callback(self.folder.release)
        self.spec = await asyncio.to_thread(self.folder.specification, config.spec)
        key = await asyncio.to_thread(self._key)
        self._check_miner(key)
        account = await asyncio.to_thread(account_key, config)
        folders = [self.folder.programs, *([config.programs] if config.programs else [])]
        programs, missing = await asyncio.to_thread(find_programs, self.spec, folders)

        engine = await asyncio.to_thread(open_engine, self.folder.engine, self.spec)
        stack.push_async_callback(asyncio.to_thread, engine.close)
        self.execution = Chain(engine, self.spec, automine=False)
        await stack.enter_async_context(self.execution)
        await self._join(engine, stack)
        await self._complete(programs, missing, stack)

        cache = compiled_folder()
        pool = await asyncio.to_thread(WorkerPool, config.workers, cache=cache)
        stack.push_async_callback(asyncio.to_thread, pool.close)
        runner = PoolRunner(pool, programs, cache=cache)
        self.chain = await open_chain(self.execution, self.folder.blocks, wall=time.time, runner=runner)
        stack.callback(self.chain.store.close)
        # Peers ask for what is in the store: it is closed after them.
        stack.push_async_callback(self.transport.close)
        self.hearsay = Hearsay(self.chain)

        # What listens to the chain must be there before it starts.
        work = OwnWork(self.folder.work) if key is not None else None
        miner = self._miner(key, work) if key is not None else None
        self.access = NodeAccess(self.chain, self.transport)
        topics = chain_topics(self.chain.rules.genesis_root)
        self.gossip = Gossip(self.transport, topics, self.chain, self.hearsay)
        self.sync = Sync(self.transport, topics, self.chain)
        await self.chain.start()
        stack.push_async_callback(self.chain.stop)
        await asyncio.to_thread(self._check_registered, key)
        self.gossip.start()
        stack.push_async_callback(self.gossip.stop)
        self.sync.start()
        stack.push_async_callback(self.sync.stop)
        if account is not None and work is not None:
            self.market = await start_market(
                stack,
                config,
                self.folder,
                self.spec,
                self.chain,
                self.transport,
                self.access,
                account,
                work,
                programs,
                cache,
            )
        if miner is not None:
            self._begin_mining(miner, stack)
        status = self.chain.status
        _log.info(
            "node_started",
            chain=self.spec.name,
            genesis=self.chain.rules.genesis_root.hex(),
            peer=self.transport.peer_id,
            addresses=self.transport.addresses,
            height=status.head_height,
            final_epoch=status.finalised.epoch,
            miner=config.miner_address or "no",
            takes_jobs=self.market is not None,
        )

    async def _join(self, engine: Engine, stack: AsyncExitStack) -> None:
        """Connect to peers; what they ask is answered as its part starts."""
        config, parameters = self.config, self.spec.parameters
        genesis = engine.header(engine.genesis_hash)
        assert genesis is not None
        genesis_root = chain_rules(self.spec, genesis, BLS).genesis_root
        topics = chain_topics(genesis_root)
        bootstrap = await resolved(config.bootstrap)
        self.transport = await Transport.start(
            self.folder.seed(),
            TransportConfig(
                network=genesis_root.hex(),
                agent=self.version,
                topics=topic_specs(topics, parameters),
                protocols=(*protocol_specs(topics, parameters), work_protocol(genesis_root)),
                listen=config.listen,
                external=config.external,
                bootstrap=bootstrap,
                mdns=config.mdns,
                peers_wanted=config.peers,
                limits=WORK_LIMITS,
            ),
        )
        stack.push_async_callback(self.transport.close)
        bans = BanWatch(self.transport)
        bans.start()
        stack.push_async_callback(bans.stop)
        self.apply_blocked()
        exchange = PeerExchange(self.transport, topics.peers, wanted=config.peers)
        exchange.start()
        stack.push_async_callback(exchange.stop)

    async def _complete(
        self, programs: dict[ProgramId, Path], missing: Sequence[ProgramId], stack: AsyncExitStack
    ) -> None:
        """Serve the pinned programs that are here, and fetch the others."""
        server = BlobServer(ProgramFiles(programs))
        self.transport.serve(BLOBS.name, server.answer)
        stack.callback(server.close)
        if missing and not (self.config.bootstrap or self.config.mdns):
            raise ProgramsMissing(
                f"pinned program {format_data(missing[0])} is not on this machine, and no peer can be asked:"
                " put its module into a folder and name that with programs, or name peers with bootstrap"
            )
        programs |= await fetch_programs(self.transport, missing, self.folder.programs)

    # ------------------------------------------------------------ the miner

    def _key(self) -> BlsSecretKey | None:
        config = self.config
        if config.miner_keystore is None:
            return None
        assert config.password_file is not None
        return read_keystore(config.miner_keystore, read_password_file(config.password_file))

    def _check_miner(self, key: BlsSecretKey | None) -> None:
        """Refuse another key than that of a miner of genesis, before anything is opened."""
        if key is None or self.config.miner_address is None:
            return
        address = parse_address(self.config.miner_address)
        for miner in self.spec.miners:
            if miner.address == address:
                self._check_key(key, miner.bls_key)

    def _check_registered(self, key: BlsSecretKey | None) -> None:
        """Refuse another key than the one that is registered on the chain as far as it is known here."""
        if key is None or self.config.miner_address is None:
            return
        view = self.chain.tree.view(self.chain.head.root)
        record = None if view is None else view.state.miner(Address(parse_address(self.config.miner_address)))
        if record is not None:
            self._check_key(key, record.bls_key)

    def _check_key(self, key: BlsSecretKey, registered: BlsPublicKey) -> None:
        if registered != key.public_key:
            raise InvalidConfiguration(
                f"miner_keystore: {self.config.miner_keystore} is not the key with which"
                f" {self.config.miner_address} is registered: give its own"
            )

    def _miner(self, key: BlsSecretKey, work: OwnWork | None) -> Miner:
        config, chain = self.config, self.chain
        assert config.miner_address is not None
        address = Address(parse_address(config.miner_address))
        # What was signed under another journal is not known: nothing of this slot and epoch is signed again.
        new_from = first_unsigned(chain)
        journal = OwnJournal(self.folder.journal, chain.rules.genesis_root, address, new_from=new_from)
        recipient = None if config.fee_recipient is None else Address(parse_address(config.fee_recipient))
        return Miner(
            chain,
            self.hearsay,
            address,
            key,
            journal,
            work=work,
            fee_recipient=recipient,
            is_level=self._is_level,
        )

    def _is_level(self) -> bool:
        """Tell whether this node has what its peers have; without any only who needs none has."""
        return bool(self.sync.peers or not (self.config.bootstrap or self.config.mdns)) and self.sync.has_all

    def _begin_mining(self, miner: Miner, stack: AsyncExitStack) -> None:
        self.miner = miner
        task = self.chain.spawn(self._mine(miner))

        async def end(*_: Any) -> None:
            # A block that is being made is finished under the chain's lock, or not made at all.
            async with self.chain.lock:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)

    async def _mine(self, miner: Miner) -> None:
        # Blocks on an old head would be of no use to anybody.
        if self.config.bootstrap:
            await self._caught_up(PATIENCE_SLOTS * self.chain.rules.parameters.slot_seconds)
        await miner.run()

    async def _caught_up(self, patience_seconds: float) -> None:
        """Wait until no peer is known to be ahead, or the head is new, as long as something comes.

        Where all who are ahead have just failed, they are waited for once: they may be the only ones.
        """
        loop = asyncio.get_running_loop()
        height, until, may_rest = -1, 0.0, True
        while not self.sync.peers or self.sync.is_far_behind:
            now = loop.time()
            if self.chain.head.node.height != height:
                height, until, may_rest = self.chain.head.node.height, now + patience_seconds, True
            if may_rest and self.sync.is_resting:
                until, may_rest = now + REST_SECONDS + STATUS_SECONDS + patience_seconds, False
            if now >= until:
                return
            await asyncio.sleep(POLL_SECONDS)

    # ------------------------------------------------------------ blocked peers

    def apply_blocked(self) -> None:
        """Read again whom the operator has blocked, and act on it."""
        try:
            wanted = self.folder.blocked_peers()
            for peer in self._blocked - wanted:
                self.transport.unban(PeerId(peer))
            for peer in wanted - self._blocked:
                self.transport.ban(PeerId(peer), FOREVER_SECONDS, "blocked by the operator")
        except Exception as error:
            # A mistake in the file must not stop a running node.
            _log.error("blocked_peers_unreadable", file=str(self.folder.blocked), reason=str(error))
            return
        if wanted != self._blocked:
            _log.info("peers_blocked", count=len(wanted))
        self._blocked = wanted
