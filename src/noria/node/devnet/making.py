"""Making a development network: keys, work that is really run, the specification, a folder for each node."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from noria.chain.genesis_work import GenesisBatch, run_genesis_work
from noria.chain.own_work import OwnWork
from noria.execution.accounts import Keystore, dev_accounts
from noria.execution.genesis import GenesisMiner, origin_root, possession_message
from noria.execution.parameters import DEVNET, ChainParameters
from noria.execution.spec import DEV_BASE_FEE, DEV_CHAIN_ID, DEV_GAS_LIMIT, ChainSpec, GenesisAccount
from noria.network.transport import peer_id
from noria.node.bls_keystore import write_keystore
from noria.node.devnet.layout import NODES_MAX, PASSWORD, Network, NetworkError, NodeEntry
from noria.node.devnet.tiles import TILES, miner_inputs, module
from noria.node.node_folder import SEED_BYTES, NodeFolder
from noria.primitives.addresses import checksum_address
from noria.primitives.keys import BlsSecretKey, PrivateKey
from noria.primitives.types import NOR, ZERO_HASH, Address, BlsPublicKey, Hash32, Wei
from noria.work.batches import build_batch
from noria.work.folders import compiled_folder
from noria.work.runtimes import installed
from noria.work.workers import WorkerPool

GRANT_PER_COVERED: Final = (5, 2)
"""Weight that each miner has without work, for each fuel of work that its bond covers."""
FUEL_PER_SECOND: Final = 10**10
"""What a core of today burns of Python's fuel, about."""
CAPACITY_SHARE: Final = 2
"""A miner promises one part in so many of what a core could do."""
UNITS: Final = 64
"""Units that are run for each miner."""
START_SECONDS: Final = 1.0
"""From the end of the work to genesis, `START_SECONDS_EACH` more for each node. A late one catches up."""
START_SECONDS_EACH: Final = 0.5
MINER_FUNDS: Final = Wei(1_000 * NOR)
VAULT: Final = Wei(1_000_000 * NOR)
DEV_FUNDS: Final = Wei(10_000 * NOR)
ACCOUNTS: Final = "accounts"
KEYSTORE_SCRYPT, KEYSTORE_ROUNDS = 1 << 12, 16_384
"""The password lies beside the key files: more rounds would protect nothing."""
_PORTS: Final = range(20_000, 32_000)
"""Below what systems give to outgoing connections, so that a node finds its port again after a restart."""
_PORT_TRIES: Final = 1_000

Progress = Callable[[str, float], None]
"""(what is being done, how much of it is done from 0 to 1)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What network to make.

    Attributes
    ----------
    nodes
        How many, each with a miner.
    units
        Units of genesis work for each miner.
    parameters
        Of the chain.
    workers
        Processes that run the units.
    """

    nodes: int = 4
    units: int = UNITS
    parameters: ChainParameters = DEVNET
    workers: int = max(1, (os.cpu_count() or 1))

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if not 1 <= self.nodes <= NODES_MAX:
            raise NetworkError(f"{self.nodes} nodes are asked for: 1 to {NODES_MAX} are possible")
        if not 1 <= self.units <= TILES:
            raise NetworkError(f"{self.units} units for each miner are asked for: 1 to {TILES} are possible")


@dataclass(frozen=True, slots=True)
class _Member:
    """A node's keys."""

    name: str
    account: PrivateKey
    bls: BlsSecretKey
    seed: bytes
    p2p_port: int
    rpc_port: int

    @property
    def entry(self) -> NodeEntry:
        return NodeEntry(
            self.name,
            peer_id(self.seed),
            checksum_address(self.account.address),
            self.p2p_port,
            self.rpc_port,
        )


