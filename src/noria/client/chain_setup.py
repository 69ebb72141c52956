"""What a job needs before it can begin: a node, money, a peer, a program."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from noria.client.local_network import find_nodes, nobody
from noria.client.programs import GivenProgram, ProgramTooLarge
from noria.client.rpc_access import ChainFacts, NodeUnreachable, RpcAccess
from noria.client.wallet import FAUCET_WEI, NoFaucet, Wallet, faucet
from noria.market.contracts import read_floor_price, read_program
from noria.market.protocol import WORK_LIMITS, work_protocol
from noria.market.requester.chain import PRICE_FACTOR, JobChain, JobPlan
from noria.market.requester.checks import ClaimRules
from noria.market.requester.errors import JobError
from noria.market.requester.job import JobSetting
from noria.market.requester.money import first_share
from noria.market.requester.sampling import PoolRuns
from noria.market.sending import TransactionSender
from noria.market.typed_data import Domain
from noria.network.config import TransportConfig
from noria.network.transport import Transport
from noria.primitives.keys import PrivateKey
from noria.primitives.types import NOR, Wei
from noria.work.folders import compiled_folder
from noria.work.ids import ProgramId
from noria.work.receipts import WeightRules
from noria.work.runtimes import Runtime, RuntimeMissing, installed, pinned
from noria.work.workers import ProgramSource

if TYPE_CHECKING:
    from noria.client.session import SessionSettings

RUNTIME: Final = "python"
GAS_WEI: Final = Wei(NOR)
"""Kept beside the budget for fees."""


class ProgramUnknown(JobError):
    """The chain does not know the program that the job needs."""


@dataclass(frozen=True, slots=True)
class JobProgram:
    """What a job's units are of.

    Attributes
    ----------
    id
        Of the program.
    is_pinned
        Whether the chain pins it: every miner has it, and its work carries weight.
    source
        Where it lies on this machine; None where it does not.
    module
        What miners must be brought; None where they have it.
    """

    id: ProgramId
    is_pinned: bool
    source: ProgramSource | None
    module: bytes | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A node, and what follows from its chain."""

    access: RpcAccess

    @property
    def domain(self) -> Domain:
        """For which chain things are signed."""
        return Domain(self.access.chain_id, self.access.genesis_root)

    async def transport(self) -> Transport:
        """Start a peer that asks miners and serves nobody."""
        protocol = work_protocol(self.access.genesis_root)
        config = TransportConfig(
            network=self.access.genesis_root.hex(),
            agent="noria-requester",
            protocols=(protocol,),
            listen=(),
            peers_wanted=0,
            limits=WORK_LIMITS,
        )
        return await Transport.start(secrets.token_bytes(32), config)

    def job_chain(self, wallet: Wallet) -> JobChain:
        """Return the chain as a requester's jobs see it."""
        return JobChain(self.access, TransactionSender(self.access, wallet.key))

    async def floor_price(self) -> int:
        """Return the price at which work counts in full, wei per fuel."""
        return await read_floor_price(self.access)

    async def royalty(self, program: ProgramId) -> int:
        """Return what the program's developer asks, wei per fuel; 0 where it has none."""
        found = await read_program(self.access, program)
        return 0 if found is None else found.royalty


async def connect(node: str | None) -> Connected:
    """Connect to the first node that answers.

    Parameters
    ----------
    node
        As for `find_nodes`.

    Raises
    ------
    NoNode
        Where none does.
    ChainAccessError
        Where what answers is no node of this protocol.
    """
    urls = find_nodes(node)
    reason: Exception | None = None
    for url in urls:
        access = RpcAccess(url)
        try:
            await access.start()
        except NodeUnreachable as error:
            reason = reason or error
            await access.close()
            continue
        except BaseException:
            await access.close()
            raise
        return Connected(access)
    raise nobody(urls, reason)


