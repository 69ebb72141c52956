"""Transactions that arrive: signed here, sent through any `ChainAccess`, watched until a block has them.

One `TransactionSender` per key and process. It knows nothing but the chain: after a restart nonces come from
there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from noria.market.access import (
    CallReverted,
    ChainAccess,
    ChainAccessError,
    Head,
    TransactionRefused,
    TransactionResult,
)
from noria.primitives import rlp
from noria.primitives.hashes import keccak256
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address, Hash32

DYNAMIC_FEE_TYPE: Final = b"\x02"
SEND_SECONDS: Final = 180.0
"""For how long `send_call` tries."""
GAS_MARGIN_PERCENT: Final = 25
GAS_MARGIN: Final = 20_000
"""Added to an estimate: what a call finds may differ from block to block by a word or a miner more."""
BUMP_PERCENT: Final = 13
"""By how much a replacement pays more; mempools ask for 10."""
STUCK_BLOCKS: Final = 6
"""Blocks after which a transaction is sent again with a higher fee, whatever it pays."""
BUMPS_MAX: Final = 20
"""Replacements of one transaction: the last pays twelve times the first."""
KEPT_MAX: Final = 256
"""Transactions in blocks that are not final, which a reorganisation may drop; older ones are forgotten."""
PAUSE_SECONDS: Final = 0.2
PAUSE_SECONDS_MAX: Final = 3.0
HEAD_SECONDS: Final = 2.0
"""How long one wait for a block lasts."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


def with_margin(estimate: int, data: bytes) -> int:
    """Return the gas limit for a transaction whose gas has been estimated on the state before it."""
    return estimate + estimate * GAS_MARGIN_PERCENT // 100 + (GAS_MARGIN if data else 0)


class TransactionReverted(ChainAccessError):
    """A transaction is in a block, but the contract refused it; the message is its reason.

    Attributes
    ----------
    result
        What the block says.
    """

    def __init__(self, message: str, result: TransactionResult) -> None:
        super().__init__(message)
        self.result = result


class TransactionOverdue(ChainAccessError):
    """No block has taken a transaction in time. It may still come: look before sending the same again."""


@dataclass(slots=True)
class _Pending:
    """A transaction under way, in all its versions."""

    nonce: int
    to: Address
    data: bytes
    value: int
    gas: int
    tip: int
    fee: int
    """Most that it pays per gas, wei."""
    sent_block: int
    raw: bytes = b""
    hashes: list[Hash32] = field(default_factory=list)
    bumps: int = 0
    included: TransactionResult | None = None
    lost: str | None = None
    """Why it will never be in a block."""