def make_network(folder: Path, plan: Plan, progress: Progress = lambda what, share: None) -> Network:
    """Make a network in a folder; its genesis is a few seconds after this returns.

    Raises
    ------
    NetworkError
        Where the folder holds other things, or cannot be written.
    RuntimeProblem
        Where the Python runtime, which the network pins, is not on this machine.
    MachineFailure
        Where units cannot be run.
    """
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise NetworkError(f"{folder} is not empty and holds no network: choose another folder with --dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        return _make(folder, plan, progress)
    except OSError as error:
        raise NetworkError(f"{folder} cannot be written: {error.strerror}") from error
    except BaseException:
        # A network is there whole or not at all.
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _make(folder: Path, plan: Plan, progress: Progress) -> Network:
    installed()  # what is missing is said before anything is made
    ports = iter(_free_ports(2 * plan.nodes))
    members = [
        _Member(
            f"node-{number}",
            PrivateKey.generate(),
            BlsSecretKey.generate(),
            secrets.token_bytes(SEED_BYTES),
            next(ports),
            next(ports),
        )
        for number in range(1, plan.nodes + 1)
    ]
    progress("keys", 0.0)
    _write_keys(folder, members)
    batches = _run_work(members, plan, progress)
    progress("specification", 0.0)
    spec, batches = _specification(members, batches, plan)
    network = Network(folder, tuple(member.entry for member in members))
    network.spec.write_bytes(spec.to_json())
    for member, batch in zip(members, batches, strict=True):
        _write_node(network, member, batch)
    network.save()
    return network


def _write_keys(folder: Path, members: Sequence[_Member]) -> None:
    password = secrets.token_urlsafe(24)
    path = folder / PASSWORD
    path.touch(0o600)
    path.write_text(password + "\n")
    accounts = Keystore(folder / ACCOUNTS, scrypt_n=KEYSTORE_SCRYPT)
    for member in members:
        accounts.import_key(member.account.secret, password)
        write_keystore(folder / f"{member.name}.key.json", member.bls, password, rounds=KEYSTORE_ROUNDS)


def _run_work(members: Sequence[_Member], plan: Plan, progress: Progress) -> list[GenesisBatch]:
    """Run every miner's own units; no two miners have the same ones, nor any other network."""
    base = secrets.randbits(31)
    batches = []
    with WorkerPool(plan.workers, cache=compiled_folder()) as pool:
        for number, member in enumerate(members):
            progress(f"work of {member.name}", number / len(members))
            batches.append(
                run_genesis_work(
                    pool,
                    module(),
                    miner_inputs((base + number) % 2**32, plan.units),
                    miner=member.account.address,
                    # Which chain it is for is not known before all work is done.
                    origin=ZERO_HASH,
                    parameters=plan.parameters,
                )
            )
    return batches


def _specification(
    members: Sequence[_Member], batches: Sequence[GenesisBatch], plan: Plan
) -> tuple[ChainSpec, list[GenesisBatch]]:
    name = f"noria-devnet-{secrets.token_hex(4)}"
    timestamp = int(time.time() + START_SECONDS + START_SECONDS_EACH * len(members))
    origin = origin_root(name, DEV_CHAIN_ID, timestamp)
    batches = [_for_chain(batch, origin) for batch in batches]
    funded = {Address(account.address): GenesisAccount(balance=DEV_FUNDS) for account in dev_accounts()}
    funded |= {member.account.address: GenesisAccount(balance=MINER_FUNDS) for member in members}
    # A bond covers the least that a miner has worked, and a grant is more, so that no miner of four can come
    # to a third of the weight: if one stops, the others still finalise.
    covered = min(batch.batch.commitment.weight for batch in batches)
    grant = covered * GRANT_PER_COVERED[0] // GRANT_PER_COVERED[1]
    parameters = replace(plan.parameters, bond_per_weight_wei=max(1, plan.parameters.bond_min_wei // covered))
    spec = ChainSpec(
        name=name,
        chain_id=DEV_CHAIN_ID,
        hardforks=(("cancun", 0), ("prague", 0), ("osaka", 0)),
        timestamp=timestamp,
        gas_limit=DEV_GAS_LIMIT,
        base_fee_per_gas=DEV_BASE_FEE,
        extra_data=b"noria-devnet",
        alloc=funded,
        parameters=parameters,
        programs=(Hash32(module().id), Hash32(installed().program_id)),
        miners=tuple(_genesis_miner(member, origin, parameters, grant) for member in members),
        genesis_work=tuple(batch.entry for batch in batches),
        reward_vault=VAULT,
    )
    return spec, batches


def _for_chain(batch: GenesisBatch, origin: Hash32) -> GenesisBatch:
    receipts = [replace(receipt, genesis_root=origin) for receipt in batch.batch.receipts]
    return GenesisBatch(build_batch(receipts), batch.units, batch.inputs)


def _genesis_miner(member: _Member, origin: Hash32, parameters: ChainParameters, grant: int) -> GenesisMiner:
    address = member.account.address
    return GenesisMiner(
        address=address,
        bls_key=BlsPublicKey(member.bls.public_key),
        proof_of_possession=member.bls.sign(possession_message(origin, address, member.bls.public_key)),
        peer_id=peer_id(member.seed).encode(),
        capacity=_capacity(parameters),
        ask_price=parameters.floor_min_wei,
        bond=Wei(parameters.bond_min_wei),
        grant=grant,
    )


def _capacity(parameters: ChainParameters) -> int:
    """Return the fuel per epoch that a miner with one worker and the least bond stands ready for."""
    epoch_seconds = parameters.slot_seconds * parameters.epoch_slots
    covered = parameters.bond_min_wei // parameters.bond_per_capacity_wei
    return min(covered, epoch_seconds * FUEL_PER_SECOND // CAPACITY_SHARE)


def _write_node(network: Network, member: _Member, batch: GenesisBatch) -> None:
    entry = member.entry
    folder = NodeFolder(network.node_folder(entry))
    folder.write_seed(member.seed)
    batch.keep(OwnWork(folder.work))
    others = [node.multiaddress for node in network.nodes if node != entry]
    lines = [
        "# Paths are beside this file.",
        f'data_dir = "{entry.name}"',
        'spec = "chain.json"',
        f'listen = ["/ip4/127.0.0.1/tcp/{entry.p2p_port}"]',
        f"bootstrap = [{', '.join(chr(34) + other + chr(34) for other in others)}]",
        f"rpc_port = {entry.rpc_port}",
        f'miner_keystore = "{entry.name}.key.json"',
        f'miner_address = "{entry.address}"',
        f'miner_account_keystore = "{ACCOUNTS}"',
        f'password_file = "{PASSWORD}"',
        # Nodes of one machine share its cores.
        "job_workers = 1",
        "log_json = true",
    ]
    network.config(entry).write_text("\n".join(lines) + "\n")


def _free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now."""
    found: list[int] = []
    dice = random.SystemRandom()
    for _ in range(_PORT_TRIES):
        if len(found) == count:
            return found
        port = dice.choice(_PORTS)
        if port in found:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    raise NetworkError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1")
