"""Typed surface of the Rust engines (``crates/python``): no logic lives in the bindings.

Conventions: hashes and roots are 32 bytes, addresses 20 bytes, amounts are ``int`` in wei, gas prices in
wei per gas, times in Unix seconds. Methods whose name ends in ``_json`` return UTF-8 JSON in geth's shape,
ready to be embedded in an RPC answer. Every call that may take more than a few microseconds releases the GIL.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, final

__version__: str

# ---------------------------------------------------------------- errors
class NoriaError(Exception):
    """Base of every error that an engine raises."""

class InvalidEncoding(NoriaError):
    """Bytes that are not strict, canonical RLP (or too deep, or too long)."""

class InvalidKey(NoriaError):
    """A private key, public key or signature that is not valid on its curve."""

class InvalidTransaction(NoriaError):
    """A transaction that cannot be accepted. ``args == (kind, message)``.

    ``kind`` is a stable word: ``"encoding"``, ``"signature"``, ``"chain-id"``, ``"blob-unsupported"``,
    ``"type-unsupported"``, ``"nonce-too-low"``, ``"nonce-too-high"``, ``"insufficient-funds"``,
    ``"intrinsic-gas"``, ``"gas-limit"``, ``"fee-too-low"``, ``"tip-above-fee"``, ``"init-code-size"``,
    ``"sender-not-eoa"``, ``"authorization"``, ``"other"``.
    """

class InvalidBlock(NoriaError):
    """A block that breaks a rule. ``args == (kind, message)``; ``kind`` names the rule, e.g. ``"state-root"``."""

class UnknownBlock(NoriaError):
    """A block hash or number that the store does not hold."""

class InvalidRequest(NoriaError):
    """A call request, override or specification that cannot be understood."""

class StoreError(NoriaError):
    """The store cannot be opened, read or written; the message says what to do."""

class StoreLocked(StoreError):
    """Another process holds this data directory."""

class StoreForeign(StoreError):
    """The directory holds something else: another chain's store, or not a Noria store."""

class StoreSchema(StoreError):
    """The store was written by an incompatible version."""

class StoreTruncated(StoreError):
    """The data file is shorter than its own page table says."""

class StoreUnsettled(StoreError):
    """The machine stopped while commits did not wait for the disk (`Engine.relax`): what it holds may be damaged."""

class StoreFull(StoreError):
    """The disk or the configured maximum size is exhausted; nothing of the commit was kept."""

# ---------------------------------------------------------------- hashes, codecs, keys (crates/crypto)
RlpItem = bytes | list["RlpItem"]

def keccak256(data: bytes) -> bytes: ...
def blake3(data: bytes) -> bytes: ...

BLAKE3_LEAF_BYTES: int
"""The length of the pieces in which a long input can be checked against its BLAKE3 hash."""

def blake3_leaf(place: int, data: bytes, alone: bool) -> bytes:
    """The value of the piece at this place; ``alone`` where the input has no other. Raise `ValueError`."""

def blake3_root(leaves: bytes) -> bytes:
    """The hash of the input whose pieces have these values, 32 bytes each. Raise `ValueError`."""

def rlp_encode(item: Any) -> bytes:
    """Encode nested lists of bytes."""

def rlp_decode(data: bytes) -> Any:
    """Decode strictly (canonical lengths, nothing trailing, depth at most 1024); raise `InvalidEncoding`."""

def trie_root(items: Sequence[tuple[bytes, bytes]], secure: bool = False) -> bytes:
    """Root of a Merkle-Patricia trie after these writes in order; an empty value deletes; ``secure`` hashes keys."""

def private_key_address(private_key: bytes) -> bytes: ...
def sign_digest(private_key: bytes, digest: bytes) -> bytes:
    """65 bytes ``r ‖ s ‖ y_parity`` (low s, RFC 6979)."""

def recover_address(digest: bytes, signature: bytes) -> bytes:
    """Address that signed ``digest``; raise `InvalidKey`."""

def bls_secret_key(seed: bytes) -> bytes:
    """32-byte secret key from at least 32 bytes of seed (EIP-2333 ``KeyGen``)."""

