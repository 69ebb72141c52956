"""What is compared: stories that touch each rule at which two implementations could differ."""

import hashlib
from collections.abc import Callable
from typing import Final

from benchmarks.traffic import erc20
from noria._core import keccak256, sign_digest
from noria.primitives.addresses import create2_address, create_address
from noria.primitives.types import Hash32
from tests.differential.assembly import CALL_AND_LOG, STORE_INPUT, assemble, deployment, word
from tests.differential.story import GWEI, Story

NOBODY: Final = b"\xaa" * 20
SUPPLY: Final = 10**24


def selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


def transfers(story: Story) -> None:
    """Each type of transaction, to new, old and own accounts, with and without value and data.

    Different tips stand in different blocks: in which order to take them is a node's own choice.
    """
    story.send(0, NOBODY, value=10**18)
    story.send(0, story.address(0), value=1, gasPrice=5 * GWEI)
    story.mine()
    story.send(1, story.address(2), value=0, gasPrice=5 * GWEI, accessList=[])
    story.mine()
    story.send(0, NOBODY, value=1, data=b"\x00\x01" * 50)
    story.send(2, b"\x01".rjust(20, b"\0"), value=5)
    story.mine()
    # The exact gas of a transfer, and a tip that the fee cap cuts.
    story.send(3, NOBODY, value=1, gas=21_000, maxFeePerGas=2 * GWEI, maxPriorityFeePerGas=2 * GWEI)


def calldata_floor(story: Story) -> None:
    """EIP-7623: much data and little work pay for the data."""
    story.send(0, NOBODY, data=b"\x01" * 5_000)
    story.send(0, NOBODY, data=bytes(5_000))
    spender = story.deploy(1, deployment(assemble("200 PUSH0 KECCAK256 0 SSTORE STOP")))
    story.mine()
    story.send(1, spender, data=b"\x01" * 2_000)


def token(story: Story) -> None:
    """An ERC-20 with successful and failing transfers."""
    contract = story.deploy(0, erc20().init_code + word(SUPPLY), gas=2_000_000)
    story.mine()
    pay, approve = selector("transfer(address,uint256)"), selector("approve(address,uint256)")
    story.send(0, contract, data=pay + word(story.address(1)) + word(1000))
    story.send(0, contract, data=approve + word(story.address(2)) + word(50))
    story.mine()
    story.send(1, contract, data=pay + word(story.address(3)) + word(1000))
    story.send(1, contract, data=pay + word(story.address(3)) + word(1))
    draw = selector("transferFrom(address,address,uint256)")
    story.send(2, contract, data=draw + word(story.address(0)) + word(story.address(4)) + word(50))
    story.send(2, contract, data=draw + word(story.address(0)) + word(story.address(4)) + word(1))
    story.send(3, contract, data=b"\x12\x34")
    story.send(3, contract, data=pay, value=1)


def failures(story: Story) -> None:
    """Every way in which code can fail, each in a contract of its own."""
    codes = [
        "0x08c379a0 224 SHL PUSH0 MSTORE 100 PUSH0 REVERT",
        "PUSH0 PUSH0 REVERT",
        "INVALID",
        "ADD",
        "3 JUMP",
        "JUMPDEST PUSH0 JUMP",
        "0xffffffff MLOAD",
        "1 PUSH0 SSTORE PUSH0 PUSH0 REVERT",
        "1 PUSH0 0 RETURNDATACOPY",
        "PUSH0 PUSH0 LOG0 INVALID",
    ]
    contracts = [story.deploy(0, deployment(assemble(code))) for code in codes]
    contracts.append(story.deploy(0, deployment(b"\x0c")))
    story.mine()
    for contract in contracts:
        story.send(1, contract, gas=100_000)
    story.send(1, contracts[0], value=10**15, gas=21_050)


