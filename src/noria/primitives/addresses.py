"""Addresses: their text with the checksum of EIP-55, and where created contracts land."""

from __future__ import annotations

from noria.primitives import rlp
from noria.primitives.hashes import keccak256
from noria.primitives.hexes import parse_data
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, UINT64_MAX, Address, Hash32


class WrongChecksum(ValueError):
    """An address in mixed case whose capitals are not those of EIP-55: a typing error is likely."""


def checksum_address(address: Address) -> str:
    """Write an address with EIP-55 capitals, the form for people.

    Parameters
    ----------
    address
        20 bytes.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Where `address` is not 20 bytes.

    Examples
    --------
    >>> checksum_address(Address(bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")))
    '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266'
    """
    if len(address) != ADDRESS_BYTES:
        raise ValueError(f"an address has {ADDRESS_BYTES} bytes, not {len(address)}")
    digits = address.hex()
    mask = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if bit >= "8" else digit for digit, bit in zip(digits, mask, strict=False)
    )


def parse_address(text: object, *, check_capitals: bool = True) -> Address:
    """Read an address.

    Parameters
    ----------
    text
        ``0x`` and 40 hexadecimal digits.
    check_capitals
        Whether mixed case must be right by EIP-55. Text all in lower or all in upper case carries no checksum
        and is always taken. Ethereum's JSON-RPC does not check, so `False` is for it; what people type is
        checked.

    Returns
    -------
    Address

    Raises
    ------
    InvalidHex
        Where it is not ``0x`` and 40 digits.
    WrongChecksum
        Where the capitals are wrong.

    Examples
    --------
    >>> parse_address("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266").hex()
    'f39fd6e51aad88f6f4ce6ab8827279cfffb92266'
    >>> parse_address("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
    Traceback (most recent call last):
    noria.primitives.addresses.WrongChecksum: 0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266 has wrong capitals...
    """
    address = Address(parse_data(text, size=ADDRESS_BYTES))
    digits = str(text)[2:]
    if check_capitals and digits not in (digits.lower(), digits.upper(), checksum_address(address)[2:]):
        raise WrongChecksum(f"{text} has wrong capitals (EIP-55): check it for a typing error")
    return address


def create_address(sender: Address, nonce: int) -> Address:
    """Address of the contract that a transaction of `sender`, or its CREATE, makes.

    Parameters
    ----------
    sender
        Account or contract that creates.
    nonce
        Its nonce before the creation.

    Returns
    -------
    Address

    Raises
    ------
    ValueError
        Where `sender` is not 20 bytes or `nonce` not 64 bits.

    Examples
    --------
    >>> sender = parse_address("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    >>> checksum_address(create_address(sender, 0))
    '0xcd234A471b72ba2F1Ccf0A70FCABA648a5eeCD8d'
    """
    _require(len(sender) == ADDRESS_BYTES, f"an address has {ADDRESS_BYTES} bytes, not {len(sender)}")
    _require(0 <= nonce <= UINT64_MAX, f"a nonce has 64 bits, unlike {nonce}")
    return Address(keccak256(rlp.encode([sender, rlp.integer_to_bytes(nonce)]))[-ADDRESS_BYTES:])


def create2_address(creator: Address, salt: Hash32, init_code: bytes) -> Address:
    """Address of the contract that a CREATE2 of `creator` makes (EIP-1014).

    Parameters
    ----------
    creator
        Contract that creates.
    salt
        32 bytes of its choice.
    init_code
        Code that returns the contract's code.

    Returns
    -------
    Address

    Raises
    ------
    ValueError
        Where `creator` is not 20 bytes or `salt` not 32.

    Examples
    --------
    >>> from noria.primitives.types import ZERO_ADDRESS, ZERO_HASH
    >>> checksum_address(create2_address(ZERO_ADDRESS, ZERO_HASH, bytes(1)))
    '0x4D1A2e2bB4F88F0250f26Ffff098B0b30B26BF38'
    """
    _require(len(creator) == ADDRESS_BYTES, f"an address has {ADDRESS_BYTES} bytes, not {len(creator)}")
    _require(len(salt) == HASH_BYTES, f"a salt has {HASH_BYTES} bytes, not {len(salt)}")
    return Address(keccak256(b"\xff" + creator + salt + keccak256(init_code))[-ADDRESS_BYTES:])


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