def bls_public_key(secret_key: bytes) -> bytes:
    """48 bytes, minimal-pubkey-size."""

def bls_sign(secret_key: bytes, message: bytes) -> bytes:
    """96 bytes, ciphersuite ``BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_``."""

def bls_verify(public_key: bytes, message: bytes, signature: bytes) -> bool: ...
def bls_aggregate(signatures: Sequence[bytes]) -> bytes:
    """Sum of at least one signature; raise `InvalidKey`."""

def bls_verify_aggregate(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether a sum of signatures is that of these keys for one message; never of no keys."""

def bls_verify_many(signed: Sequence[tuple[bytes, bytes, bytes]], seed: bytes) -> bool:
    """Whether all of (public key, message, signature) are right; never of none. `seed`: 32 secret bytes, used once."""

# ---------------------------------------------------------------- transactions (crates/evm)
@final
class Transaction:
    """A decoded, signature-checked transaction. Immutable."""

    hash: bytes
    sender: bytes
    nonce: int
    type: int
    """0 legacy, 1 EIP-2930, 2 EIP-1559, 4 EIP-7702."""
    gas_limit: int
    max_fee_per_gas: int
    """Gas price for types 0 and 1."""
    max_priority_fee_per_gas: int
    """Gas price for types 0 and 1."""
    value: int
    to: bytes | None
    chain_id: int | None
    raw: bytes
    """Network encoding (EIP-2718)."""
    size: int
    max_cost: int
    """``value + gas_limit * max_fee_per_gas`` in wei."""
    def effective_tip(self, base_fee: int) -> int | None:
        """Tip per gas at this base fee, ``None`` where the fee cap is below it."""
    def to_json(self) -> bytes:
        """The geth RPC object of a pending transaction."""

def decode_transaction(raw: bytes) -> Transaction:
    """Decode one network-encoded transaction and recover its sender; raise `InvalidTransaction`."""

def decode_transactions(raws: Sequence[bytes]) -> list[Transaction | InvalidTransaction]:
    """Decode many on all cores; a bad one stands in the list as its error."""

# ---------------------------------------------------------------- chain engine (crates/state, crates/evm)
@final
class Header:
    """A payload header (Ethereum's, difficulty 0)."""

    hash: bytes
    parent_hash: bytes
    number: int
    timestamp: int
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    fee_recipient: bytes
    prev_randao: bytes
    parent_beacon_block_root: bytes
    gas_limit: int
    gas_used: int
    base_fee_per_gas: int
    extra_data: bytes
    logs_bloom: bytes
    def next_base_fee(self) -> int:
        """Base fee of a child block (EIP-1559)."""
    def to_json(self) -> bytes:
        """The geth ``newHeads`` object."""

@final
class Account:
    nonce: int
    balance: int
    code_hash: bytes
    storage_root: bytes

@final
class BlockAttributes:
    """What the proposer decides about the next payload."""

    def __init__(
        self,
        *,
        timestamp: int,
        fee_recipient: bytes,
        prev_randao: bytes,
        parent_beacon_block_root: bytes,
        gas_limit: int,
        extra_data: bytes = b"",
        system_calls: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """``system_calls``: (contract, calldata) run at block start after EIP-4788 and EIP-2935, in order."""

@final
class ExecutedBlock:
    """The result of building or executing a block; nothing is stored until `Engine.commit`."""

    header: Header
    transaction_hashes: list[bytes]
    rejected: list[tuple[bytes, str, str]]
    """(transaction hash, kind, message) of candidates that a build left out as invalid now. Candidates left out
    because the block was full or the deadline passed are not in it."""
    def rlp(self) -> bytes:
        """``rlp([header, transactions, [], []])``, the block as Ethereum encodes it."""

@final
class CallResult:
    """Outcome of a read-only execution."""

    status: str
    """``"success"``, ``"revert"`` or ``"halt"``."""
    output: bytes
    gas_used: int
    error: str
    """geth's words for a halt (``"out of gas"``, ``"invalid opcode: ..."``), empty otherwise."""

@final
class Engine:
    """Store, state and EVM of one chain in one data directory. Thread-safe; reads see a consistent snapshot."""

    def __init__(self, path: str, genesis: bytes, *, sync: bool = True, max_bytes: int = ...) -> None:
        """Open or create. ``genesis`` is the JSON of `noria.execution.spec.ChainSpec.engine_json`.

        ``sync=False`` gives up durability against power loss (never against a killed process).
        Raise a `StoreError` subclass, or `InvalidRequest` for a bad specification."""
    genesis_hash: bytes
    chain_id: int
    @property
    def head(self) -> Header: ...
    def close(self) -> None: ...
    # -- blocks
    def header(self, block_hash: bytes) -> Header | None: ...
    def canonical_hash(self, number: int) -> bytes | None: ...
    def is_canonical(self, block_hash: bytes) -> bool: ...
    def transaction_hashes(self, block_hash: bytes) -> list[bytes] | None: ...
    def transactions(self, block_hash: bytes) -> list[Transaction] | None: ...
    def transaction_location(self, tx_hash: bytes) -> tuple[bytes, int, int] | None:
        """(block hash, block number, index) on the canonical chain."""
    def block_rlp(self, block_hash: bytes) -> bytes | None: ...
    def block_json(self, block_hash: bytes, full: bool) -> bytes | None: ...
    def transaction_json(self, block_hash: bytes, index: int) -> bytes | None: ...
    def receipt_json(self, block_hash: bytes, index: int) -> bytes | None: ...
    def block_receipts_json(self, block_hash: bytes) -> bytes | None: ...
    def raw_transaction(self, block_hash: bytes, index: int) -> bytes | None: ...
    def logs_json(
        self,
        block_hashes: Sequence[bytes],
        addresses: Sequence[bytes],
        topics: Sequence[Sequence[bytes] | None],
        limit: int,
    ) -> bytes:
        """Matching logs of these blocks in order as a JSON array; more than ``limit`` raise `InvalidRequest`."""
    def logs_range_json(
        self,
        first: int,
        last: int,
        addresses: Sequence[bytes],
        topics: Sequence[Sequence[bytes] | None],
        limit: int,
    ) -> bytes:
        """The same over the canonical blocks ``first..=last``."""
    def fee_history(
        self, newest: bytes, count: int, percentiles: Sequence[float]
    ) -> list[tuple[Header, list[int]]]:
        """Oldest first: header and the effective tips at these percentiles of gas used."""
    # -- state at a block
    def account(self, block_hash: bytes, address: bytes) -> Account:
        """Zero account where none exists. Raise `UnknownBlock`."""
    def nonces(self, block_hash: bytes, addresses: Sequence[bytes]) -> list[tuple[int, int]]:
        """(nonce, balance) of each, in one read."""
    def code(self, block_hash: bytes, address: bytes) -> bytes: ...
    def storage(self, block_hash: bytes, address: bytes, slot: bytes) -> bytes: ...
    def proof_json(self, block_hash: bytes, address: bytes, slots: Sequence[bytes]) -> bytes:
        """The ``eth_getProof`` object."""
    # -- read-only execution; `request` is the JSON call object of the RPC, overrides the JSON of geth's objects
    def call(
        self,
        block_hash: bytes,
        request: bytes,
        *,
        gas_cap: int,
        state_overrides: bytes | None = None,
        block_overrides: bytes | None = None,
    ) -> CallResult: ...
    def estimate_gas(
        self, block_hash: bytes, request: bytes, *, gas_cap: int, state_overrides: bytes | None = None
    ) -> tuple[int, CallResult]:
        """Least gas limit that succeeds; if none does, gas 0 and the failing result."""
    def access_list_json(self, block_hash: bytes, request: bytes, *, gas_cap: int) -> bytes:
        """The ``eth_createAccessList`` object."""
    def trace_transaction_json(self, block_hash: bytes, index: int, tracer_config: bytes) -> bytes:
        """callTracer output; ``tracer_config`` is ``{"onlyTopCall": bool, "withLog": bool}``."""
    def trace_call_json(
        self,
        block_hash: bytes,
        request: bytes,
        tracer_config: bytes,
        *,
        gas_cap: int,
        state_overrides: bytes | None = None,
        block_overrides: bytes | None = None,
    ) -> bytes: ...
    # -- building and importing
    def build(
        self,
        parent_hash: bytes,
        attributes: BlockAttributes,
        transactions: Sequence[Transaction],
        *,
        deadline_seconds: float | None = None,
    ) -> ExecutedBlock:
        """Execute candidates in order until the gas limit or the deadline; invalid ones are skipped."""
    def execute(self, block_rlp: bytes, system_calls: Sequence[tuple[bytes, bytes]]) -> ExecutedBlock:
        """Check a block against every rule of its parent and execute it; raise `InvalidBlock` or `UnknownBlock`."""
    def commit(self, block: ExecutedBlock, *, make_head: bool) -> None:
        """Store block, receipts and state in one atomic, durable transaction; with ``make_head`` the same
        transaction makes it the canonical head (reorganising if its parent was not the head)."""
    def relax(self) -> None:
        """Let commits return before they are on the disk, until `settle`. A killed process loses nothing by it;
        after a power loss in between opening raises `StoreUnsettled`. No effect with ``sync=False``."""
    def settle(self) -> None:
        """Bring all commits to the disk, and let each wait for it again."""
    def set_head(self, block_hash: bytes) -> tuple[list[bytes], list[bytes]]:
        """Make a stored block canonical head; returns (removed, added) block hashes, newest first and oldest first."""

# ---------------------------------------------------------------- conformance
def run_state_test(document: bytes, forks: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run one GeneralStateTest file. One row per case:
    ``{"name", "fork", "index", "pass", "stateRoot", "error"}`` (``error`` is ``""`` when it passed)."""

# ---------------------------------------------------------------- sandbox (crates/sandbox)
INSTRUMENTER_VERSION: int
FUEL_MAX: int
"""Version of the fuel table and of what is injected into programs; part of the chain's rules."""

class InvalidProgram(NoriaError):
    """A program that cannot be run. ``args == (kind, message)``.

    ``kind`` is a stable word: ``"not-webassembly"``, ``"invalid"``, ``"feature"``, ``"limit"``, ``"import"``,
    ``"reserved-export"`` (outside the determinism profile), ``"not-a-command"`` (no ``_start``, or an import that
    nobody offers), ``"unsupported"`` (by this engine), ``"compiler"``.
    """

class CacheFailure(NoriaError):
    """The cache of compiled code cannot be used: others may write to it, the disk is full, or it cannot be read."""

class MachineFailure(NoriaError):
    """This machine could not run a unit (no memory, a defect of the engine). Never the result of a unit."""

@final
class Outcome:
    """The result of a unit, the same on every machine."""

    @property
    def status(self) -> int:
        """0 ok, 1 failed, 2 out of fuel, 3 too large at the start, 4 stack limit, 5 output limit."""
    @property
    def output(self) -> bytes:
        """What the program wrote to stdout; of a failed unit the log."""
    @property
    def log(self) -> bytes:
        """What it wrote to stderr, cut at 64 KiB."""
    @property
    def fuel(self) -> int:
        """Fuel used; the whole limit with status 2."""

@final
class Program:
    """A program that is ready to run; every run has a fresh instance. May be used by many threads at once."""

    @property
    def id(self) -> bytes:
        """``H("noria/program/1" ‖ module bytes)``."""
    def run(self, input: bytes, fuel_limit: int) -> Outcome:
        """Run one unit without the GIL. Nothing but its fuel ends it: for a limit in seconds run it in a process
        that can be killed. Raise `MachineFailure`."""

@final
class Sandbox:
    """An engine and its cache of compiled code, which all processes of one user share.

    ``engine`` is ``"wasmtime"`` (machine code), ``"baseline"`` (machine code without optional processor features),
    ``"pulley"`` or ``"wasmi"`` (interpreters; the latter without exceptions). All give a unit the same outcome.
    ``cache_dir`` is made if it is not there. Raise `CacheFailure`, `MachineFailure`, or `ValueError` for an
    unknown engine.
    """

    def __new__(cls, cache_dir: str | PathLike[str], engine: str = "wasmtime") -> Sandbox: ...
    @property
    def engine(self) -> str: ...
    def load(self, module: bytes, files: Mapping[str, bytes] | None = None) -> Program:
        """Check, instrument and compile a module, or take it from the cache. ``files`` (path below ``/`` to
        contents) are what the program can read. Compiling a large module takes a minute without the GIL; if another
        process compiles the same one, wait for it. Raise `InvalidProgram`, `CacheFailure`, `ValueError` for a path."""
    def load_cached(self, program_id: bytes, files: Mapping[str, bytes] | None = None) -> Program | None:
        """The program of this name if it is compiled already: neither reads nor needs the module."""
    def progress(self) -> tuple[str, int, int]:
        """Stage and functions compiled of how many, of a `load` under way in another thread. Stages: ``"idle"``,
        ``"instrumenting"``, ``"compiling"``, ``"waiting"`` (for another process), ``"loading"``."""

def instrument(module: bytes) -> bytes:
    """The module as it is compiled: with fuel and stack counters. Raise `InvalidProgram`."""

def inspect(module: bytes) -> dict[str, Any]:
    """What validation finds out about a module: ``program_id``, ``bytes``, ``functions``, ``instructions``,
    ``imports`` and ``exports`` as pairs of names, ``memory_pages`` ``(initial, maximum | None) | None``, ``tables``,
    ``start``, ``exceptions``, ``simd``, ``relaxed_simd``, ``initial_beyond_limit``. Raise `InvalidProgram`."""

def take_snapshot(
    module: bytes,
    files: Mapping[str, bytes],
    turns: Sequence[str],
    entry: str,
    cut: Sequence[tuple[int, int]] = (),
    constructors: int | None = None,
    words: Sequence[tuple[int, int, int]] = (),
    padded: Sequence[tuple[int, int]] = (),
) -> bytes:
    """A command that goes on where a reactor (exports ``memory``, ``_initialize``, ``host_alloc``, ``turn``) was after
    running the texts of ``turns``: its ``_start`` runs ``entry``. ``files`` can be read until then. The functions of the
    ranges ``cut`` (first, end) are left out, and the calls that ``constructors`` makes to them;
    ``words`` (address, old, new) change its memory after them;
    ``padded`` (function without results, bytes) take more of its stack. The bytes are the same on
    every machine. Raise `InvalidProgram` (kinds ``invalid``, ``unfit``, ``turn``) or `MachineFailure`."""

# ---------------------------------------------------------------- network (crates/network)
class NetworkError(NoriaError):
    """Something that the network did not do. ``args == (kind, message)``.

    ``kind`` is a stable word: ``"configuration"``, ``"listen"``, ``"system"`` of a network that does not start;
    ``"busy"`` (too much is under way), ``"closed"``, ``"unsupported"`` (no such topic or protocol), ``"malformed"``
    (too long) of one that runs; ``"reset"``, ``"stalled"``, ``"ended"`` of a stream.
    """

@final
class NetworkMessage:
    """A message of gossip that awaits its verdict."""

    @property
    def handle(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def source(self) -> str:
        """The peer that passed it on."""
    @property
    def data(self) -> bytes: ...

@final
class NetworkRequest:
    """A peer's request that awaits its answer."""

    @property
    def handle(self) -> int: ...
    @property
    def protocol(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def data(self) -> bytes: ...

@final
class NetworkOutcome:
    """What came of something that was asked for under a ticket."""

    @property
    def ticket(self) -> int: ...
    @property
    def data(self) -> bytes:
        """A peer's answer; of a published message one byte, 1 where a peer was there; of a dial the peer's name."""
    @property
    def failure(self) -> str | None:
        """``"not-connected"``, ``"unsupported"``, ``"timeout"``, ``"refused"``, ``"malformed"``, ``"busy"``,
        ``"dial"``, ``"closed"``, of a stream ``"reset"``, ``"stalled"``, ``"ended"``, or ``None`` where it worked."""
    @property
    def message(self) -> str: ...

@final
class NetworkStream:
    """A stream that a peer has opened, or that was asked for. It is reset when nobody holds it any more.

    No method waits; what came of it is told under the ticket. One read and one write may be under way at a time.
    """

    @property
    def ticket(self) -> int | None:
        """The one that it was asked for under."""
    @property
    def peer(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def buffer_bytes(self) -> int:
        """The most that one call of `write` takes."""
    def read(self) -> int:
        """The ticket of what comes; no bytes are the end."""
    def write(self, data: bytes) -> int:
        """The ticket of its outcome, which comes when the other end has room for them and they are on their way."""
    def close_write(self) -> int:
        """The ticket of its outcome."""
    def reset(self) -> None:
        """Whoever waits is told; twice is no error."""

@final
class NetworkNotice:
    """Something that has happened to a peer, or to the network."""

    @property
    def kind(self) -> str:
        """``"connected"``, ``"identified"``, ``"disconnected"``, ``"banned"``, ``"unbanned"``, ``"listening"``,
        ``"lagged"`` (notices were lost, because nobody fetched them)."""
    @property
    def peer(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def reason(self) -> str: ...

@final
class NetworkPeer:
    """A connected peer."""

    @property
    def peer(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def listens(self) -> list[str]: ...
    @property
    def outbound(self) -> bool: ...
    @property
    def agent(self) -> str: ...
    @property
    def protocols(self) -> list[str]: ...
    @property
    def score(self) -> float: ...
    @property
    def round_trip_seconds(self) -> float | None: ...
    @property
    def connected_seconds(self) -> float: ...

@final
class Network:
    """A libp2p swarm on threads of its own. No method waits, except the constructor and `close`.

    ``seed`` is the identity, 32 bytes; ``config`` is JSON (`noria.network.config.TransportConfig`). Methods raise
    `NetworkError` where something cannot even be asked for, and `ValueError` for what is no address or no peer's name.
    """

    def __new__(cls, seed: bytes, config: bytes) -> Network: ...
    @property
    def peer_id(self) -> str: ...
    @property
    def descriptor(self) -> int | None:
        """A file descriptor that is readable while `drain` has something to give; only to be waited for, and none
        when the network is closed."""
    @property
    def listening(self) -> list[str]: ...
    def drain(
        self, limit: int
    ) -> list[NetworkMessage | NetworkRequest | NetworkOutcome | NetworkStream | NetworkNotice]:
        """Take at most ``limit`` events, oldest first."""
    def publish(self, topic: str, data: bytes) -> int:
        """The ticket of its outcome."""
    def subscribe(self, topic: str, wanted: bool) -> None: ...
    def verdict(self, handle: int, verdict: str) -> None:
        """``"accept"``, ``"ignore"`` or ``"reject"``. Too late is no error: the message was ignored by then."""
    def request(self, peer: str, protocol: str, data: bytes, timeout_seconds: float | None = None) -> int:
        """The ticket of its outcome."""
    def serve(self, protocols: list[str], streams: list[str]) -> None:
        """Take requests of these protocols, and streams of those, from now on, and no others."""
    def open_stream(self, peer: str, protocol: str, timeout_seconds: float | None = None) -> int:
        """The ticket of a `NetworkStream`, or of an outcome that says why there is none."""
    def respond(self, handle: int, data: bytes) -> bool:
        """Answer a request; false where nobody waits any more."""
    def refuse(self, handle: int, reason: str) -> bool: ...
    def dial(self, address: str) -> int:
        """The ticket of its outcome."""
    def disconnect(self, peer: str) -> None: ...
    def score(self, peer: str, delta: float, reason: str) -> None: ...
    def ban(self, peer: str, duration_seconds: float, reason: str) -> None: ...
    def unban(self, peer: str) -> None: ...
    def peers(self) -> list[NetworkPeer]: ...
    def bans(self) -> list[tuple[str, float, str]]:
        """Peer, seconds left, reason."""
    def statistics(self) -> dict[str, int]: ...
    def close(self) -> None:
        """Say goodbye and stop all threads, within a few seconds, without the GIL."""

def peer_id(seed: bytes) -> str:
    """The name of the peer that an identity's seed makes."""
