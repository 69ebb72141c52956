"""The chain specification: one JSON file that says which chain this is and how it begins.

The file is described in ``docs/chain-specification.md``. Everything in it is checked before anything is built
on it; the first thing that is wrong is named in a `SpecError`.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import msgspec

from noria.execution.system_contracts import genesis_contracts, is_reserved
from noria.primitives.addresses import parse_address
from noria.primitives.amounts import format_amount, parse_amount
from noria.primitives.hexes import format_data, format_quantity, parse_data, parse_quantity
from noria.primitives.types import NOR, UINT64_MAX, UINT256_MAX, ZERO_ADDRESS, ZERO_HASH, Address, Hash32, Wei

MAX_SPEC_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 8
"""Nesting of objects and arrays; a specification needs four."""
MAX_GENESIS_ACCOUNTS: Final = 100_000
MAX_CODE_BYTES: Final = 24_576
"""EIP-170."""
MAX_EXTRA_DATA_BYTES: Final = 32
MIN_GAS_LIMIT: Final = 1_000_000
MAX_GAS_LIMIT: Final = 2**63 - 1
MAX_CHAIN_ID: Final = 2**63 - 37
"""EIP-2294: the largest id whose legacy ``v`` still fits 64 bits."""
MAX_TIMESTAMP_SECONDS: Final = 2**40

HARDFORKS: Final = ("cancun", "prague", "osaka")
"""Rules that a chain can follow, in the order of history. Older ones know no parent beacon block root, which
every block here carries."""

DEV_CHAIN_ID: Final = 5_132_114
DEV_GAS_LIMIT: Final = 36_000_000
DEV_BASE_FEE: Final = 1_000_000_000
DEV_BALANCE: Final = Wei(10_000 * NOR)


class SpecError(Exception):
    """A chain specification that cannot be used; one line: which field, what is wrong with it, what to do."""


_NOTHING: Final = Wei(0)
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


@dataclass(frozen=True, slots=True)
class GenesisAccount:
    """An account that exists before the first block."""

    balance: Wei = _NOTHING
    nonce: int = 0
    code: bytes = b""
    storage: Mapping[Hash32, Hash32] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSpec:
    """A validated chain specification. Equal specifications make equal genesis blocks.

    Raises
    ------
    SpecError
        On construction, for any value out of its bounds.

    Examples
    --------
    >>> spec = ChainSpec.load(Path("chain.json"))
    >>> engine = Engine("data", spec.engine_json())
    """

    name: str
    """For people: lower-case letters, digits and hyphens."""
    chain_id: int
    """EIP-155 id, in every transaction's signature."""
    hardforks: tuple[tuple[str, int], ...]
    """(name, activation time in Unix seconds), in the order of history."""
    timestamp: int
    """Of the genesis block, Unix seconds."""
    gas_limit: int
    """Of the genesis block, and what proposers keep to."""
    base_fee_per_gas: int
    """Of the genesis block, wei."""
    extra_data: bytes = b""
    prev_randao: Hash32 = ZERO_HASH
    fee_recipient: Address = ZERO_ADDRESS
    alloc: Mapping[Address, GenesisAccount] = field(default_factory=dict)
    """Accounts at genesis, without the system contracts: those are added by `engine_json`."""

    def __post_init__(self) -> None:
        """Check every bound, and freeze ``alloc``."""
        _check_name(self.name)
        _check_range("chain_id", self.chain_id, 1, MAX_CHAIN_ID)
        _check_range("timestamp", self.timestamp, 0, MAX_TIMESTAMP_SECONDS, "it is in seconds")
        _check_range("gas_limit", self.gas_limit, MIN_GAS_LIMIT, MAX_GAS_LIMIT)
        _check_range("base_fee_per_gas", self.base_fee_per_gas, 1, UINT64_MAX, "a fee of 0 could never rise")
        _check_length("extra_data", self.extra_data, 0, MAX_EXTRA_DATA_BYTES)
        _check_length("prev_randao", self.prev_randao, 32, 32)
        _check_length("fee_recipient", self.fee_recipient, 20, 20)
        _check_hardforks(self.hardforks, self.timestamp)
        _check_alloc(self.alloc)
        object.__setattr__(self, "alloc", MappingProxyType(dict(sorted(self.alloc.items()))))

    def __hash__(self) -> int:
        """Hash by what tells chains apart in practice; equality compares everything."""
        return hash((self.name, self.chain_id, self.timestamp, len(self.alloc)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate a specification file.

        Raises
        ------
        SpecError
            The file cannot be read, is too large, or is no valid specification. The message names the file.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SPEC_BYTES + 1)
        except OSError as error:
            raise SpecError(f"chain specification {path}: cannot be read ({error.strerror})") from error
        try:
            return cls.from_json(data)
        except SpecError as error:
            raise SpecError(f"chain specification {path}: {error}") from error

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Validate the content of a specification file; raise `SpecError`."""
        document = _parse(data)
        try:
            raw = msgspec.convert(document, type=_Document)
        except msgspec.ValidationError as error:
            raise SpecError(str(error)) from error
        return cls(
            name=raw.name,
            chain_id=raw.chain_id,
            hardforks=tuple(raw.hardforks.items()),
            timestamp=raw.timestamp,
            gas_limit=raw.gas_limit,
            base_fee_per_gas=raw.base_fee_per_gas,
            extra_data=_bytes("extra_data", raw.extra_data),
            prev_randao=Hash32(_bytes("prev_randao", raw.prev_randao, 32)),
            fee_recipient=_address("fee_recipient", raw.fee_recipient),
            alloc=_accounts(raw.alloc),
        )

    def to_json(self) -> bytes:
        """Return the specification file; `from_json` of it is equal to this specification."""
        alloc = {format_data(address): _file_account(account) for address, account in self.alloc.items()}
        hardforks = dict(self.hardforks)
        return _pretty({"name": self.name, "hardforks": hardforks, **self._genesis(), "alloc": alloc})

    def engine_json(self) -> bytes:
        """Return the genesis that `noria._core.Engine` takes: this specification and the system contracts."""
        accounts = dict(self.alloc)
        for contract in genesis_contracts():
            accounts[contract.address] = GenesisAccount(nonce=1, code=contract.code)
        alloc = {format_data(address): _engine_account(accounts[address]) for address in sorted(accounts)}
        return _pretty(
            {"hardforks": self.hardforks, "noria_precompiles": True, **self._genesis(), "alloc": alloc}
        )

    def _genesis(self) -> dict[str, Any]:
        """Return the fields that the file and the engine write alike."""
        return {
            "chain_id": self.chain_id,
            "timestamp": self.timestamp,
            "gas_limit": self.gas_limit,
            "base_fee_per_gas": self.base_fee_per_gas,
            "extra_data": format_data(self.extra_data),
            "prev_randao": format_data(self.prev_randao),
            "fee_recipient": format_data(self.fee_recipient),
        }


def dev_spec(accounts: Sequence[bytes], genesis_timestamp: int) -> ChainSpec:
    """Return the specification of a development chain: newest rules from genesis, funded accounts.

    Parameters
    ----------
    accounts
        Addresses that get `DEV_BALANCE` each.
    genesis_timestamp
        Unix seconds; the same value and accounts make the same genesis block.
    """
    return ChainSpec(
        name="noria-dev",
        chain_id=DEV_CHAIN_ID,
        hardforks=(("cancun", 0), ("prague", 0), ("osaka", 0)),
        timestamp=genesis_timestamp,
        gas_limit=DEV_GAS_LIMIT,
        base_fee_per_gas=DEV_BASE_FEE,
        extra_data=b"noria-dev",
        alloc={Address(address): GenesisAccount(balance=DEV_BALANCE) for address in accounts},
    )


# ---------------------------------------------------------------- the file


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    chain_id: int
    hardforks: dict[str, int]
    timestamp: int
    gas_limit: int
    base_fee_per_gas: int
    extra_data: str = "0x"
    prev_randao: str = "0x" + "00" * 32
    fee_recipient: str = "0x" + "00" * 20
    # Accounts are converted one by one, so that an error can name the account.
    alloc: dict[str, Any] = {}


class _AccountDocument(msgspec.Struct, forbid_unknown_fields=True):
    balance: str = "0x0"
    nonce: str = "0x0"
    code: str = "0x"
    storage: dict[str, str] = {}


def _check_depth(text: str) -> None:
    """Refuse deep nesting beforehand: the parser recurses, as deep as the process's limit lets it."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise SpecError(f"nested more than {MAX_DEPTH} deep")
        elif token in ("]", "}"):
            depth -= 1


def _parse(data: bytes) -> object:
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"larger than {MAX_SPEC_BYTES} bytes")

    # The standard parser, for it alone can tell that a name stands twice in an object.
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise SpecError(f"{_quote(twice)} stands twice in the same object: keep one")
        return result

    def constant(text: str) -> None:
        raise SpecError(f"{text} is not a number that JSON knows")

    try:
        text = data.decode("utf-8")
        _check_depth(text)
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8 text (byte {error.start})") from error
    except ValueError as error:
        raise SpecError(f"not JSON: {error}") from error


