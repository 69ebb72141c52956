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

from noria.execution.genesis import (
    GenesisMiner,
    GenesisWork,
    check_miners,
    check_work,
    file_miner,
    file_parameters,
    file_work,
    origin_root,
    read_miners,
    read_parameters,
    read_work,
)
from noria.execution.genesis_storage import (
    ledger_storage,
    pool_storage,
    program_storage,
    registry_storage,
)
from noria.execution.parameters import DEVNET, ChainParameters
from noria.execution.spec_checks import (
    SpecError,
    check_length,
    check_range,
    quote,
    read_address,
    read_amount,
    read_bytes,
    read_nonce,
)
from noria.execution.system_contracts import (
    MINER_REGISTRY,
    PROGRAM_REGISTRY,
    REWARD_POOL,
    WORK_LEDGER,
    genesis_contracts,
    is_reserved,
)
from noria.primitives.amounts import format_amount
from noria.primitives.hexes import format_data, format_quantity
from noria.primitives.types import NOR, UINT64_MAX, UINT256_MAX, ZERO_ADDRESS, ZERO_HASH, Address, Hash32, Wei

__all__ = ["ChainSpec", "GenesisAccount", "SpecError", "dev_spec"]

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
    parameters: ChainParameters = DEVNET
    """What the network chooses (protocol 9)."""
    programs: tuple[Hash32, ...] = ()
    """Ids of the pinned programs, whose units carry weight (protocol 3)."""
    miners: tuple[GenesisMiner, ...] = ()
    """Miners at genesis; none on a development chain, whose blocks are not drawn."""
    genesis_work: tuple[GenesisWork, ...] = ()
    """Work that is credited at genesis, per miner in the order of its list."""
    reward_vault: Wei = _NOTHING
    """From which blocks are subsidised as long as it lasts (protocol 7)."""

    def __post_init__(self) -> None:
        """Check every bound, and freeze ``alloc``."""
        _check_name(self.name)
        check_range("chain_id", self.chain_id, 1, MAX_CHAIN_ID)
        check_range("timestamp", self.timestamp, 0, MAX_TIMESTAMP_SECONDS, "it is in seconds")
        check_range("gas_limit", self.gas_limit, MIN_GAS_LIMIT, MAX_GAS_LIMIT)
        check_range("base_fee_per_gas", self.base_fee_per_gas, 1, UINT64_MAX, "a fee of 0 could never rise")
        check_length("extra_data", self.extra_data, 0, MAX_EXTRA_DATA_BYTES)
        check_length("prev_randao", self.prev_randao, 32, 32)
        check_length("fee_recipient", self.fee_recipient, 20, 20)
        _check_hardforks(self.hardforks, self.timestamp)
        _check_alloc(self.alloc)
        _check_programs(self.programs)
        check_miners(self.miners, self.parameters, self.origin)
        check_work(self.genesis_work, self.miners)
        check_range("reward_vault", self.reward_vault, 0, UINT256_MAX)
        if self.supply > UINT256_MAX:
            raise SpecError("alloc: all balances, bonds and the vault together exceed 2**256 - 1 wei")
        object.__setattr__(self, "alloc", MappingProxyType(dict(sorted(self.alloc.items()))))

    def __hash__(self) -> int:
        """Hash by what tells chains apart in practice; equality compares everything."""
        return hash((self.name, self.chain_id, self.timestamp, len(self.alloc)))

    @property
    def origin(self) -> Hash32:
        """What genesis miners and genesis work carry where later messages carry the genesis root."""
        return origin_root(self.name, self.chain_id, self.timestamp)

    @property
    def supply(self) -> int:
        """All wei at genesis. Nothing is added to it later."""
        balances = sum(account.balance for account in self.alloc.values())
        return balances + sum(miner.bond for miner in self.miners) + self.reward_vault

    @property
    def grants(self) -> dict[Address, int]:
        """Genesis weights by miner, fuel (protocol 4.3)."""
        return {miner.address: miner.grant for miner in self.miners if miner.grant}

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
            extra_data=read_bytes("extra_data", raw.extra_data),
            prev_randao=Hash32(read_bytes("prev_randao", raw.prev_randao, 32)),
            fee_recipient=read_address("fee_recipient", raw.fee_recipient),
            alloc=_accounts(raw.alloc),
            parameters=DEVNET if raw.parameters is None else read_parameters(raw.parameters),
            programs=tuple(Hash32(read_bytes("programs", text, 32)) for text in raw.programs),
            miners=read_miners(raw.miners),
            genesis_work=read_work(raw.genesis_work),
            reward_vault=read_amount("reward_vault", raw.reward_vault),
        )

    def to_json(self) -> bytes:
        """Return the specification file; `from_json` of it is equal to this specification."""
        alloc = {format_data(address): _file_account(account) for address, account in self.alloc.items()}
        return _pretty(
            {
                "name": self.name,
                "hardforks": dict(self.hardforks),
                **self._genesis(),
                "parameters": file_parameters(self.parameters),
                "programs": [format_data(program) for program in self.programs],
                "reward_vault": format_amount(self.reward_vault),
                "miners": [file_miner(miner) for miner in self.miners],
                "genesis_work": [file_work(batch) for batch in self.genesis_work],
                "alloc": alloc,
            }
        )

    def engine_json(self) -> bytes:
        """Return the genesis that `noria._core.Engine` takes: this specification and the system contracts."""
        accounts = dict(self.alloc)
        storage = {
            MINER_REGISTRY: registry_storage(self.miners),
            WORK_LEDGER: ledger_storage(self.parameters, self.genesis_work),
            PROGRAM_REGISTRY: program_storage(self.programs),
            REWARD_POOL: pool_storage(self.reward_vault),
        }
        balances = {
            MINER_REGISTRY: Wei(sum(miner.bond for miner in self.miners)),
            REWARD_POOL: self.reward_vault,
        }
        for contract in genesis_contracts(self.parameters, self.timestamp):
            accounts[contract.address] = GenesisAccount(
                balance=balances.get(contract.address, _NOTHING),
                nonce=1,
                code=contract.code,
                storage=storage.get(contract.address, {}),
            )
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
    parameters: dict[str, Any] | None = None
    programs: list[str] = []
    miners: list[Any] = []
    genesis_work: list[Any] = []
    reward_vault: str = "0x0"


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
            raise SpecError(f"{quote(twice)} stands twice in the same object: keep one")
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
        address = read_address("alloc", key)
        where = f"alloc.{format_data(address)}"
        if address in accounts:
            raise SpecError(f"{where}: stands twice: keep one")
        try:
            account = msgspec.convert(value, type=_AccountDocument)
        except msgspec.ValidationError as error:
            raise SpecError(f"{where}: {error}") from error
        storage: dict[Hash32, Hash32] = {}
        for slot_text, value_text in account.storage.items():
            slot = Hash32(read_bytes(f"{where}.storage", slot_text, 32))
            if slot in storage:
                raise SpecError(f"{where}.storage: {format_data(slot)} stands twice: keep one")
            storage[slot] = Hash32(read_bytes(f"{where}.storage.{format_data(slot)}", value_text, 32))
        accounts[address] = GenesisAccount(
            balance=read_amount(f"{where}.balance", account.balance),
            nonce=read_nonce(f"{where}.nonce", account.nonce),
            code=read_bytes(f"{where}.code", account.code),
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


# ---------------------------------------------------------------- bounds


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 64 or not all(char in "abcdefghijklmnopqrstuvwxyz0123456789-" for char in name):
        raise SpecError(f"name: {quote(name)} is not 1 to 64 lower-case letters, digits and hyphens")


def _check_hardforks(hardforks: Sequence[tuple[str, int]], genesis_timestamp: int) -> None:
    if not hardforks:
        raise SpecError('hardforks: empty: name at least one, for example {"osaka": 0}')
    for name, time in hardforks:
        if name not in HARDFORKS:
            raise SpecError(f"hardforks: {quote(name)} is not among {', '.join(HARDFORKS)}")
        check_range(f"hardforks.{name}", time, 0, MAX_TIMESTAMP_SECONDS, "it is in seconds")
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
    for address, account in alloc.items():
        check_length("alloc", address, 20, 20)
        where = f"alloc.{format_data(address)}"
        if is_reserved(address):
            raise SpecError(f"{where}: belongs to the protocol: leave it out")
        check_range(f"{where}.balance", account.balance, 0, UINT256_MAX)
        check_range(f"{where}.nonce", account.nonce, 0, UINT64_MAX - 1)
        check_length(f"{where}.code", account.code, 0, MAX_CODE_BYTES)
        for slot, value in account.storage.items():
            check_length(f"{where}.storage", slot, 32, 32)
            check_length(f"{where}.storage", value, 32, 32)


def _check_programs(programs: Sequence[Hash32]) -> None:
    for program in programs:
        check_length("programs", program, 32, 32)
    if len(set(programs)) != len(programs):
        raise SpecError("programs: an id stands twice: keep one")
