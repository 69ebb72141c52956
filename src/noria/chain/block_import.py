"""From a block that came to a block that is stored: every check, in the order of cost (protocol 4.6)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from noria import _core
from noria.chain.block_store import BlockBody, BlockStore, StoredBlock
from noria.chain.block_tree import BlockTree, BlockView, KnownBlock
from noria.chain.import_queue import Arrival
from noria.chain.payload_body import check_body
from noria.chain.service import Chain
from noria.chain.slot_start import slot_start
from noria.chain.writer import ChainWriter
from noria.consensus.blocks import Block
from noria.consensus.certificate import WrongInput, check_input
from noria.consensus.validity import (
    Accepted,
    BlockState,
    ChainRules,
    InputMissing,
    InvalidBlock,
    NotYet,
    ParentMissing,
    PayloadRejected,
    Postponed,
    Rejected,
    check_all_evidence,
    check_before_forwarding,
    check_contents,
    judge,
)
from noria.consensus.wire import InvalidMessage
from noria.execution.block_start import SlotStart

T = TypeVar("T")


class WrongInputSent(InvalidBlock):
    """Input bytes that are not those of the certificate's unit: the sender's fault, not the block's."""

    remember = False


class BlockImport:
    """Checks, executes and stores blocks. What takes long runs in threads.

    Parameters
    ----------
    rules, tree, store
        The chain's.
    execution
        Engine and mempool.
    threads
        For signatures and for reading contracts.
    """

    def __init__(
        self, rules: ChainRules, tree: BlockTree, store: BlockStore, execution: Chain, threads: Executor
    ) -> None:
        self._rules, self._tree, self._store = rules, tree, store
        self._execution, self._threads = execution, threads

    async def check(self, arrival: Arrival, time_milliseconds: int) -> Accepted | Rejected | Postponed:
        """Run what must hold before a block is passed on."""
        view = self._tree.view(arrival.block.header.parent_root)

        def checks() -> None:
            check_before_forwarding(self._rules, arrival.block, view, time_milliseconds)
            self._check_copy(arrival)

        return await self.thread(judge, checks)

    async def run(self, arrival: Arrival) -> KnownBlock:
        """Run what is left, and store the block.

        Raises
        ------
        InvalidBlock, NotYet
            One of their subclasses.
        StoreError, BlockStoreError
            Where it cannot be stored.
        """
        block = arrival.block
        view = self._tree.view(block.header.parent_root)
        if view is None:
            raise ParentMissing(f"parent 0x{block.header.parent_root.hex()} is no longer known")
        state, start = await self.thread(self._contents, block, view)
        try:
            await self._execution.execute(block.payload, start.calls())
        except (_core.InvalidBlock, _core.InvalidEncoding, _core.InvalidTransaction) as error:
            raise _rejection(error) from error
        return await self.keep(block, state, BlockBody(arrival.data, arrival.input))

    async def run_line(self, line: Sequence[Arrival], time_milliseconds: int) -> list[KnownBlock]:
        """Check and store blocks of which each is the next one's parent, as far as nothing is wrong.

        All in one thread, for many at once: none of them is made the head, and who is to blame is left to
        `check` and `run` of the first that is left.

        Raises
        ------
        StoreError, BlockStoreError
            Where one cannot be stored; those before it may be.
        """

        def take(writer: ChainWriter) -> list[KnownBlock]:
            done: list[KnownBlock] = []
            bodies: list[tuple[StoredBlock, BlockBody]] = []
            try:
                for arrival in line:
                    state = self._execute_next(writer, arrival, time_milliseconds)
                    if state is None:
                        break
                    bodies.append((_stored(arrival.block, state), BlockBody(arrival.data, arrival.input)))
                    done.append(self._tree.add(arrival.block, state))
            finally:
                try:
                    self._store.put(bodies)
                except BaseException:
                    self._tree.take_back([known.root for known in done])
                    raise
            return done

        return await self._execution.writing(take)

    def _execute_next(
        self, writer: ChainWriter, arrival: Arrival, time_milliseconds: int
    ) -> BlockState | None:
        """Check a block and let the engine store it; `None` where anything speaks against it."""
        block = arrival.block
        view = self._tree.view(block.header.parent_root)
        if view is None or arrival.root in self._tree:
            return None
        try:
            check_before_forwarding(self._rules, block, view, time_milliseconds)
            self._check_copy(arrival)
            state, start = self._contents(block, view)
            writer.execute(block.payload, start.calls(), False, ())
        except (InvalidBlock, NotYet, InvalidMessage):
            return None
        except (_core.InvalidBlock, _core.InvalidEncoding, _core.InvalidTransaction):
            return None
        return state

    async def keep(
        self, block: Block, state: BlockState, body: BlockBody, *, durable: bool = False
    ) -> KnownBlock:
        """Store a block whose payload the engine has, and add it to the tree."""
        stored = [(_stored(block, state), body)]
        await self.thread(functools.partial(self._store.put, stored, durable=durable))
        return self._tree.add(block, state)

    async def thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _check_copy(self, arrival: Arrival) -> None:
        """Check what the root does not cover: of each block there is one copy that may go on."""
        check_body(arrival.block.payload)
        self._check_input(arrival)

    def _check_input(self, arrival: Arrival) -> None:
        certificate = arrival.block.certificate
        if certificate is None:
            if arrival.input is not None:
                raise WrongInputSent("an input came with a block that has no certificate")
            return
        if arrival.input is None:
            raise InputMissing(f"input {certificate.input_id.hex()} did not come with the block")
        try:
            check_input(self._rules.parameters, certificate, arrival.input)
        except WrongInput as error:
            raise WrongInputSent(str(error)) from error

    def _contents(self, block: Block, view: BlockView) -> tuple[BlockState, SlotStart]:
        state = check_contents(self._rules, block, view)
        guilty = check_all_evidence(self._rules, block, view) if block.evidence else ()
        start = slot_start(
            self._rules,
            view,
            slot=block.header.slot,
            vrf_proof=block.header.vrf_proof,
            votes=block.votes,
            finality=state.finality,
            guilty=guilty,
        )
        return state, start


def _stored(block: Block, state: BlockState) -> StoredBlock:
    return StoredBlock(
        root=state.root,
        parent=block.header.parent_root,
        slot=state.slot,
        height=state.height,
        payload=state.payload.block_hash,
        final=False,
    )


def _rejection(error: Exception) -> InvalidBlock:
    kind, message = error.args if len(error.args) == 2 else (type(error).__name__, str(error))
    return PayloadRejected(f"{kind}: {message}")