def _accounts(raw: Mapping[str, Any]) -> dict[Address, GenesisAccount]:
    if len(raw) > MAX_GENESIS_ACCOUNTS:
        raise SpecError(f"alloc: {len(raw)} accounts, at most {MAX_GENESIS_ACCOUNTS} are allowed")
    accounts: dict[Address, GenesisAccount] = {}
    for key, value in raw.items():
        address = _address("alloc", key)
        where = f"alloc.{format_data(address)}"
        if address in accounts:
            raise SpecError(f"{where}: stands twice: keep one")
        try:
            account = msgspec.convert(value, type=_AccountDocument)
        except msgspec.ValidationError as error:
            raise SpecError(f"{where}: {error}") from error
        storage: dict[Hash32, Hash32] = {}
        for slot_text, value_text in account.storage.items():
            slot = Hash32(_bytes(f"{where}.storage", slot_text, 32))
            if slot in storage:
                raise SpecError(f"{where}.storage: {format_data(slot)} stands twice: keep one")
            storage[slot] = Hash32(_bytes(f"{where}.storage.{format_data(slot)}", value_text, 32))
        accounts[address] = GenesisAccount(
            balance=_balance(f"{where}.balance", account.balance),
            nonce=_nonce(f"{where}.nonce", account.nonce),
            code=_bytes(f"{where}.code", account.code),
            storage=storage,
        )
    return accounts


