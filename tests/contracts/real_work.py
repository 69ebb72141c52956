"""Genesis work as a network makes it: units that really run, and the batch of their receipts."""

import tempfile
from functools import cache

from noria._core import Sandbox
from noria.execution.genesis import GenesisWork, origin_root
from noria.primitives.types import Address, Hash32
from noria.work.batches import Batch, build_batch
from noria.work.ids import BlobId, ProgramId, blob_id, unit_id
from noria.work.receipts import Receipt, Status
from tests.contracts.network import address, base_spec
from tests.work.modules import SPIN, turns

FUEL_LIMIT = 10**6


def origin() -> Hash32:
    """The test network's."""
    spec = base_spec()
    return origin_root(spec.name, spec.chain_id, spec.timestamp)


@cache
def run_batch(miner: Address, job: int, units: int, first_index: int = 0) -> Batch:
    """Run units, different ones for every miner, job and index, and join their receipts."""
    receipts = []
    with tempfile.TemporaryDirectory() as cache_folder:
        program = Sandbox(cache_folder, "wasmi").load(SPIN)
        for index in range(first_index, first_index + units):
            data = turns(100 + miner[0] + 300 * job + index)
            outcome = program.run(data, FUEL_LIMIT)
            receipts.append(
                Receipt(
                    genesis_root=origin(),
                    job=job,
                    k=0,
                    miner=miner,
                    index=index,
                    unit_id=unit_id(ProgramId(Hash32(program.id)), blob_id(data), FUEL_LIMIT),
                    output_id=BlobId(blob_id(outcome.output)),
                    status=Status(outcome.status),
                    fuel=outcome.fuel,
                    weight=outcome.fuel,
                )
            )
    return build_batch(receipts)


def real_batch(miner: int, job: int = 1, units: int = 3, first_index: int = 0) -> GenesisWork:
    """The batch of a test account, as a specification lists it."""
    commitment = run_batch(address(miner), job, units, first_index).commitment
    return GenesisWork(
        miner=commitment.miner,
        job=commitment.job,
        k=commitment.k,
        first_index=commitment.first_index,
        count=commitment.count,
        root=commitment.root,
        fuel=commitment.fuel,
        weight=commitment.weight,
    )
