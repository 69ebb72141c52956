"""A process that mines and says so: for tests that end it at any moment, or take its disk away.

Usage: ``python -m tests.chain.mining_process DATA_DIR BLOCKS [FILE_BYTES_MAX [RELAXED]]``. It prints one line
per acknowledged transaction, ``mined NUMBER BLOCK_HASH TX_HASH``, and ends with ``done`` or ``error KIND
MESSAGE``.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from noria._core import NoriaError
from noria.node.dev import DevConfig, DevNode
from noria.node.logs import configure_logging
from tests.chain.transfers import transfer, tx_hash

PAYLOAD = bytes(range(1, 256)) * 120
"""Makes each block about 30 KB, so that the disk fills soon."""


async def mine(data_dir: Path, blocks: int, file_bytes_max: int = 0, relaxed: int = 0) -> None:
    async with DevNode(DevConfig(data_dir=data_dir)) as node:
        chain = node.chain
        payload = b""
        if file_bytes_max:
            payload = PAYLOAD
            # Python ignores the signal; writes fail with an error instead.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, resource.RLIM_INFINITY))
        account = node.accounts[0]
        if relaxed:
            await chain.relax()
        first = chain.engine.account(chain.head.hash, account.address).nonce
        print("ready", chain.head.number, flush=True)
        try:
            for nonce in range(first, first + blocks):
                raw = transfer(account, nonce, data=payload, gas=21_000 + 40 * len(payload))
                (outcome,) = await chain.submit([raw])
                assert outcome == tx_hash(raw), outcome
                place = await chain.wait_for_transaction(outcome, timeout_seconds=60)
                print("mined", place.block_number, place.block_hash.hex(), outcome.hex(), flush=True)
        except NoriaError as error:
            # The chain can still be read.
            head = chain.engine.head
            assert head.hash == chain.head.hash
            assert chain.engine.block_rlp(head.hash) is not None
            assert chain.engine.account(head.hash, account.address).nonce == head.number
            print("error", type(error).__name__, error.args[-1], flush=True)
            return
        print("done", flush=True)


if __name__ == "__main__":
    configure_logging("error")
    asyncio.run(mine(Path(sys.argv[1]), *map(int, sys.argv[2:])))