def _file_account(account: GenesisAccount) -> dict[str, Any]:
    return _engine_account(account) | {"balance": format_amount(account.balance)}


def _engine_account(account: GenesisAccount) -> dict[str, Any]:
    storage = {format_data(slot): format_data(account.storage[slot]) for slot in sorted(account.storage)}
    return {
        "balance": format_quantity(account.balance),
        "nonce": format_quantity(account.nonce),
        "code": format_data(account.code),
        "storage": storage,
    }


def _pretty(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _quote(text: str) -> str:
    """Show text from outside: escaped, and never longer than a line."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _bytes(where: str, text: str, size: int | None = None) -> bytes:
    try:
        return parse_data(text, size=size)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def _address(where: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def _nonce(where: str, text: str) -> int:
    try:
        return parse_quantity(text, bits=64)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def _balance(where: str, text: str) -> Wei:
    try:
        return Wei(parse_quantity(text)) if text.startswith("0x") else parse_amount(text)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


# ---------------------------------------------------------------- bounds


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 64 or not all(char in "abcdefghijklmnopqrstuvwxyz0123456789-" for char in name):
        raise SpecError(f"name: {_quote(name)} is not 1 to 64 lower-case letters, digits and hyphens")


def _check_range(where: str, value: int, least: int, most: int, hint: str = "") -> None:
    if not least <= value <= most:
        shown = str(value) if abs(value) < 10**30 else "the number"
        raise SpecError(f"{where}: {shown} is not within {least} and {most}" + (f": {hint}" if hint else ""))


def _check_length(where: str, value: bytes, least: int, most: int) -> None:
    if not least <= len(value) <= most:
        allowed = f"{least}" if least == most else f"{least} to {most}"
        raise SpecError(f"{where}: has {len(value)} bytes, {allowed} are allowed")


def _check_hardforks(hardforks: Sequence[tuple[str, int]], genesis_timestamp: int) -> None:
    if not hardforks:
        raise SpecError('hardforks: empty: name at least one, for example {"osaka": 0}')
    for name, time in hardforks:
        if name not in HARDFORKS:
            raise SpecError(f"hardforks: {_quote(name)} is not among {', '.join(HARDFORKS)}")
        _check_range(f"hardforks.{name}", time, 0, MAX_TIMESTAMP_SECONDS, "it is in seconds")
    for (earlier, earlier_time), (later, later_time) in itertools.pairwise(hardforks):
        if HARDFORKS.index(earlier) >= HARDFORKS.index(later):
            raise SpecError(f"hardforks: {later} must stand before {earlier}, once")
        if earlier_time > later_time:
            raise SpecError(f"hardforks: {later} at {later_time} is earlier than {earlier} at {earlier_time}")
    first, first_time = hardforks[0]
    if first_time > genesis_timestamp:
        raise SpecError(
            f"hardforks: {first} at {first_time} comes after genesis at {genesis_timestamp}:"
            " name what holds at genesis"
        )


def _check_alloc(alloc: Mapping[Address, GenesisAccount]) -> None:
    supply = 0
    for address, account in alloc.items():
        _check_length("alloc", address, 20, 20)
        where = f"alloc.{format_data(address)}"
        if is_reserved(address):
            raise SpecError(f"{where}: belongs to the protocol: leave it out")
        _check_range(f"{where}.balance", account.balance, 0, UINT256_MAX)
        _check_range(f"{where}.nonce", account.nonce, 0, UINT64_MAX - 1)
        _check_length(f"{where}.code", account.code, 0, MAX_CODE_BYTES)
        for slot, value in account.storage.items():
            _check_length(f"{where}.storage", slot, 32, 32)
            _check_length(f"{where}.storage", value, 32, 32)
        supply += account.balance
    if supply > UINT256_MAX:
        raise SpecError("alloc: all balances together exceed 2**256 - 1 wei")
