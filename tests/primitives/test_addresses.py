from __future__ import annotations

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from noria.primitives.addresses import (
    WrongChecksum,
    checksum_address,
    create2_address,
    create_address,
    parse_address,
)
from noria.primitives.hexes import InvalidHex, WrongLength
from noria.primitives.types import Address, Hash32

addresses = st.binary(min_size=20, max_size=20).map(Address)

# EIP-55: all capitals, all lower case, mixed.
EIP_55 = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", EIP_55)
def test_checksums_are_those_of_eip_55(text: str) -> None:
    assert checksum_address(parse_address(text)) == text


@given(addresses)
def test_checksums_are_those_of_an_independent_library(address: Address) -> None:
    text = checksum_address(address)
    assert text == to_checksum_address(address)
    assert parse_address(text) == parse_address(text.lower()) == address
    assert parse_address("0x" + text[2:].upper()) == address


def test_wrong_capitals_are_refused_where_people_type() -> None:
    wrong = EIP_55[4].replace("A", "a", 1)
    with pytest.raises(WrongChecksum, match=wrong):
        parse_address(wrong)
    assert parse_address(wrong, check_capitals=False) == parse_address(wrong.lower())


@pytest.mark.parametrize(
    "text", ["", "0x", EIP_55[0][2:], EIP_55[0][:-1], EIP_55[0] + "0", EIP_55[0][:-1] + "g", 5, None]
)
def test_text_that_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(InvalidHex):
        parse_address(text)


def test_an_address_of_another_size_is_refused_everywhere() -> None:
    short = Address(bytes(19))
    with pytest.raises(WrongLength, match="length 38, want 40"):
        parse_address("0x" + short.hex())
    with pytest.raises(ValueError, match="20 bytes, not 19"):
        checksum_address(short)
    with pytest.raises(ValueError, match="20 bytes, not 19"):
        create_address(short, 0)
    with pytest.raises(ValueError, match="20 bytes, not 19"):
        create2_address(short, Hash32(bytes(32)), b"")


@pytest.mark.parametrize(
    ("nonce", "created"),
    [
        (0, "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"),
        (1, "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"),
        (2, "0xf778b86fa74e846c4f0a1fbd1335fe81c00a0c91"),
        (3, "0xfffd933a0bc612844eaf0c6fe3e5b8e9b6c1d19c"),
    ],
)
def test_creation_gives_the_known_addresses(nonce: int, created: str) -> None:
    sender = parse_address("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    assert create_address(sender, nonce) == parse_address(created)


@given(addresses, st.integers(0, 2**64 - 1))
def test_creation_is_that_of_an_independent_library(sender: Address, nonce: int) -> None:
    encoded = rlp.encode([bytes(sender), nonce])
    assert create_address(sender, nonce) == keccak(encoded)[12:]


@pytest.mark.parametrize("nonce", [-1, 2**64])
def test_a_nonce_beyond_64_bits_is_refused(nonce: int) -> None:
    with pytest.raises(ValueError, match=str(nonce)):
        create_address(Address(bytes(20)), nonce)


@pytest.mark.parametrize(
    ("creator", "salt", "init_code", "created"),
    [
        # The examples of EIP-1014.
        ("00" * 20, "00" * 32, "00", "0x4D1A2e2bB4F88F0250f26Ffff098B0b30B26BF38"),
        ("deadbeef" + "00" * 16, "00" * 32, "00", "0xB928f69Bb1D91Cd65274e3c79d8986362984fDA3"),
        (
            "deadbeef" + "00" * 16,
            "00" * 12 + "feed" + "00" * 18,
            "00",
            "0xD04116cDd17beBE565EB2422F2497E06cC1C9833",
        ),
        ("00" * 20, "00" * 32, "deadbeef", "0x70f2b2914A2a4b783FaEFb75f459A580616Fcb5e"),
        (
            "00" * 16 + "deadbeef",
            "00" * 28 + "cafebabe",
            "deadbeef",
            "0x60f3f640a8508fC6a86d45DF051962668E1e8AC7",
        ),
        (
            "00" * 16 + "deadbeef",
            "00" * 28 + "cafebabe",
            "deadbeef" * 11,
            "0x1d8bfDC5D46DC4f61D6b6115972536eBE6A8854C",
        ),
        ("00" * 20, "00" * 32, "", "0xE33C0C7F7df4809055C3ebA6c09CFe4BaF1BD9e0"),
    ],
)
def test_create2_gives_the_addresses_of_eip_1014(
    creator: str, salt: str, init_code: str, created: str
) -> None:
    address = create2_address(
        Address(bytes.fromhex(creator)), Hash32(bytes.fromhex(salt)), bytes.fromhex(init_code)
    )
    assert checksum_address(address) == created


def test_a_salt_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        create2_address(Address(bytes(20)), Hash32(bytes(31)), b"")


def test_a_key_of_a_well_known_wallet_has_its_address_in_its_capitals() -> None:
    account = Account.from_key(b"\x01" * 32)
    assert checksum_address(parse_address(account.address)) == account.address
