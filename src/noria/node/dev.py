"""The development node: one process, funded accounts, blocks as soon as there are transactions."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog

from noria._core import Engine
from noria.chain.service import Chain
from noria.execution.accounts import DEV_ACCOUNTS, DEV_MNEMONIC, MAX_DEV_ACCOUNTS, DevAccount, dev_accounts
from noria.execution.mempool import MempoolLimits
from noria.execution.spec import ChainSpec, dev_spec
from noria.node.data_dir import save_spec, saved_spec, store_path
from noria.node.errors import ChainMismatch, InvalidConfiguration

BLOCK_TIME_MAX_SECONDS: Final = 86_400

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevConfig:
    """How to run a development node.

    Attributes
    ----------
    data_dir
        Where the chain lives, made if it is not there; with a chain in it, that chain goes on. ``None``: in a
        temporary folder that is removed when the node stops.
    accounts
        Number of funded accounts, derived from ``mnemonic``.
    mnemonic
        BIP-39 words.
    block_time_seconds
        Make blocks at this pace; ``None``: as soon as transactions are pending.
    automine
        ``False`` without a block time: blocks only on demand (``evm_mine``).
    chain_id, gas_limit
        Of a new chain; where they are given for an existing one they must match. ``None``: 5132114 and
        36,000,000, or what the existing chain has.
    mempool
        Limits; ``None``: those of a development chain.
    """

    data_dir: Path | None = None
    accounts: int = DEV_ACCOUNTS
    mnemonic: str = field(default=DEV_MNEMONIC, repr=False)
    block_time_seconds: float | None = None
    automine: bool = True
    chain_id: int | None = None
    gas_limit: int | None = None
    mempool: MempoolLimits | None = None

    def __post_init__(self) -> None:
        """Check every bound.

        Raises
        ------
        InvalidConfiguration
            A value is out of its bounds.
        """
        if not 0 <= self.accounts <= MAX_DEV_ACCOUNTS:
            raise InvalidConfiguration(
                f"{self.accounts} accounts are asked for, 0 to {MAX_DEV_ACCOUNTS} are possible"
            )
        period = self.block_time_seconds
        if period is not None and not 0 < period <= BLOCK_TIME_MAX_SECONDS:
            raise InvalidConfiguration(
                f"block time {period:g} s is out of bounds: more than 0, at most {BLOCK_TIME_MAX_SECONDS} s"
            )


class DevNode:
    """A development chain and its life: engine, chain and accounts. The RPC is put on top by the caller.

    Parameters
    ----------
    config
        How to run it.

    Attributes
    ----------
    chain, spec, data_dir
        The running chain, its specification and its folder; only between `start` and `stop`.
    accounts
        The funded accounts, with their keys, which everybody knows.

    Examples
    --------
    >>> async def run() -> None:
    ...     async with DevNode(DevConfig()) as node:
    ...         print(node.chain.head.number, node.accounts[0])
    """

    def __init__(self, config: DevConfig) -> None:
        self.config = config
        self.accounts: list[DevAccount] = dev_accounts(config.accounts, config.mnemonic)
        self._chain: Chain | None = None
        self._engine: Engine | None = None
        self._temporary: Path | None = None
        self._data_dir: Path | None = None

    @property
    def chain(self) -> Chain:
        """The running chain."""
        if self._chain is None:
            raise RuntimeError("the node is not running")
        return self._chain

    @property
    def spec(self) -> ChainSpec:
        """The chain's specification."""
        return self.chain.spec

    @property
    def data_dir(self) -> Path:
        """Where the chain lives while the node runs."""
        if self._data_dir is None:
            raise RuntimeError("the node is not running")
        return self._data_dir

    async def start(self) -> None:
        """Open or create the chain and start it; a failed start leaves nothing behind.

        Raises
        ------
        NodeError
            The folder cannot be used, or its chain is not the one asked for.
        SpecError
            The specification in the folder is damaged, or the values of a new chain are out of bounds.
        StoreError
            The store cannot be opened: `StoreLocked` where another process uses it.
        """
        if self._chain is not None:
            raise RuntimeError("the node is running already")
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        if self.config.data_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="noria-dev-"))
        self._data_dir = self._temporary or self.config.data_dir
        assert self._data_dir is not None
        spec = self._specification(self._data_dir)
        self._engine = await asyncio.to_thread(self._open, self._data_dir, spec)
        chain = Chain(
            self._engine,
            spec,
            limits=self.config.mempool,
            automine=self.config.automine,
            block_time_seconds=self.config.block_time_seconds,
        )
        await chain.start()
        self._chain = chain
        _log.info(
            "node_started",
            chain_id=spec.chain_id,
            head=chain.head.number,
            data_dir=str(self._data_dir),
            temporary=self._temporary is not None,
        )

    async def stop(self) -> None:
        """Finish what is being written, close the store, and remove a temporary folder."""
        chain, self._chain = self._chain, None
        if chain is not None:
            await chain.stop()
            _log.info("node_stopped", head=chain.head.number)
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
        self._data_dir = None

    async def __aenter__(self) -> Self:
        """Start the node."""
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop the node."""
        await self.stop()

    def _open(self, data_dir: Path, spec: ChainSpec) -> Engine:
        # What is removed at the end anyway need not survive a power cut.
        return Engine(str(store_path(data_dir)), spec.engine_json(), sync=self._temporary is None)

    def _specification(self, data_dir: Path) -> ChainSpec:
        existing = saved_spec(data_dir)
        if existing is None:
            existing = save_spec(data_dir, self._new_specification())
        self._check_match(data_dir, existing)
        return existing

    def _new_specification(self) -> ChainSpec:
        spec = dev_spec([account.address for account in self.accounts], int(time.time()))
        chain_id, gas_limit = self.config.chain_id, self.config.gas_limit
        return dataclasses.replace(
            spec,
            chain_id=spec.chain_id if chain_id is None else chain_id,
            gas_limit=spec.gas_limit if gas_limit is None else gas_limit,
        )

    def _check_match(self, data_dir: Path, spec: ChainSpec) -> None:
        config = self.config
        for name, wanted, found in (
            ("chain id", config.chain_id, spec.chain_id),
            ("gas limit", config.gas_limit, spec.gas_limit),
        ):
            if wanted is not None and wanted != found:
                raise ChainMismatch(
                    f"{data_dir} holds a chain with {name} {found}, asked for is {wanted}: "
                    "use its value or another directory"
                )
        unknown = [account for account in self.accounts if account.address not in spec.alloc]
        if unknown:
            raise ChainMismatch(
                f"{data_dir} holds a chain without genesis funds for {len(unknown)} of these "
                f"{len(self.accounts)} accounts: use those of its beginning, or another directory"
            )
