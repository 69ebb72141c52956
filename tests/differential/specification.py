"""Blocks by the Python execution specification (``ethereum-execution``), from the engine's own genesis."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ethereum.crypto.hash import Hash32
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes20, Bytes32
from ethereum_types.numeric import U64, U256, Uint

from noria._core import Header

BEACON_ROOTS = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")
BLOCK_HASHES = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the specification says about a block."""

    gas_used: int
    receipts_root: bytes
    transactions_root: bytes
    logs_bloom: bytes
    state_root: bytes


class Reference:
    """A chain followed by the specification of one hard fork.

    Parameters
    ----------
    fork
        ``"cancun"``, ``"prague"`` or ``"osaka"``.
    genesis
        What the engine was opened with.
    genesis_hash
        Of the genesis block, whose hash contracts can ask for.
    """

    def __init__(self, fork: str, genesis: bytes, genesis_hash: bytes) -> None:
        package = f"ethereum.forks.{fork}"
        self._fork: Any = importlib.import_module(f"{package}.fork")
        self._vm: Any = importlib.import_module(f"{package}.vm")
        self._state: Any = importlib.import_module(f"{package}.state")
        self._types: Any = importlib.import_module(f"{package}.fork_types")
        self._bloom: Any = importlib.import_module(f"{package}.bloom")
        self._trie: Any = importlib.import_module(f"{package}.trie")
        self._transactions: Any = importlib.import_module(f"{package}.transactions")
        document = json.loads(genesis)
        self._chain_id = document["chain_id"]
        self._system_calls_before = [BEACON_ROOTS] if fork == "cancun" else [BEACON_ROOTS, BLOCK_HASHES]
        self._hashes = [Hash32(genesis_hash)]
        self._current = self._state.State()
        for text, account in document["alloc"].items():
            self._allocate(Bytes20.fromhex(text.removeprefix("0x")), account)

    def _allocate(self, address: Bytes20, account: dict[str, Any]) -> None:
        new = self._types.Account(
            nonce=Uint(int(account["nonce"], 16)),
            balance=U256(int(account["balance"], 16)),
            code=bytes.fromhex(account["code"].removeprefix("0x")),
        )
        self._state.set_account(self._current, address, new)
        for slot, value in account["storage"].items():
            key = Bytes32.fromhex(slot.removeprefix("0x"))
            self._state.set_storage(self._current, address, key, U256(int(value, 16)))

    def state_root(self) -> bytes:
        """Root of the present state."""
        return bytes(self._state.state_root(self._current))

    def apply(
        self, header: Header, raws: Sequence[bytes], system_calls: Sequence[tuple[bytes, bytes]]
    ) -> Expected:
        """Execute a block with this header's environment on the present state.

        Parameters
        ----------
        header
            Of the engine's block; only what the proposer decides is taken from it.
        raws
            Network encodings of the transactions.
        system_calls
            Calls at the block's start after those of Ethereum.
        """
        environment = self._vm.BlockEnvironment(
            chain_id=U64(self._chain_id),
            state=self._current,
            block_gas_limit=Uint(header.gas_limit),
            block_hashes=self._hashes[-256:],
            coinbase=Bytes20(header.fee_recipient),
            number=Uint(header.number),
            base_fee_per_gas=Uint(header.base_fee_per_gas),
            time=U256(header.timestamp),
            prev_randao=Bytes32(header.prev_randao),
            excess_blob_gas=U64(0),
            parent_beacon_block_root=Hash32(header.parent_beacon_block_root),
        )
        data = {BEACON_ROOTS: header.parent_beacon_block_root, BLOCK_HASHES: header.parent_hash}
        calls = [(address, data[address]) for address in self._system_calls_before] + list(system_calls)
        for address, calldata in calls:
            self._call_system_contract(environment, address, calldata)
        output = self._vm.BlockOutput()
        for index, raw in enumerate(raws):
            # A legacy transaction is RLP itself, the others begin with their type.
            encoded = rlp.decode_to(self._transactions.LegacyTransaction, raw) if raw[0] >= 0xC0 else raw
            transaction = self._transactions.decode_transaction(encoded)
            self._fork.process_transaction(environment, output, transaction, Uint(index))
        self._hashes.append(Hash32(header.hash))
        return Expected(
            gas_used=int(output.block_gas_used),
            receipts_root=bytes(self._trie.root(output.receipts_trie)),
            transactions_root=bytes(self._trie.root(output.transactions_trie)),
            logs_bloom=bytes(self._bloom.logs_bloom(output.block_logs)),
            state_root=self.state_root(),
        )

    def _call_system_contract(self, environment: Any, address: bytes, calldata: bytes) -> None:
        named = getattr(self._fork, "process_unchecked_system_transaction", None)
        target = Bytes20(address)
        if named is not None:
            output = named(environment, target, calldata)
        else:
            code = self._state.get_account(self._current, target).code
            output = self._fork.process_system_transaction(environment, target, code, calldata)
        assert output.error is None, f"system call to {address.hex()} failed: {output.error}"