def creations(story: Story) -> None:
    """Creations that succeed, fail, collide, or return what is not allowed."""
    story.deploy(0, b"")
    story.deploy(0, assemble("PUSH0 PUSH0 REVERT"))
    story.deploy(0, assemble("INVALID"))
    story.deploy(0, assemble("0xef PUSH0 MSTORE8 1 PUSH0 RETURN"))
    story.deploy(0, assemble("24577 PUSH0 RETURN"), gas=10_000_000)
    story.deploy(0, assemble("24576 PUSH0 RETURN"), gas=10_000_000)
    story.deploy(0, assemble("1000 PUSH0 RETURN"), gas=60_000)
    story.deploy(0, assemble("CALLVALUE PUSH0 SSTORE PUSH0 PUSH0 RETURN"), value=7)
    story.mine()
    child = deployment(assemble("CALLER PUSH0 SSTORE STOP"))
    store = f"0x{child.hex()} PUSH0 MSTORE"
    start = 32 - len(child)
    assert start >= 0
    factory = story.deploy(
        1, deployment(assemble(f"{store} {len(child)} {start} PUSH0 CREATE PUSH0 SSTORE STOP"))
    )
    salted = story.deploy(
        1, deployment(assemble(f"{store} 42 {len(child)} {start} PUSH0 CREATE2 PUSH0 SSTORE STOP"))
    )
    story.mine()
    for _ in range(2):
        story.send(2, factory)
        story.send(2, salted)
    children = {create_address(factory, 1), create_address(factory, 2)}
    salt = Hash32(word(42))
    story.watched |= children | {create2_address(salted, salt, child)}
    story.mine()
    for address in sorted(children):
        story.send(3, address)


def self_destruction(story: Story) -> None:
    """EIP-6780: an old contract gives its money away, a new one goes as well."""
    heir = f"0x{NOBODY.hex()} SELFDESTRUCT"
    old = story.deploy(0, deployment(assemble(heir)), value=1000)
    own = story.deploy(0, deployment(assemble("ADDRESS SELFDESTRUCT")), value=1000)
    story.deploy(0, assemble(heir), value=1000)
    story.deploy(0, assemble("ADDRESS SELFDESTRUCT"), value=1000)
    story.mine()
    story.send(1, old)
    story.send(1, own)
    story.mine()
    story.send(1, old, value=5)


def storage(story: Story) -> None:
    """Cold and warm slots, refunds, access lists, transient storage."""
    contract = story.deploy(0, deployment(STORE_INPUT))
    toggler = story.deploy(0, deployment(assemble("1 7 SSTORE 0 7 SSTORE 1 7 SSTORE STOP")))
    fleeting = story.deploy(
        0, deployment(assemble("5 1 TSTORE 1 TLOAD PUSH0 SSTORE 9 3 MSTORE 32 3 64 MCOPY STOP"))
    )
    story.mine()
    for slot, value in ((0, 1), (1, 1), (0, 2), (0, 0), (1, 0), (1, 5)):
        story.send(1, contract, data=word(slot) + word(value))
    listed = [
        {"address": "0x" + contract.hex(), "storageKeys": ["0x" + word(slot).hex() for slot in range(4)]}
    ]
    story.send(2, contract, data=word(2) + word(1), accessList=listed)
    story.send(2, contract, data=word(2) + word(0), accessList=listed, gasPrice=5 * GWEI)
    story.send(2, toggler)
    story.send(2, fleeting)
    story.mine()
    story.send(2, fleeting, accessList=[{"address": "0x" + NOBODY.hex(), "storageKeys": []}])


def instructions(story: Story) -> None:
    """What blocks and transactions tell code, and arithmetic at its edges; results are stored."""
    asked = ["ORIGIN", "CALLER", "CALLVALUE", "GASPRICE", "CHAINID", "SELFBALANCE", "GASLIMIT", "BASEFEE"]
    asked += ["BLOBBASEFEE", "0 BLOBHASH", "CODESIZE", "MSIZE", "PC", "1 BALANCE", "ADDRESS EXTCODEHASH"]
    edges = ["0 1 DIV", "0 1 MOD", "0 NOT 1 255 SHL SDIV", "0 NOT 255 SIGNEXTEND", "3 0 NOT 0 NOT MULMOD"]
    edges += ["256 1 SHL", "300 0 NOT SAR", "0 NOT 2 EXP", "32 5 BYTE"]
    text = " ".join(f"{code} {slot} SSTORE" for slot, code in enumerate(asked + edges))
    contract = story.deploy(0, deployment(assemble(f"{text} STOP")))
    leading = story.deploy(0, deployment(assemble("0x1234 CLZ PUSH0 SSTORE 0 CLZ 1 SSTORE STOP")))
    story.mine()
    story.send(1, contract, value=3)
    story.send(1, leading)


