"""Contracts are not asked again while what they read has not changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from noria.execution.kept_answers import BLOCKS_MAX, KEPT_BYTES_MAX, KEPT_MAX, KeptAnswers
from noria.execution.system_contracts import CONSENSUS, MINER_REGISTRY, SETTLEMENT, WORK_LEDGER
from noria.primitives.types import Address


@dataclass
class Account:
    storage_root: bytes


@dataclass
class Answer:
    output: bytes
    status: str = "success"


class Chain:
    """Blocks by hash, each with the storage roots of contracts; counts what it is asked."""

    def __init__(self) -> None:
        self.roots: dict[tuple[bytes, bytes], bytes] = {}
        self.calls = 0
        self.size = 1

    def account(self, block_hash: bytes, address: bytes) -> Any:
        return Account(self.roots.get((block_hash, address), bytes(32)))

    def call(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> Any:
        self.calls += 1
        return Answer(bytes([self.calls % 256]) * self.size)


def request(to: Address, data: str = "00") -> bytes:
    return b'{"to":"0x%b","data":"0x%b"}' % (to.hex().encode(), data.encode())


def test_the_same_state_is_asked_once() -> None:
    chain = Chain()
    kept = KeptAnswers(chain)
    for to in (MINER_REGISTRY, WORK_LEDGER):
        first = kept.call(b"one", request(to), gas_cap=1)
        assert kept.call(b"two", request(to), gas_cap=1) is first
        assert kept.call(b"two", request(to, "01"), gas_cap=1) is not first
    assert chain.calls == 4


def test_another_state_is_asked_anew() -> None:
    for changed, asked in (
        (MINER_REGISTRY, MINER_REGISTRY),
        (WORK_LEDGER, WORK_LEDGER),
        # The ledger's views read what Settlement holds, too.
        (SETTLEMENT, WORK_LEDGER),
    ):
        chain = Chain()
        kept = KeptAnswers(chain)
        first = kept.call(b"one", request(asked), gas_cap=1)
        chain.roots[b"two", changed] = b"\x01" * 32
        second = kept.call(b"two", request(asked), gas_cap=1)
        assert second is not first
        # And a chain that goes back finds what it knew.
        assert kept.call(b"one", request(asked), gas_cap=1) is first


def test_what_changes_with_every_block_is_never_kept() -> None:
    chain = Chain()
    kept = KeptAnswers(chain)
    for _ in range(3):
        kept.call(b"one", request(CONSENSUS), gas_cap=1)
    assert chain.calls == 3


def test_memory_is_bounded_in_answers_bytes_and_blocks() -> None:
    chain = Chain()
    kept = KeptAnswers(chain)
    for number in range(KEPT_MAX + 10):
        kept.call(b"one", request(MINER_REGISTRY, f"{number:08x}"), gas_cap=1)
    assert len(kept._answers) == KEPT_MAX
    chain.size = KEPT_BYTES_MAX // 4
    for number in range(10):
        kept.call(b"one", request(WORK_LEDGER, f"{number:08x}"), gas_cap=1)
    assert kept._bytes <= KEPT_BYTES_MAX
    assert kept._bytes == sum(len(answer.output) for answer in kept._answers.values())
    for number in range(BLOCKS_MAX + 10):
        kept.call(number.to_bytes(4, "big"), request(MINER_REGISTRY), gas_cap=1)
    assert len(kept._roots) == BLOCKS_MAX
