"""A chain of blocks that hold nothing but the protocol's own calls, and view calls on it."""

import json
from dataclasses import dataclass, field

from eth_abi.abi import decode, encode

from noria._core import BlockAttributes, CallResult, Engine, ExecutedBlock, Header, Transaction
from noria.execution.system_contracts import CONSENSUS, block_start_calls
from noria.primitives.hashes import blake3, keccak256

PROPOSER = b"\x77" * 20
STRANGER = b"\x88" * 20


def randao(number: int) -> bytes:
    """A distinct prevRandao for every block."""
    return blake3(b"test randao" + number.to_bytes(8, "big"))


@dataclass
class ConsensusChain:
    """Blocks on an engine, each begun by the call to Consensus."""

    engine: Engine
    randaos: dict[int, bytes] = field(default_factory=dict)

    def build(
        self,
        transactions: list[Transaction] | None = None,
        *,
        prev_randao: bytes | None = None,
        told: bytes | None = None,
    ) -> ExecutedBlock:
        """Build the next block; ``told`` is what the call says where that is not the header's prevRandao."""
        head = self.engine.head
        value = randao(head.number + 1) if prev_randao is None else prev_randao
        attributes = BlockAttributes(
            timestamp=head.timestamp + 1,
            fee_recipient=PROPOSER,
            prev_randao=value,
            parent_beacon_block_root=head.hash,
            gas_limit=head.gas_limit,
            system_calls=block_start_calls(value if told is None else told),
        )
        return self.engine.build(head.hash, attributes, transactions or [])

    def extend(
        self, transactions: list[Transaction] | None = None, prev_randao: bytes | None = None
    ) -> Header:
        """Build a block and make it the head."""
        block = self.build(transactions, prev_randao=prev_randao)
        self.engine.commit(block, make_head=True)
        self.randaos[block.header.number] = block.header.prev_randao
        return block.header

    def grow_to(self, number: int) -> None:
        """Extend until the head has this number."""
        while self.engine.head.number < number:
            self.extend()

    def call(self, signature: str, *arguments: object, sender: bytes = STRANGER) -> CallResult:
        """Call Consensus at the head, by a signature such as ``prev_randao(uint256)``."""
        types = signature[signature.index("(") + 1 : -1].split(",")
        data = keccak256(signature.encode())[:4] + encode(types, arguments)
        request = {"from": "0x" + sender.hex(), "to": "0x" + CONSENSUS.hex(), "data": "0x" + data.hex()}
        return self.engine.call(self.engine.head.hash, json.dumps(request).encode(), gas_cap=10_000_000)

    def prev_randao(self, number: int) -> bytes | str:
        """What Consensus answers for a block: 32 bytes, or the reason for which it reverts."""
        result = self.call("prev_randao(uint256)", number)
        return result.output if result.status == "success" else revert_reason(result)


def revert_reason(result: CallResult) -> str:
    """Return the text of ``Error(string)``."""
    assert result.status == "revert", (result.status, result.error)
    assert result.output[:4].hex() == "08c379a0", result.output.hex()
    [reason] = decode(["string"], result.output[4:])
    return str(reason)
