"""Against the Python execution specification: the same blocks give the same gas, receipts and state roots."""

import dataclasses
import random
from pathlib import Path

import pytest

from noria._core import Engine, Transaction, decode_transactions
from noria.chain.production import dev_attributes
from noria.execution.spec import ChainSpec, dev_spec
from noria.execution.system_contracts import block_start_calls
from tests.differential.assembly import CALL_AND_LOG, OPCODES, assemble, deployment, word
from tests.differential.scenarios import SCENARIOS, tell
from tests.differential.story import Story

specification = pytest.importorskip(
    "tests.differential.specification",
    reason="the execution specification (ethereum-execution) is not installed",
    exc_type=ImportError,
)

FORKS = ("cancun", "prague", "osaka")
GENESIS_TIMESTAMP = 1_700_000_000
SECONDS_PER_BLOCK = 12
RANDOM_PROGRAMS = 40


def chain_spec(fork: str, story: Story) -> ChainSpec:
    spec = dev_spec([account.address for account in story.accounts], GENESIS_TIMESTAMP)
    return dataclasses.replace(spec, hardforks=((fork, 0),))


def assert_same_blocks(fork: str, story: Story, path: Path) -> None:
    """Build the story's blocks with the engine and follow each one by the specification."""
    spec = chain_spec(fork, story)
    engine = Engine(str(path), spec.engine_json(), sync=False)
    try:
        reference = specification.Reference(fork, spec.engine_json(), engine.genesis_hash)
        assert reference.state_root() == engine.head.state_root
        for raws in story.finished():
            parent = engine.head
            attributes = dev_attributes(
                parent, timestamp=parent.timestamp + SECONDS_PER_BLOCK, gas_limit=spec.gas_limit
            )
            transactions = [tx for tx in decode_transactions(raws) if isinstance(tx, Transaction)]
            assert len(transactions) == len(raws)
            block = engine.build(parent.hash, attributes, transactions)
            assert block.rejected == []
            expected = reference.apply(block.header, raws, block_start_calls(block.header.prev_randao))
            engine.commit(block, make_head=True)
            header = block.header
            assert header.gas_used == expected.gas_used
            assert header.receipts_root == expected.receipts_root
            assert header.logs_bloom == expected.logs_bloom
            assert header.transactions_root == expected.transactions_root
            assert header.state_root == expected.state_root
    finally:
        engine.close()


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_same_as_the_specification(name: str, fork: str, engine_path: Path) -> None:
    if name == "delegations" and fork == "cancun":
        pytest.skip("EIP-7702 begins with Prague")
    assert_same_blocks(fork, tell(name), engine_path)


def random_program(chooser: random.Random) -> bytes:
    """Instructions at random after some small numbers on the stack; most programs run for a while."""
    code = assemble(" ".join(str(chooser.choice((0, 1, 2, 5, 31, 32, 64, 255))) for _ in range(24)))
    for _ in range(chooser.randint(5, 60)):
        if chooser.random() < 0.4:
            code += assemble(
                str(chooser.choice((0, 1, 4, 32, 64, 2**255, 2**256 - 1, chooser.getrandbits(160))))
            )
        else:
            code += bytes([chooser.choice(list(OPCODES.values()))])
    return code


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_run_as_specified(seed: int, engine_path: Path) -> None:
    chooser = random.Random(seed)
    story = Story()
    for number in range(RANDOM_PROGRAMS):
        story.deploy(number % 10, random_program(chooser), gas=200_000, value=number)
        if number % 10 == 9:
            story.mine()
    assert_same_blocks("osaka", story, engine_path)


def random_precompile_input(chooser: random.Random, number: int) -> bytes:
    """Input of about the right size: zeros, noise, or numbers that mean something."""
    sizes = {1: 128, 6: 128, 7: 96, 8: 384, 9: 213, 10: 192, 11: 256, 12: 320, 13: 512, 14: 576, 15: 768}
    sizes |= {16: 64, 17: 128, 0x100: 160}
    if number == 5:
        lengths = [chooser.choice((0, 1, 2, 31, 32, 33, 64, 100, 256, 1024, 1025)) for _ in range(3)]
        return b"".join(map(word, lengths)) + b"".join(chooser.randbytes(length) for length in lengths)
    if number == 9:
        return chooser.randint(0, 30).to_bytes(4, "big") + chooser.randbytes(208) + chooser.randbytes(1)
    if number in (16, 17):
        # Field elements: 16 zero bytes, then a number near the modulus, which begins with 0x1a.
        halves = [bytes(16) + bytes([chooser.randint(0, 27)]) + chooser.randbytes(47) for _ in range(2)]
        return b"".join(halves[: number - 15])
    size = sizes.get(number, chooser.randint(0, 200)) + chooser.choice((0, 0, 0, -1, 1))
    return bytes(size) if chooser.random() < 0.4 else chooser.randbytes(size)


@pytest.mark.parametrize("fork", ["prague", "osaka"])
def test_precompiles_take_any_input_as_specified(fork: str, engine_path: Path) -> None:
    chooser = random.Random(fork)
    story = Story()
    proxy = story.deploy(0, deployment(CALL_AND_LOG))
    for sender in range(10):
        story.mine()
        for number in chooser.sample([*range(1, 18), 0x100], 5):
            story.send(sender, proxy, data=word(number) + random_precompile_input(chooser, number))
    assert_same_blocks(fork, story, engine_path)
