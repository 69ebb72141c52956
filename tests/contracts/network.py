"""A chain whose blocks begin as drawn ones do, with miners, and stand-ins for contracts.

At the address of the Court, which is yet to come, stands code that passes on any call, so that a test can say
what it would. So it does at that of Settlement, unless a chain is started with the market.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account

from noria._core import BlockAttributes, CallResult, Engine, Header, decode_transaction
from noria.execution.accounts import DevAccount, dev_accounts
from noria.execution.block_start import Ballot, SlotStart
from noria.execution.consensus_state import ConsensusState
from noria.execution.genesis import GenesisMiner, GenesisWork, origin_root, possession_message
from noria.execution.parameters import DEVNET, ChainParameters
from noria.execution.spec import ChainSpec, dev_spec
from noria.execution.system_contracts import (
    BEACON_ROOTS,
    BURNED,
    CONSENSUS,
    COURT,
    MINER_REGISTRY,
    REWARD_POOL,
    SETTLEMENT,
    SYSTEM_CALLER,
    WORK_LEDGER,
)
from noria.primitives.hashes import blake3, keccak256
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import NOR, Address, BlsPublicKey, BlsSignature, Hash32, Wei
from tests.contracts.chain import revert_reason

GENESIS_SECONDS = 1_700_000_000
PROPOSER = Address(b"\x77" * 20)
PASS_ON = bytes.fromhex("602036038060205f375f5f915f345f355a f13d5f5f3e601c573d5ffd5b3d5ff3".replace(" ", ""))
"""Calls the address in the first word of its input with the rest of it and the value, and answers alike."""

SMALL = dataclasses.replace(
    DEVNET,
    epoch_slots=8,
    window_epochs=4,
    leak_epochs=3,
    jail_epochs=2,
    pool_rate=64,
    bond_min_wei=1_000,
    bond_per_weight_wei=10,
    bond_per_capacity_wei=10,
    floor_min_wei=1_000,
)
"""Parameters with which epochs pass quickly and sums fit the eye."""


@cache
def accounts() -> tuple[DevAccount, ...]:
    """Ten accounts with money."""
    return tuple(dev_accounts())


@cache
def bls_key(number: int) -> BlsSecretKey:
    """A BLS key of its own for every number."""
    return BlsSecretKey.from_seed(blake3(b"test bls" + number.to_bytes(8, "big")))


def possession(root: bytes, miner: bytes, number: int) -> bytes:
    """The proof for key `number`."""
    key = bls_key(number)
    return key.sign(possession_message(root, miner, key.public_key))


def base_spec(parameters: ChainParameters = SMALL) -> ChainSpec:
    """A specification without miners."""
    spec = dev_spec([account.address for account in accounts()], GENESIS_SECONDS)
    return dataclasses.replace(spec, name="test-network", parameters=parameters)


def genesis_miner(number: int, **fields: Any) -> GenesisMiner:
    """The account with this number as a miner from genesis on."""
    base = base_spec()
    origin = origin_root(base.name, base.chain_id, base.timestamp)
    miner = address(number)
    values: dict[str, Any] = {
        "address": miner,
        "bls_key": BlsPublicKey(bls_key(number).public_key),
        "proof_of_possession": BlsSignature(possession(origin, miner, number)),
        "peer_id": b"peer %d" % number,
        "capacity": 100,
        "ask_price": 7,
        "bond": Wei(1_000),
        **fields,
    }
    return GenesisMiner(**values)


def network_spec(
    miners: int = 4,
    *,
    parameters: ChainParameters = SMALL,
    work: Sequence[GenesisWork] = (),
    vault: int = 0,
    **fields: Any,
) -> ChainSpec:
    """A specification whose first accounts mine from genesis on."""
    return dataclasses.replace(
        base_spec(parameters),
        miners=tuple(genesis_miner(number, **fields) for number in range(miners)),
        genesis_work=tuple(work),
        reward_vault=Wei(vault),
    )


def engine_json(spec: ChainSpec, stand_ins: Sequence[Address] = (SETTLEMENT, COURT)) -> bytes:
    """The engine's genesis, with the stand-ins."""
    document = json.loads(spec.engine_json())
    for address in stand_ins:
        document["alloc"]["0x" + address.hex()] = {"nonce": "0x1", "code": "0x" + PASS_ON.hex()}
    return json.dumps(document).encode()


