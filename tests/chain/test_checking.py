"""What checking certificates takes of a core, whatever comes of it."""

from __future__ import annotations

import asyncio

import pytest

from noria._core import MachineFailure
from noria.chain import certificates
from noria.chain.certificates import CertificateChecker, CheckState
from noria.chain.verify_budget import VerifyBudget
from noria.execution.parameters import DEVNET
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId
from noria.work.receipts import Status
from noria.work.workers import Outcome
from tests.consensus.world import address, certificate_at, input_of, unit_batch
from tests.virtual_time import run_virtually

FUEL = 10**6
SHARE = DEVNET.verify_share_percent / 100


class Runner:
    """The first engine is quick; the second takes a minute, and may fail."""

    def __init__(self, first: bytes, second: bytes | None) -> None:
        self.first, self.second = first, second
        self.begun: list[float] = []

    async def run(self, program: ProgramId, input: bytes, fuel_limit: int, *, priority: int = 0) -> Outcome:
        self.begun.append(asyncio.get_running_loop().time())
        return Outcome(Status.OK, self.first, b"", FUEL, 0.001)

    async def confirm(self, program: ProgramId, input: bytes, fuel_limit: int) -> Outcome:
        await asyncio.sleep(60)
        if self.second is None:
            raise MachineFailure("no answer")
        return Outcome(Status.OK, self.second, b"", FUEL, 60.0)


class NothingKnown:
    def verdict(self, receipt: Hash32) -> bool | None:
        return None

    def put_verdict(self, receipt: Hash32, is_right: bool, slot: int) -> None:
        pass


@pytest.mark.parametrize(
    ("second", "state"),
    [
        (b"another output", CheckState.REFUTED),
        (b"a third output", CheckState.UNDECIDED),
        (None, CheckState.UNDECIDED),
    ],
)
def test_a_second_engines_time_counts_against_the_share_whatever_it_says(
    second: bytes | None, state: CheckState
) -> None:
    async def story() -> None:
        runner = Runner(b"another output", second)
        found: list[CheckState] = []
        checker = CertificateChecker(
            runner,
            NothingKnown(),
            parameters=DEVNET,
            settled=lambda root, state: found.append(state),
            draw=lambda: 0.0,
        )
        running = asyncio.create_task(checker.run())
        batch = unit_batch(address(0), [FUEL, FUEL])
        for index in range(2):
            certificate = certificate_at(batch, index * FUEL)
            checker.submit(Hash32(bytes([index]) * 32), index, certificate, input_of(address(0), index))
        await asyncio.sleep(60 * 60)
        running.cancel()
        assert found == [state] * 2
        # The next check begins when the minute is worked off.
        first, second_check = runner.begun
        assert second_check - first == pytest.approx(60 / SHARE, abs=1)

    run_virtually(story())


@pytest.mark.parametrize("drawn", [True, False])
def test_inputs_that_wait_have_so_many_bytes_and_the_latest_is_among_them(
    monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    async def story() -> None:
        batch = unit_batch(address(0), [FUEL, FUEL])
        certificate, input = certificate_at(batch, 0), input_of(address(0), 0)
        monkeypatch.setattr(certificates, "INPUT_BYTES_MAX", 3 * len(input))
        monkeypatch.setattr(VerifyBudget, "drawn", lambda *_: drawn)
        checker = CertificateChecker(
            Runner(b"", b""),
            NothingKnown(),
            parameters=DEVNET,
            settled=lambda root, state: None,
        )
        roots = [Hash32(bytes([index]) * 32) for index in range(8)]
        for slot, root in enumerate(roots):
            checker.submit(root, slot, certificate, input)
        waiting = [check.root for check in checker._heap]
        aside = list(checker._known)
        if drawn:
            # What came first is checked first; of the others the latest can still be brought forward.
            assert (sorted(waiting), aside) == (roots[:3], roots[5:])
        else:
            assert (waiting, aside) == ([], roots[5:])
        checker.hurry(roots[7])
        checker.forget(roots[5:6])
        assert checker._known_bytes == sum(len(check.input) for check in checker._known.values())
        assert roots[7] in [check.root for check in checker._heap]
        assert len(checker._heap) <= 3

    run_virtually(story())
