"""Jobs on a test network with the real market contracts: what requesters, miners and others would send."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.execution.parameters import ChainParameters
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import JOB_MARKET, PROGRAM_REGISTRY, SETTLEMENT
from noria.market import contracts as calls
from noria.market.access import EventLog
from noria.market.typed_data import Domain, details_hash, sign_allow, sign_approval
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Address, Hash32
from tests.contracts.network import SMALL, Network, accounts, address, network_spec, root

PROGRAM = Hash32(b"\x21" * 32)
"""Published by `DEVELOPER`, where a test wants a royalty."""
PINNED = Hash32(b"\x22" * 32)
DETAILS = details_hash(b"details")
REQUESTER, DEVELOPER, STRANGER = 8, 7, 6
SESSION = PrivateKey(b"\x31" * 32)
PRICE = 7
"""What genesis miners ask for, wei per fuel."""
CHALLENGE, CLOSE = SMALL.challenge_blocks, SMALL.close_blocks
FEE = SMALL.fee_basis_points
ASSIGN_WITHIN = calls.ASSIGN_WITHIN_BLOCKS


@dataclass(frozen=True)
class Made:
    """A batch as its miner makes it."""

    root: bytes
    fuel: int = 1_000
    weight: int = 1_000
    count: int = 1
    first_index: int = 0


def made(number: int, **fields: Any) -> Made:
    """A batch with a root of its own for every number."""
    if "fuel" in fields:
        fields.setdefault("weight", fields["fuel"])
    return Made(root(number), **fields)


def key_of(number: int) -> PrivateKey:
    """The key of an account."""
    return PrivateKey(accounts()[number].private_key)


def market_spec(miners: int = 4, *, parameters: ChainParameters = SMALL, **fields: Any) -> ChainSpec:
    """A network with a pinned program."""
    return dataclasses.replace(network_spec(miners, parameters=parameters, **fields), programs=(PINNED,))


@dataclass
class Market:
    """The market of a network; the number of a person is that of its account."""

    network: Network
    gas: dict[str, int] = field(default_factory=dict)
    """Of the last call of each name."""

    @classmethod
    def start(cls, path: Path, spec: ChainSpec | None = None) -> "Market":
        """Begin a chain in an empty folder, with its first block."""
        market = cls(Network.start(path, market_spec() if spec is None else spec, market=True))
        market.network.extend()
        return market

    @property
    def domain(self) -> Domain:
        """What signatures are for."""
        return Domain(self.network.spec.chain_id, Hash32(self.network.genesis_root()))

    @property
    def block(self) -> int:
        """The head's number."""
        return self.network.engine.head.number

    def pass_blocks(self, number: int) -> None:
        """Make empty blocks."""
        for _ in range(number):
            self.network.extend()

    def send(self, sender: int, to: Address, data: bytes, value: int = 0) -> list[calls.MarketEvent]:
        """Send a call in a block of its own; return what the market's contracts logged."""
        receipt = self.network.send_data(sender, to, data, value=value, gas=10_000_000)
        self.gas["last"] = int(receipt["gasUsed"], 16)
        return [event for log in receipt["logs"] if (event := calls.decode_event(event_log(log)))]

    # ------------------------------------------------------------ JobMarket

    def open(
        self,
        *,
        requester: int = REQUESTER,
        value: int = 1_000_000,
        named: Sequence[int] | None = None,
        **fields: Any,
    ) -> int:
        """Open a job and return its number."""
        terms: dict[str, Any] = {
            "program_id": PINNED,
            "details_hash": DETAILS,
            "session_key": SESSION.address,
            "max_price": 100,
            "replicas": 2,
            "public": True,
            "share": 100_000,
            "deadline": 0,
            **fields,
        }
        if named is None:
            data = calls.open_call(**{"miners": 3, **terms})
        else:
            data = calls.open_directed_call(**terms, named=[address(number) for number in named])
        events = self.send(requester, JOB_MARKET, data, value)
        [opened] = [event for event in events if isinstance(event, calls.Opened)]
        return opened.job

    def assign(self, job: int, sender: int = STRANGER) -> list[int]:
        """Draw the miners; return their numbers."""
        events = self.send(sender, JOB_MARKET, calls.assign_call(job))
        return [number_of(event.miner) for event in events if isinstance(event, calls.Assigned)]

    def running(self, **fields: Any) -> tuple[int, list[int]]:
        """Open a job, let it be assigned, and return it with its miners."""
        job = self.open(**fields)
        self.pass_blocks(1)
        return job, self.assign(job)

    def request(self, data: bytes, value: int = 0, sender: int = REQUESTER) -> list[calls.MarketEvent]:
        """Send a call to JobMarket."""
        return self.send(sender, JOB_MARKET, data, value)

    # ------------------------------------------------------------ Settlement

    def commit(
        self,
        job: int,
        k: int,
        miner: int,
        batch: Made,
        total: int,
        *,
        key: PrivateKey = SESSION,
        allow: bytes | None = None,
    ) -> list[calls.MarketEvent]:
        """Commit with an allow of `total`."""
        signature = sign_allow(key, self.domain, job, k, total) if allow is None else allow
        return self.send(miner, SETTLEMENT, calls.commit_call(job, k, batch, total, signature))

    def commit_approved(
        self, job: int, k: int, miner: int, batch: Made, *, key: PrivateKey = SESSION
    ) -> list[calls.MarketEvent]:
        """Commit with an approval; the batch's first index must be right."""
        signature = sign_approval(key, self.domain, job, k, batch)
        return self.send(miner, SETTLEMENT, calls.commit_approved_call(job, k, batch, signature))

    def approve(
        self, job: int, k: int, batches: Sequence[Made], *, key: PrivateKey = SESSION, sender: int = STRANGER
    ) -> list[calls.MarketEvent]:
        """Have batches paid by approval."""
        signatures = [sign_approval(key, self.domain, job, k, batch) for batch in batches]
        data = calls.approve_call(job, k, [batch.root for batch in batches], signatures)
        return self.send(sender, SETTLEMENT, data)

    def finalize(
        self, job: int, k: int, batches: Sequence[Made], sender: int = STRANGER
    ) -> list[calls.MarketEvent]:
        """Have batches paid by time."""
        return self.send(sender, SETTLEMENT, calls.finalize_call(job, k, [batch.root for batch in batches]))

    def credit(
        self, job: int, k: int, batches: Sequence[Made], sender: int = STRANGER
    ) -> list[calls.MarketEvent]:
        """Have batches credited."""
        return self.send(sender, SETTLEMENT, calls.credit_call(job, k, [batch.root for batch in batches]))

    def publish(self, royalty: int, program: bytes = PROGRAM, sender: int = DEVELOPER) -> None:
        """Publish a program."""
        self.send(sender, PROGRAM_REGISTRY, calls.publish_call(program, royalty, b"metadata"))


def number_of(miner: bytes) -> int:
    """The number of an account."""
    return next(number for number in range(len(accounts())) if address(number) == miner)


def event_log(log: dict[str, Any]) -> EventLog:
    """A log of a receipt."""
    return EventLog(
        address=Address(bytes.fromhex(log["address"][2:])),
        topics=tuple(Hash32(bytes.fromhex(topic[2:])) for topic in log["topics"]),
        data=bytes.fromhex(log["data"][2:]),
        block_number=int(log["blockNumber"], 16),
        transaction=Hash32(bytes.fromhex(log["transactionHash"][2:])),
    )


def dumped(value: object) -> str:
    """JSON of a value, for messages."""
    return json.dumps(value, default=str)
