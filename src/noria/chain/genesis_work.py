"""Work that a chain begins with: units that are really run, their receipts, and what the specification says.

Protocol 4.3. Receipts of genesis work carry the chain's origin, because the genesis root covers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.chain.own_work import OwnUnit, OwnWork, own_unit
from noria.execution.genesis import GenesisWork
from noria.execution.parameters import ChainParameters
from noria.primitives.types import Address, Hash32
from noria.work.batches import BATCH_RECEIPTS_MAX, Batch, build_batch
from noria.work.ids import blob_id, unit_id
from noria.work.receipts import Receipt
from noria.work.workers import ProgramSource, WorkerPool


class UnusableWork(ValueError):
    """Units that would carry no weight."""


@dataclass(frozen=True, slots=True)
class GenesisBatch:
    """A batch of units that were run, as its miner keeps it.

    Attributes
    ----------
    batch, units, inputs
        The receipts and what is behind them, in their order.
    """

    batch: Batch
    units: tuple[OwnUnit, ...]
    inputs: tuple[bytes, ...]

    @property
    def entry(self) -> GenesisWork:
        """What the chain specification says of it."""
        c = self.batch.commitment
        return GenesisWork(
            miner=c.miner,
            job=c.job,
            k=c.k,
            first_index=c.first_index,
            count=c.count,
            root=c.root,
            fuel=c.fuel,
            weight=c.weight,
        )

    def keep(self, work: OwnWork) -> None:
        """Give it to its miner."""
        work.keep(self.batch, self.units, [(data,) for data in self.inputs])


def run_genesis_work(
    pool: WorkerPool,
    program: ProgramSource,
    inputs: Sequence[bytes],
    *,
    miner: Address,
    origin: Hash32,
    parameters: ChainParameters,
    fuel_limit: int | None = None,
    job: int = 0,
    k: int = 0,
    first_index: int = 0,
) -> GenesisBatch:
    """Run units in the work engine and return the miner's batch of them.

    Parameters
    ----------
    pool
        Runs them.
    program
        Pinned by the chain's specification.
    inputs
        Of the units, one after the other; different ones for each miner, for the same unit twice is worth
        nothing to anybody.
    miner, origin
        Whose receipts, of which chain: `noria.execution.spec.ChainSpec.origin`.
    parameters
        Bounds on what carries weight.
    fuel_limit
        Of each unit; as much as may carry weight if left out.
    job, k, first_index
        Where the receipts stand.

    Raises
    ------
    UnusableWork
        Where a unit may carry no weight or burns no fuel, or there are none or too many.
    MachineFailure, InvalidProgram, ProgramMissing
        Where they cannot be run.
    """
    limit = parameters.unit_fuel_max if fuel_limit is None else fuel_limit
    if not 0 < limit <= parameters.unit_fuel_max:
        raise UnusableWork(f"a fuel limit of {limit} carries no weight: at most {parameters.unit_fuel_max}")
    if not 0 < len(inputs) <= BATCH_RECEIPTS_MAX:
        raise UnusableWork(f"{len(inputs)} units are no batch: 1 to {BATCH_RECEIPTS_MAX}")
    longest = max(map(len, inputs))
    if longest > parameters.input_bytes_max:
        raise UnusableWork(
            f"an input of {longest} bytes carries no weight: at most {parameters.input_bytes_max}"
        )
    futures = [pool.submit(program, data, limit) for data in inputs]
    receipts = []
    for index, (data, future) in enumerate(zip(inputs, futures, strict=True), first_index):
        outcome = future.result()
        if outcome.fuel == 0:
            raise UnusableWork(f"unit {index} burned no fuel")
        receipts.append(
            Receipt(
                genesis_root=origin,
                job=job,
                k=k,
                miner=miner,
                index=index,
                unit_id=unit_id(program.id, blob_id(data), limit),
                output_id=blob_id(outcome.output),
                status=outcome.status,
                fuel=outcome.fuel,
                weight=outcome.fuel,
            )
        )
    units = tuple(own_unit(program.id, data, limit) for data in inputs)
    return GenesisBatch(build_batch(receipts), units, tuple(inputs))
