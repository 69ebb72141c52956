"""Random histories on the real engine: whatever happened, what the pool offers can be mined."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from noria._core import Engine, decode_transactions
from noria.chain.production import dev_attributes
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import ChainSpec
from noria.execution.system_contracts import block_start_calls
from tests.chain.conftest import MakeChain
from tests.chain.transfers import GWEI, authorization_transaction, transfer


class History:
    """A chain, a rival engine on which other branches grow, and dice."""

    def __init__(self, chain: Chain, rival: Engine, keys: list[DevAccount], dice: random.Random) -> None:
        self.chain = chain
        self.rival = rival
        self.keys = keys
        self.dice = dice
        self.accepted: set[bytes] = set()
        self.reverted = False
        self.mined = 0

    def _nonce(self, engine: Engine, account: DevAccount) -> int:
        return engine.account(engine.head.hash, account.address).nonce

    def _some(self, engine: Engine) -> bytes:
        account = self.dice.choice(self.keys)
        nonce = max(0, self._nonce(engine, account) + self.dice.randint(-1, 4))
        tip = self.dice.randint(1, 40)
        to = self.dice.choice(self.keys).address
        return transfer(account, nonce, to=to, value=self.dice.choice((1, 10**18)), tip=tip * GWEI // 10)

    async def send(self) -> None:
        raws = [self._some(self.chain.engine) for _ in range(self.dice.randint(1, 12))]
        self.accepted |= {out for out in await self.chain.submit(raws) if isinstance(out, bytes)}

    async def delegate(self) -> None:
        """An authorisation raises the nonce of an account that may have transactions waiting."""
        sender, authority = self.dice.sample(self.keys, 2)
        engine = self.chain.engine
        raw = authorization_transaction(
            sender, self._nonce(engine, sender), authority, self._nonce(engine, authority)
        )
        self.accepted |= {out for out in await self.chain.submit([raw]) if isinstance(out, bytes)}

    async def mine(self) -> None:
        self.mined += len(self.chain.engine.transaction_hashes((await self.chain.mine()).hash) or [])

    async def overtake(self) -> None:
        """Let the rival grow a longer branch from a block that both know."""
        engine, rival = self.chain.engine, self.rival
        fork = engine.head.number - self.dice.randint(0, min(3, engine.head.number))
        fork_hash = engine.canonical_hash(fork)
        assert fork_hash is not None
        if rival.header(fork_hash) is None:
            return  # mined here and never told
        rival.set_head(fork_hash)
        before = self.chain.head.number
        while rival.head.number <= before:
            found = decode_transactions([self._some(rival) for _ in range(self.dice.randint(0, 8))])
            parent = rival.head
            attributes = dev_attributes(
                parent,
                timestamp=parent.timestamp + self.dice.randint(1, 9),
                gas_limit=self.chain.spec.gas_limit,
            )
            block = rival.build(
                parent.hash, attributes, [tx for tx in found if not isinstance(tx, Exception)]
            )
            rival.commit(block, make_head=True)
            await self.chain.import_block(block.rlp(), block_start_calls(block.header.prev_randao))
        assert self.chain.head.hash == rival.head.hash

    async def tell(self) -> None:
        """Bring the rival to our branch."""
        missing: list[bytes] = []
        at = self.chain.head
        while self.rival.header(at.hash) is None:
            missing.append(at.hash)
            parent = self.chain.engine.header(at.parent_hash)
            assert parent is not None
            at = parent
        for block_hash in reversed(missing):
            rlp = self.chain.engine.block_rlp(block_hash)
            header = self.chain.engine.header(block_hash)
            assert rlp is not None
            assert header is not None
            block = self.rival.execute(rlp, block_start_calls(header.prev_randao))
            self.rival.commit(block, make_head=False)

    async def revert(self) -> None:
        number = self.dice.randint(max(0, self.chain.head.number - 4), self.chain.head.number)
        block_hash = self.chain.engine.canonical_hash(number)
        assert block_hash is not None
        self.reverted = True
        await self.chain.revert_to(block_hash)

    def check(self) -> None:
        chain, engine, pool = self.chain, self.chain.engine, self.chain.mempool
        head = engine.head
        assert chain.head.hash == chain.pool_head.hash == head.hash
        addresses = [account.address for account in self.keys]
        for address, (nonce, balance) in zip(addresses, engine.nonces(head.hash, addresses), strict=True):
            waiting = pool.by_sender(address)
            assert sum(tx.max_cost for tx in waiting) <= balance
            assert all(tx.nonce >= nonce for tx in waiting)
            run = {tx.nonce for tx in waiting}
            expected = nonce
            while expected in run:
                expected += 1
            assert pool.pending_nonce(address, nonce) == expected
        candidates = pool.candidates(head.next_base_fee())
        attributes = dev_attributes(head, timestamp=head.timestamp + 1, gas_limit=chain.spec.gas_limit)
        built = engine.build(head.hash, attributes, candidates)
        # A delegation in the block itself may take a nonce from under others; nothing else may be refused.
        if not any(tx.type == 4 for tx in candidates):
            assert built.rejected == []
            assert built.transaction_hashes == [tx.hash for tx in candidates]
        if not self.reverted:  # what a revert takes back is forgotten on purpose
            for tx_hash in self.accepted:
                known = tx_hash in pool or pool.departure(tx_hash) is not None
                assert known or engine.transaction_location(tx_hash) is not None


@pytest.mark.parametrize("seed", range(6))
async def test_what_the_pool_offers_can_be_mined(
    seed: int, make_chain: MakeChain, tmp_path: Path, spec: ChainSpec, dev_keys: list[DevAccount]
) -> None:
    dice = random.Random(seed)
    chain = await make_chain(automine=False)
    rival = Engine(str(tmp_path / "rival"), spec.engine_json(), sync=False)
    history = History(chain, rival, dev_keys[:4], dice)
    steps = [history.send] * 6 + [history.mine] * 2 + [history.delegate, history.overtake, history.tell]
    if seed % 2:
        steps.append(history.revert)
    for _ in range(120):
        await dice.choice(steps)()
        history.check()
    assert history.mined > 5
    rival.close()