CREDIT = "credit(address,(bytes32,uint256,uint256,uint256)[])"
BEACON_HISTORY = 8191
SYSTEM_CALL_GAS = 30_000_000
"""What the engine gives each of the protocol's own calls."""


class Reverted(Exception):
    """A transaction that did not go through; the reason as the contract gives it."""


@dataclass
class Network:
    """Blocks on an engine, each begun as a drawn block is."""

    engine: Engine
    spec: ChainSpec
    nonces: dict[bytes, int] = field(default_factory=dict)
    vrf_proofs: list[tuple[int, bytes]] = field(default_factory=list)
    fee_recipient: bytes = PROPOSER

    @classmethod
    def start(cls, path: Path, spec: ChainSpec, *, market: bool = False) -> "Network":
        """Begin a chain in an empty folder; with the market, only the Court is a stand-in."""
        stand_ins = (COURT,) if market else (SETTLEMENT, COURT)
        return cls(Engine(str(path), engine_json(spec, stand_ins), sync=False), spec)

    # ------------------------------------------------------------ time

    @property
    def slot(self) -> int:
        """The head's; genesis has slot 0."""
        return (self.engine.head.timestamp - GENESIS_SECONDS) // self.spec.parameters.slot_seconds

    @property
    def epoch(self) -> int:
        """The head's."""
        return self.slot // self.spec.parameters.epoch_slots

    def first_block_of_epoch(self) -> int:
        """Number of the first block of the head's epoch; genesis is of none."""
        head = self.engine.head
        epoch_seconds = self.spec.parameters.epoch_slots * self.spec.parameters.slot_seconds
        begins, first = GENESIS_SECONDS + self.epoch * epoch_seconds, head.number
        while first > 1:
            before = self.engine.header(self.engine.canonical_hash(first - 1) or b"")
            if before is None or before.timestamp < begins:
                break
            first -= 1
        return first

    # ------------------------------------------------------------ blocks

    def genesis_root(self) -> bytes:
        """What the first block's parent is called."""
        return blake3(b"test genesis" + self.engine.genesis_hash)

    def parent_root(self) -> bytes:
        """What the next block's parent is called."""
        head = self.engine.head
        return self.genesis_root() if head.number == 0 else blake3(b"test root" + head.hash)

    def start_of(
        self,
        slot: int,
        *,
        votes: Sequence[Ballot] = (),
        guilty: Sequence[Address] = (),
        members: int | None = None,
    ) -> SlotStart:
        """What a node would tell Consensus; all miners may vote unless told otherwise."""
        state, head = self.state(), self.engine.head
        epoch_slots = self.spec.parameters.epoch_slots
        before, epoch = self.epoch, slot // epoch_slots
        proof = bytes(64) + blake3(b"test proof" + slot.to_bytes(8, "big") + head.hash)
        first = head.number == 0
        roots: list[Hash32] = []
        sets: list[int] = []
        if first or epoch > before:
            start = max(epoch - 1, 0) if first else max(before + 2, epoch - 1)
            roots = [self.snapshot_root(number) for number in range(start, epoch + 2)]
        if epoch > before:
            everybody = state.index_bits(state.miners) if members is None else members
            sets = [everybody] * (epoch + 1 - max(before + 1, epoch - 1))
        return SlotStart(
            prev_randao=Hash32(blake3(head.prev_randao + proof)),
            vrf_proof=BlsSignature(proof),
            snapshot_roots=tuple(roots),
            members=tuple(sets),
            fallen_asleep=state.fallen_asleep if epoch > before else 0,
            votes=tuple(votes),
            guilty=tuple(guilty),
        )

    @staticmethod
    def snapshot_root(epoch: int) -> Hash32:
        """A root of its own for every epoch."""
        return Hash32(blake3(b"test snapshot" + epoch.to_bytes(8, "big")))

    def extend(
        self,
        transactions: Sequence[Any] = (),
        *,
        slot: int | None = None,
        start: SlotStart | None = None,
        **told: Any,
    ) -> Header:
        """Build the next slot's block, or that of a later slot, and make it the head."""
        slot = self.slot + 1 if slot is None else slot
        start = self.start_of(slot, **told) if start is None else start
        head = self.engine.head
        attributes = BlockAttributes(
            timestamp=GENESIS_SECONDS + slot * self.spec.parameters.slot_seconds,
            fee_recipient=self.fee_recipient,
            prev_randao=start.prev_randao,
            parent_beacon_block_root=self.parent_root(),
            gas_limit=head.gas_limit,
            system_calls=start.calls(),
        )
        block = self.engine.build(head.hash, attributes, transactions)
        assert block.rejected == []
        self.engine.commit(block, make_head=True)
        self.vrf_proofs.append((slot, start.vrf_proof))
        return block.header

    def simulate(self, slot: int, start: SlotStart) -> CallResult:
        """Make the block-start call of a block that is not built: its gas, or why it would fail."""
        time = GENESIS_SECONDS + slot * self.spec.parameters.slot_seconds
        row, history = time % BEACON_HISTORY, BEACON_HISTORY
        roots = {_slot(row): _slot(time), _slot(row + history): "0x" + self.parent_root().hex()}
        data = start.calldata()
        block = {
            "time": hex(time),
            "number": hex(self.engine.head.number + 1),
            "prevRandao": "0x" + start.prev_randao.hex(),
            "feeRecipient": "0x" + self.fee_recipient.hex(),
        }
        return self.engine.call(
            self.engine.head.hash,
            call_request(CONSENSUS, data, SYSTEM_CALLER),
            gas_cap=SYSTEM_CALL_GAS + intrinsic_gas(data),
            state_overrides=json.dumps({"0x" + BEACON_ROOTS.hex(): {"stateDiff": roots}}).encode(),
            block_overrides=json.dumps(block).encode(),
        )

    def grow_to_epoch(self, epoch: int) -> None:
        """Make one block per epoch until the head is in this one."""
        while self.epoch < epoch:
            self.extend(slot=(self.epoch + 1) * self.spec.parameters.epoch_slots)

    # ------------------------------------------------------------ transactions

    def send(
        self, sender: int, to: bytes, signature: str, *arguments: object, value: int = 0, gas: int = 3_000_000
    ) -> dict[str, Any]:
        """Send a transaction in a block of its own; return its receipt, or raise why it failed."""
        return self.send_data(sender, to, calldata(signature, *arguments), value=value, gas=gas)

    def send_data(
        self, sender: int, to: bytes, data: bytes, *, value: int = 0, gas: int = 3_000_000
    ) -> dict[str, Any]:
        """The same with the input as it is."""
        account = accounts()[sender]
        nonce = self.nonces.get(account.address, 0)
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": self.spec.chain_id,
                "nonce": nonce,
                "to": to,
                "value": value,
                "gas": gas,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 0,
                "data": data,
            },
            account.private_key,
        )
        before = self.engine.head
        header = self.extend([decode_transaction(bytes(signed.raw_transaction))])
        self.nonces[account.address] = nonce + 1
        receipt: dict[str, Any] = json.loads(self.engine.receipt_json(header.hash, 0) or b"{}")
        if receipt["status"] != "0x1":
            request = call_request(to, data, account.address, value)
            overrides = json.dumps({"time": hex(header.timestamp), "number": hex(header.number)}).encode()
            result = self.engine.call(before.hash, request, gas_cap=30_000_000, block_overrides=overrides)
            raise Reverted(revert_reason(result) if result.output else result.error or result.status)
        return receipt

    def as_settlement(self, to: bytes, signature: str, *arguments: object, value: int = 0) -> dict[str, Any]:
        """Let Settlement make a call; account 9 pays."""
        return self.send_data(
            9, SETTLEMENT, to.rjust(32, b"\0") + calldata(signature, *arguments), value=value
        )

    def as_court(self, to: bytes, signature: str, *arguments: object) -> dict[str, Any]:
        """Let the Court make a call."""
        return self.send_data(9, COURT, to.rjust(32, b"\0") + calldata(signature, *arguments))

    def register(
        self, sender: int, *, bond: int = 1_000, key: int | None = None, **terms: Any
    ) -> dict[str, Any]:
        """Register an account with the key of its number, or another one."""
        number = sender if key is None else key
        address = accounts()[sender].address
        root = terms.pop("root", None) or self.genesis_root()
        return self.send(
            sender,
            MINER_REGISTRY,
            "register(bytes,bytes,bytes,uint256,uint256)",
            bls_key(number).public_key,
            terms.pop("proof", None) or possession(root, address, number),
            terms.get("peer_id", b"peer" + bytes([sender])),
            terms.get("capacity", 100),
            terms.get("ask_price", 7),
            value=bond,
        )

    def credit(
        self,
        miner: int,
        root: bytes,
        *,
        weight: int = 1_000,
        price: int = 10**9,
        fee: int = 10**9,
    ) -> dict[str, Any]:
        """Let Settlement credit a batch."""
        return self.credit_all(miner, [(root, weight, price, fee)])

    def credit_all(self, miner: int, items: Sequence[tuple[bytes, int, int, int]]) -> dict[str, Any]:
        """Let Settlement credit batches: root, weight, price and fee of each."""
        data = keccak256(CREDIT.encode())[:4] + encode(
            ["address", "(bytes32,uint256,uint256,uint256)[]"], [accounts()[miner].address, list(items)]
        )
        return self.send_data(9, SETTLEMENT, WORK_LEDGER.rjust(32, b"\0") + data)

    # ------------------------------------------------------------ reading

    def state(self) -> ConsensusState:
        """The state after the head."""
        return ConsensusState(self.engine, self.engine.head.hash, self.spec.parameters.leak_epochs)

    def call(self, to: bytes, signature: str, *arguments: object, sender: bytes = PROPOSER) -> CallResult:
        """Call a contract at the head."""
        return self.engine.call(
            self.engine.head.hash, call_request(to, calldata(signature, *arguments), sender), gas_cap=10**9
        )

    def ask(self, to: bytes, signature: str, answer: str, *arguments: object) -> Any:
        """Call a view and decode its answer, e.g. ``"uint256"``."""
        result = self.call(to, signature, *arguments)
        if result.status != "success":
            raise Reverted(revert_reason(result) if result.output else result.error)
        [value] = decode([answer], result.output)
        return value

    def miner(self, number: int) -> dict[str, Any]:
        """The record of an account in MinerRegistry."""
        names = [
            "place",
            "bls_head",
            "bls_tail",
            "bond",
            "unbonding",
            "free_epoch",
            "capacity",
            "ask_price",
            "life_epoch",
            "jailed_until",
            "slashed",
            "changed",
            "holds",
            "peer_id",
        ]
        types = "(uint256,bytes32,bytes16," + "uint256," * 10 + "bytes)"
        record = self.ask(MINER_REGISTRY, "miner(address)", types, accounts()[number].address)
        return dict(zip(names, record, strict=True))

    def balance(self, address: bytes) -> int:
        """Wei at the head."""
        return self.engine.account(self.engine.head.hash, address).balance

    def burned(self) -> int:
        """Wei that contracts have burned."""
        return self.balance(BURNED)

    def pool(self) -> int:
        """Wei of the reward pool."""
        return int(self.ask(REWARD_POOL, "pool()", "uint256"))


def intrinsic_gas(data: bytes) -> int:
    """What a transaction with this input pays before it runs; the protocol's own calls pay nothing."""
    return 21_000 + 16 * len(data) - 12 * data.count(0)


def _slot(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


def address(number: int) -> Address:
    """Address of an account; beyond those with money, one that nobody holds."""
    if number < len(accounts()):
        return Address(accounts()[number].address)
    return Address(blake3(b"test miner" + number.to_bytes(8, "big"))[:20])


def calldata(signature: str, *arguments: object) -> bytes:
    """Input of a call by signature."""
    inner = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + encode(inner.split(",") if inner else [], arguments)


def call_request(to: bytes, data: bytes, sender: bytes, value: int = 0) -> bytes:
    """The request of a read-only call."""
    return json.dumps(
        {"from": "0x" + sender.hex(), "to": "0x" + to.hex(), "data": "0x" + data.hex(), "value": hex(value)}
    ).encode()


def root(number: int) -> Hash32:
    """A batch's root of its own for every number."""
    return Hash32(blake3(b"test batch" + number.to_bytes(8, "big")))


ONE = Wei(NOR)