async def fund(connected: Connected, wallet: Wallet, budget: Wei) -> None:
    """See to it that the wallet can pay a budget, where that can be had for the asking."""
    if await connected.access.balance(wallet.address) >= budget + GAS_WEI:
        return
    try:
        await faucet(connected.access, wallet.address, Wei(max(FAUCET_WEI, 2 * budget)))
    except NoFaucet:
        # Whoever opens the job says what is missing.
        return


def pinned_program(facts: ChainFacts, runtime: Runtime | None) -> tuple[ProgramId, Runtime | None]:
    """Return the Python runtime's program, and where it lies if it is installed here.

    Raises
    ------
    ProgramUnknown
        Where the chain pins another one, or none.
    """
    if runtime is None:
        try:
            runtime = installed(RUNTIME)
        except RuntimeMissing:
            runtime = None
    program = runtime.program_id if runtime is not None else pinned(RUNTIME).program_id
    if program not in facts.programs.values():
        names = ", ".join(sorted(facts.programs)) or "nothing"
        raise ProgramUnknown(
            f"this chain does not know the Python runtime of this version (0x{program.hex()[:16]}…); it "
            f"knows {names}: use the version of noria that the network runs"
        )
    return program, runtime


def job_program(facts: ChainFacts, given: GivenProgram | None, runtime: Runtime | None) -> JobProgram:
    """Return what a job is of: the program that was named, or the Python runtime.

    Raises
    ------
    ProgramUnknown
        Where the chain does not pin it, and the module is not here.
    ProgramTooLarge
        Where no miner takes so long a module.
    """
    if given is None:
        program, runtime = pinned_program(facts, runtime)
        return JobProgram(program, True, None if runtime is None else ProgramSource(program, runtime.path))
    if given.id in facts.programs.values():
        return JobProgram(given.id, True, given.source or _installed_source(given.id))
    if given.module is None:
        names = ", ".join(sorted(facts.programs)) or "nothing"
        raise ProgramUnknown(
            f"this chain does not pin program 0x{given.id.hex()}; it pins {names}: give the module's file"
        )
    most = facts.number("program_bytes_max")
    if len(given.module) > most:
        raise ProgramTooLarge(
            f"program {given.name} has {len(given.module):,} bytes, and miners of this chain take at most "
            f"{most:,}: strip it, or move data to its input"
        )
    return JobProgram(given.id, False, given.source, given.module)


def _installed_source(program: ProgramId) -> ProgramSource | None:
    with suppress(RuntimeMissing):
        runtime = installed(RUNTIME)
        if runtime.program_id == program:
            return ProgramSource(program, runtime.path)
    return None


def own_runs_of(source: ProgramSource | None) -> PoolRuns | None:
    """Return what runs units here; None where the program is not."""
    return None if source is None else PoolRuns(source, compiled_folder())


async def setting_of(connected: Connected, program: JobProgram, settings: SessionSettings) -> JobSetting:
    """Make of what the user said, and of what the chain is, what a job is opened with."""
    facts = connected.access.facts
    max_price = settings.max_price
    if max_price is None:
        max_price = PRICE_FACTOR * await connected.floor_price()
    deadline = settings.deadline_seconds
    plan = JobPlan(
        program=program.id,
        details=b"",
        budget=settings.budget,
        share=Wei(first_share(settings.budget, settings.miners)),
        max_price=max_price,
        miners=settings.miners,
        replicas=settings.choice.replicas,
        public=settings.public,
        named=settings.named,
        deadline=0 if deadline is None else int(time.time() + deadline) + 1,
    )
    rules = ClaimRules(
        weight=WeightRules(facts.number("unit_fuel_max"), facts.number("input_bytes_max")),
        pinned=program.is_pinned,
        public=settings.public,
        output_bytes_max=facts.number("output_bytes_max"),
    )
    return JobSetting(
        plan=plan,
        sample=settings.choice.sample,
        session_key=PrivateKey.generate(),
        domain=connected.domain,
        rules=rules,
        protocol=work_protocol(connected.access.genesis_root).name,
        title=settings.title,
        node=connected.access.url,
        patience=settings.patience_seconds,
        module=program.module,
    )