def precompiles(story: Story) -> None:
    """Each precompiled contract of Ethereum through a contract that logs what it answers."""
    proxy = story.deploy(0, deployment(CALL_AND_LOG))
    story.mine()
    digest = keccak256(b"message")
    signature = sign_digest(story.accounts[0].private_key, digest)
    recovery = digest + word(27 + signature[64]) + signature[:64]
    generator = word(1) + word(2)
    modulus = bytes.fromhex("ff" * 64)
    sample = hashlib.sha256(b"sample").digest()
    p256 = sample + bytes.fromhex(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    )
    inputs: list[tuple[int, bytes]] = [
        (1, recovery),
        (1, recovery[:-1]),
        (2, b"abc"),
        (3, b"abc"),
        (4, b"identity" * 9),
        (5, word(1) + word(1) + word(1) + b"\x03\x05\x07"),
        (5, word(64) + word(64) + word(64) + modulus + modulus + modulus),
        (5, word(0) + word(0) + word(0)),
        (5, word(2**40) + word(1) + word(1)),
        (6, generator + generator),
        (6, word(1) + word(1) + generator),
        (7, generator + word(2**200)),
        (8, b""),
        (8, b"\x01" * 192),
        (9, (12).to_bytes(4, "big") + bytes(208) + b"\x01"),
        (9, bytes(213 - 1) + b"\x02"),
        (10, bytes(192)),
        (11, bytes(256)),
        (12, bytes(160)),
        (13, bytes(512)),
        (14, bytes(288)),
        (15, bytes(384)),
        (16, bytes(64)),
        (17, bytes(128)),
        (17, bytes(127)),
        (0x100, p256),
        (0x100, p256[:-1] + b"\x00"),
        (0x100, b""),
        (0x101, b"no precompile"),
    ]
    for number, data in inputs:
        story.send(1, proxy, data=word(number) + data)


def delegations(story: Story) -> None:
    """EIP-7702: accounts that take on code, lose it, and authorisations that do not count."""
    writer = story.deploy(0, deployment(STORE_INPUT))
    caller = story.deploy(0, deployment(CALL_AND_LOG))
    story.mine()
    # Sponsored, and used in the same transaction.
    story.send(
        0,
        story.address(1),
        data=word(1) + word(77),
        authorizationList=[story.authorization(1, writer)],
    )
    story.mine()
    story.send(2, story.address(1), data=word(2) + word(78))
    story.send(2, caller, data=word(story.address(1)) + word(3) + word(79))
    # An account with code still pays for itself.
    story.send(1, NOBODY, value=1)
    story.mine()
    # Authorisations that are passed over: wrong chain, wrong nonce; and one for every chain, which counts.
    ignored = [
        story.authorization(3, writer, nonce=0, chain_id=1),
        story.authorization(3, writer, nonce=5),
        story.authorization(4, writer, nonce=2**64 - 1),
    ]
    story.send(0, NOBODY, authorizationList=[*ignored, story.authorization(5, caller, chain_id=0)])
    story.mine()
    # Oneself: the transaction's own nonce is used up before the authorisation's.
    own_nonce = story.nonces.get(6, 0) + 1
    story.send(
        6,
        story.address(6),
        data=word(9) + word(9),
        authorizationList=[story.authorization(6, writer, nonce=own_nonce)],
    )
    story.nonces[6] += 1
    story.mine()
    # Chains of delegation are not followed, and the zero address takes the code away.
    story.send(0, story.address(7), authorizationList=[story.authorization(7, story.address(1))])
    story.mine()
    story.send(0, story.address(1), authorizationList=[story.authorization(1, bytes(20))])
    story.mine()
    story.send(2, story.address(1), data=word(2) + word(80))
    story.send(0, NOBODY, gas=30_000, value=1)


def full_blocks(story: Story) -> None:
    """Many senders in one block, with cumulative gas, and a base fee that moves."""
    burner = story.deploy(0, deployment(assemble("1200000 MLOAD STOP")))
    for _ in range(3):
        story.mine()
        for sender in range(10):
            story.send(sender, burner, gas=3_000_000)
        for sender in range(10):
            story.send(sender, NOBODY, value=sender)


SCENARIOS: Final[dict[str, Callable[[Story], None]]] = {
    scenario.__name__: scenario
    for scenario in (
        transfers,
        calldata_floor,
        token,
        failures,
        creations,
        self_destruction,
        storage,
        instructions,
        precompiles,
        delegations,
        full_blocks,
    )
}


def tell(name: str) -> Story:
    """Make the story of this name."""
    story = Story()
    SCENARIOS[name](story)
    return story