class TransactionSender:
    """Sends transactions of one account; several may be under way at once.

    Parameters
    ----------
    access
        The chain.
    key
        Of the account.
    confirmations
        Blocks that must follow the transaction's own before `send_call` returns. Whatever it is, transactions
        that a reorganisation drops are sent again as long as this object sends or waits for anything.
    """

    def __init__(self, access: ChainAccess, key: PrivateKey, *, confirmations: int = 0) -> None:
        self._access = access
        self._key = key
        self._confirmations = confirmations
        self._turn = asyncio.Lock()
        self._kept: dict[int, _Pending] = {}
        """By nonce: under way, or in a block that may still be dropped."""

    @property
    def address(self) -> Address:
        """Who sends, and pays."""
        return self._key.address

    async def send_call(
        self,
        to: Address,
        data: bytes,
        value: int = 0,
        *,
        gas: int | None = None,
        timeout_seconds: float = SEND_SECONDS,
    ) -> TransactionResult:
        """Send a transaction and wait until a block has it.

        Parameters
        ----------
        to, data, value
            What it does; `value` in wei.
        gas
            Limit; estimated where it is not given. A call that works only after transactions under way cannot
            be estimated: give it one.
        timeout_seconds
            How long it may take. A node that does not answer meanwhile is asked again.

        Returns
        -------
        TransactionResult
            One that took effect.

        Raises
        ------
        CallReverted
            The contract would refuse the call: nothing was sent.
        TransactionReverted
            It was refused in its block.
        TransactionRefused
            The mempool does not take it: no money.
        TransactionOverdue
            The time is up.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        pending = await self._start(to, data, value, gas, deadline)
        result = await self._watch(pending, deadline)
        if not result.ok:
            raise TransactionReverted(await self._reason(pending, result), result)
        return result

    # ------------------------------------------------------------ sending

    async def _start(
        self, to: Address, data: bytes, value: int, gas: int | None, deadline: float
    ) -> _Pending:
        """Sign and send. One at a time, so that a nonce is used only if the one before it was taken."""
        if gas is None:
            gas = await self._estimate(to, data, value, deadline)
        async with self._turn_before(deadline):
            while True:
                await self._send_dropped(deadline)
                head = await self._patiently(self._access.head, deadline)
                tip = await self._patiently(self._access.tip, deadline)
                chain_nonce = await self._chain_nonce(deadline)
                nonce = max([chain_nonce, *(kept + 1 for kept in self._kept)])
                fee = 2 * head.base_fee + tip
                pending = _Pending(nonce, to, data, value, gas, tip, fee, head.number)
                self._sign(pending)
                try:
                    await self._patiently(lambda raw=pending.raw: self._access.send(raw), deadline)  # type: ignore[misc]
                except TransactionRefused:
                    # Anything but a nonce that is used already is final.
                    if await self._chain_nonce(deadline) <= nonce:
                        raise
                    if await self._result(pending, deadline) is None:
                        # Somebody else with this key was faster: take the next one.
                        continue
                    # It was this transaction itself, taken by a node whose answer was lost.
                self._keep(pending)
                return pending

    @asynccontextmanager
    async def _turn_before(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise self._overdue("others were being sent") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _estimate(self, to: Address, data: bytes, value: int, deadline: float) -> int:
        estimate = await self._patiently(
            lambda: self._access.estimate_gas(self.address, to, data, value), deadline
        )
        return with_margin(estimate, data)

    def _sign(self, pending: _Pending) -> None:
        fields: list[rlp.RlpItem] = [
            rlp.integer_to_bytes(self._access.chain_id),
            rlp.integer_to_bytes(pending.nonce),
            rlp.integer_to_bytes(pending.tip),
            rlp.integer_to_bytes(pending.fee),
            rlp.integer_to_bytes(pending.gas),
            pending.to,
            rlp.integer_to_bytes(pending.value),
            pending.data,
            [],
        ]
        signature = self._key.sign(keccak256(DYNAMIC_FEE_TYPE + rlp.encode(fields)))
        r, s = (
            rlp.integer_to_bytes(int.from_bytes(part, "big")) for part in (signature[:32], signature[32:64])
        )
        pending.raw = DYNAMIC_FEE_TYPE + rlp.encode([*fields, rlp.integer_to_bytes(signature[64]), r, s])
        pending.hashes.append(keccak256(pending.raw))

    def _keep(self, pending: _Pending) -> None:
        self._kept[pending.nonce] = pending
        settled = [nonce for nonce, kept in self._kept.items() if kept.included is not None]
        for nonce in sorted(settled)[: max(len(self._kept) - KEPT_MAX, 0)]:
            del self._kept[nonce]

    # ------------------------------------------------------------ watching

    async def _watch(self, pending: _Pending, deadline: float) -> TransactionResult:
        head = await self._head(deadline, pending)
        while True:
            result = await self._result(pending, deadline)
            pending.included = result
            if result is not None:
                if head.number >= result.block_number + self._confirmations:
                    return result
            elif pending.lost is not None:
                raise TransactionRefused(pending.lost)
            else:
                await self._revive(pending, head, deadline)
            head = await self._next_head(head, pending, deadline)

    async def _revive(self, pending: _Pending, head: Head, deadline: float) -> None:
        """See to it that a transaction without a block is waiting somewhere, and pays enough."""
        async with self._turn_before(deadline):
            await self._send_dropped(deadline)
            waited = head.number - pending.sent_block
            if pending.lost is None and waited > 0:
                # Another one with its nonce may be in a block: this must not take until it looks stuck.
                pending.lost = await self._replaced(pending, deadline)
            if pending.lost is not None:
                return
            tip = await self._patiently(self._access.tip, deadline)
            too_little = pending.fee < head.base_fee + tip or pending.tip < tip
            if pending.bumps >= BUMPS_MAX or not (waited >= STUCK_BLOCKS or (too_little and waited > 0)):
                return
            pending.tip = max(_bumped(pending.tip), tip)
            pending.fee = max(_bumped(pending.fee), 2 * head.base_fee + pending.tip)
            pending.sent_block = head.number
            pending.bumps += 1
            former = pending.raw
            self._sign(pending)
            try:
                await self._patiently(lambda: self._access.send(pending.raw), deadline)
            except TransactionRefused as error:
                # The former version is still there, or in a block by now.
                pending.raw = former
                _log.info("fee.not_raised", transaction=pending.hashes[-1].hex(), reason=str(error))

    async def _replaced(self, pending: _Pending, deadline: float) -> str | None:
        """Tell why no version of a transaction can come any more: a block has another one with its nonce.

        That may be one that this account sent before a restart.
        """
        try:
            await self._patiently(lambda: self._access.send(pending.raw), deadline)
        except TransactionRefused as error:
            is_used = await self._chain_nonce(deadline) > pending.nonce
            if is_used and await self._result(pending, deadline) is None:
                self._kept.pop(pending.nonce, None)
                return f"{error} (another transaction of the account has taken its nonce)"
        return None

    async def _send_dropped(self, deadline: float) -> None:
        """Send again what neither mempool nor chain has any more, in order."""
        chain_nonce = await self._chain_nonce(deadline)
        for nonce in sorted(nonce for nonce in self._kept if nonce >= chain_nonce):
            kept = self._kept[nonce]
            kept.included = None
            try:
                await self._patiently(lambda raw=kept.raw: self._access.send(raw), deadline)  # type: ignore[misc]
            except TransactionRefused as error:
                if await self._chain_nonce(deadline) > nonce:
                    continue  # A block has come in between.
                # Nothing comes of it, nor of those after it, and their nonces are free again.
                for later in [later for later in self._kept if later >= nonce]:
                    self._kept.pop(later).lost = f"{error} (dropped from the chain and not taken again)"
                return

    async def _result(self, pending: _Pending, deadline: float) -> TransactionResult | None:
        for version in reversed(pending.hashes):
            found = await self._patiently(lambda version=version: self._access.result(version), deadline)  # type: ignore[misc]
            if found is not None:
                return found
        return None

    async def _reason(self, pending: _Pending, result: TransactionResult) -> str:
        where = f"transaction 0x{result.transaction.hex()} in block {result.block_number}"
        if result.gas_used >= pending.gas:
            return f"{where} ran out of its {pending.gas} gas: send it again"
        try:
            await self._access.call(pending.to, pending.data, sender=self.address, value=pending.value)
        except CallReverted as error:
            return f"{error} ({where})"
        except ChainAccessError as error:
            return f"{where} was refused, and the node does not say why: {error}"
        return f"{where} was refused, for a reason that is gone by now: send it again"

    # ------------------------------------------------------------ the chain, with patience

    async def _chain_nonce(self, deadline: float) -> int:
        return await self._patiently(lambda: self._access.nonce(self.address), deadline)

    async def _head(self, deadline: float, pending: _Pending) -> Head:
        return await self._patiently(self._access.head, deadline, pending)

    async def _next_head(self, head: Head, pending: _Pending, deadline: float) -> Head:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise self._overdue("no block has taken it", pending)
        wait = min(left, HEAD_SECONDS)
        return await self._patiently(lambda: self._access.wait_head(head.number, wait), deadline, pending)

    async def _patiently(
        self, ask: Callable[[], Awaitable[_T]], deadline: float, pending: _Pending | None = None
    ) -> _T:
        """Ask a node that may be away for a while; what it refuses is raised at once."""
        loop, pause = asyncio.get_running_loop(), PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await ask()
            except (CallReverted, TransactionRefused):
                raise
            except ChainAccessError as error:
                if loop.time() + pause >= deadline:
                    raise self._overdue(f"the node does not answer: {error}", pending) from error
            except TimeoutError:
                raise self._overdue("the node does not answer", pending) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _overdue(self, why: str, pending: _Pending | None = None) -> TransactionOverdue:
        if pending is None:
            return TransactionOverdue(f"a transaction of 0x{self.address.hex()} is not sent in time: {why}")
        return TransactionOverdue(
            f"transaction 0x{pending.hashes[-1].hex()} (nonce {pending.nonce}) is in no block in time: {why}"
        )


async def send_transaction(
    access: ChainAccess,
    key: PrivateKey,
    to: Address,
    data: bytes,
    *,
    value: int = 0,
    gas: int | None = None,
    timeout_seconds: float = SEND_SECONDS,
) -> TransactionResult:
    """Send one transaction and wait for its block, as `TransactionSender.send_call`."""
    sender = TransactionSender(access, key)
    return await sender.send_call(to, data, value, gas=gas, timeout_seconds=timeout_seconds)


def _bumped(amount: int) -> int:
    return amount + amount * BUMP_PERCENT // 100 + 1
