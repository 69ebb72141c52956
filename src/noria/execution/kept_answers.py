"""Answers of contracts that need not be asked again, block after block.

What a view returns that reads only storage of certain contracts, is the same as long as their storage roots
are. Most blocks register nobody and credit nothing, so that most of what is asked about miners and their work
has been answered before.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, Protocol, TypeVar

import msgspec

from noria._core import Account, CallResult
from noria.execution.system_contracts import MINER_REGISTRY, SETTLEMENT, WORK_LEDGER
from noria.primitives.types import Address

READS: Final[dict[Address, tuple[Address, ...]]] = {
    MINER_REGISTRY: (MINER_REGISTRY,),
    WORK_LEDGER: (WORK_LEDGER, SETTLEMENT),
}
"""Of these contracts views are asked that read the storage of those, and nothing else."""
KEPT_MAX: Final = 4_096
KEPT_BYTES_MAX: Final = 16 << 20
BLOCKS_MAX: Final = 512
"""Blocks whose storage roots are remembered."""

Value = TypeVar("Value")


class Engine(Protocol):
    """What is needed of `noria._core.Engine`."""

    def account(self, block_hash: bytes, address: bytes) -> Account:
        """Return an account after a block."""
        ...

    def call(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> CallResult:
        """Run a call on the state after a block."""
        ...


class _Request(msgspec.Struct):
    to: str


class KeptAnswers:
    """Reads the contracts of a chain, and keeps what they answer: a `StateReader` for `ConsensusState`.

    Any thread may use it.

    Parameters
    ----------
    engine
        The chain's.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._decoder = msgspec.json.Decoder(_Request)
        self._roots: OrderedDict[tuple[bytes, Address], bytes] = OrderedDict()
        self._answers: OrderedDict[tuple[bytes, bytes], CallResult] = OrderedDict()
        self._bytes = 0

    def call(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> CallResult:
        """Run a call on the state after a block, or return what it gave on the same state before."""
        to = Address(bytes.fromhex(self._decoder.decode(request).to[2:]))
        if to not in READS:
            return self._engine.call(block_hash, request, gas_cap=gas_cap)
        key = (self._root(block_hash, to), request)
        found = self._answers.get(key)
        if found is None:
            found = self._engine.call(block_hash, request, gas_cap=gas_cap)
            self._keep(key, found)
        return found

    def _root(self, block_hash: bytes, contract: Address) -> bytes:
        """Return what everything that the contract's views read hangs on."""
        found = self._roots.get((block_hash, contract))
        if found is None:
            account = self._engine.account
            found = b"".join(account(block_hash, read).storage_root for read in READS[contract])
            self._roots[block_hash, contract] = found
            while len(self._roots) > BLOCKS_MAX:
                self._forget(self._roots)
        return found

    def _keep(self, key: tuple[bytes, bytes], answer: CallResult) -> None:
        self._answers[key] = answer
        self._bytes += len(answer.output)
        while len(self._answers) > KEPT_MAX or self._bytes > KEPT_BYTES_MAX:
            gone = self._forget(self._answers)
            if gone is None:
                return
            self._bytes -= len(gone.output)

    @staticmethod
    def _forget(kept: OrderedDict[Any, Value]) -> Value | None:
        # Another thread may have taken the last one.
        try:
            return kept.popitem(last=False)[1]
        except KeyError:
            return None
