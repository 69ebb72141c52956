"""The numbers that a network chooses (protocol 9), checked before anything is built on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final

from noria.primitives.amounts import format_amount
from noria.primitives.types import FUEL_MAX, NOR, UINT256_MAX

BASIS_POINTS: Final = 10_000
"""Shares are integers of a ten-thousandth."""
WHOLE_PERCENT: Final = 100
EPOCH_SLOTS_MIN: Final = 8
"""Fewer leave no room for the quarter after which votes are cast and the eighth that voters wait."""
FLOOR_MIN_LEAST_WEI: Final = 8
"""The floor price moves by an eighth of itself; below this that would be nothing and it could never rise."""


class InvalidParameters(ValueError):
    """Parameters that no chain can have: one line with the name, the value and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainParameters:
    """What a network chooses, the same on each of its nodes (protocol 9).

    Raises
    ------
    InvalidParameters
        Where a value is out of its bounds or contradicts another one.
    """

    slot_seconds: int
    """``SLOT``."""
    win_numerator: int
    """``F_NUM``: expected winners per slot are `win_numerator` / `win_denominator`."""
    win_denominator: int
    """``F_DEN``."""
    epoch_slots: int
    """``EPOCH``."""
    window_epochs: int
    """``WINDOW``: how many epochs work counts."""
    leak_epochs: int
    """``LEAK``: silence after which weight sleeps; also the weak-subjectivity period."""
    grant_epochs: int
    """``GRANT_EPOCHS``: grants are constant that long and then fall; 0 if they never do."""
    unit_fuel_max: int
    """``U_MAX``, fuel."""
    input_bytes_max: int
    """``INPUT_MAX``."""
    verify_share_percent: int
    """``VERIFY_SHARE`` of one core for checking certificates."""
    memory_bytes_max: int
    stack_max: int
    table_max: int
    program_bytes_max: int
    output_bytes_max: int
    challenge_blocks: int
    """``T_CHALLENGE``."""
    data_blocks: int
    """``T_DATA``."""
    audit_blocks: int
    """``T_AUDIT``."""
    close_blocks: int
    """``T_CLOSE``."""
    court_blocks: int
    """``T_COURT``."""
    cases_max: int
    """``CASES``."""
    jail_epochs: int
    """``JAIL``."""
    fee_basis_points: int
    """``FEE``: the protocol's part of every price."""
    pool_rate: int
    """``POOL_RATE``: a block's proposer gets one part in this many of the reward pool."""
    bond_min_wei: int
    """``BOND_MIN``."""
    bond_per_weight_wei: int
    """``BOND_PER_WEIGHT``: wei of bond that cover one fuel of weight."""
    bond_per_capacity_wei: int
    """``BOND_PER_CAPACITY``: wei of bond that cover one fuel of capacity per epoch."""
    floor_min_wei: int
    """``FLOOR_MIN``: least price of a fuel in wei for which fees are counted as paid."""
    miners_max: int
    """``MAX_MINERS``."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _require_range(field.name, getattr(self, field.name), *_BOUNDS[field.name])
        if self.win_numerator > self.win_denominator:
            raise InvalidParameters(
                f"win_numerator: {self.win_numerator} is above win_denominator {self.win_denominator}:"
                " more than one winner per slot is expected"
            )
        if self.leak_epochs > self.window_epochs:
            raise InvalidParameters(
                f"leak_epochs: {self.leak_epochs} is above window_epochs {self.window_epochs}: a bond would"
                " be"
                " free before its owner's votes stop counting"
            )

    @property
    def unbonding_epochs(self) -> int:
        """Epochs that a bond stays slashable after its owner has asked for it (protocol 4.3)."""
        return self.window_epochs + 4

    def numbers(self) -> tuple[int, ...]:
        """Return all values in the order of their declaration, which is the order of the genesis hash."""
        return tuple(asdict(self).values())


def mainnet_parameters(
    *, bond_min_wei: int, bond_per_weight_wei: int, bond_per_capacity_wei: int, floor_min_wei: int
) -> ChainParameters:
    """Return the main network's parameters; what protocol 9 leaves to the specification is asked for.

    Raises
    ------
    InvalidParameters
        Where one is out of its bounds.
    """
    return ChainParameters(
        slot_seconds=2,
        win_numerator=1,
        win_denominator=3,
        epoch_slots=1024,
        window_epochs=384,
        leak_epochs=96,
        grant_epochs=4096,
        unit_fuel_max=2 * 10**10,
        input_bytes_max=256 << 10,
        verify_share_percent=10,
        challenge_blocks=14_400,
        data_blocks=7_200,
        audit_blocks=600,
        close_blocks=1_200,
        court_blocks=600,
        cases_max=8,
        jail_epochs=384,
        pool_rate=65_536,
        bond_min_wei=bond_min_wei,
        bond_per_weight_wei=bond_per_weight_wei,
        bond_per_capacity_wei=bond_per_capacity_wei,
        floor_min_wei=floor_min_wei,
        **_SAME_EVERYWHERE,
    )


_SAME_EVERYWHERE: Final = {
    "memory_bytes_max": 1 << 30,
    "stack_max": 65_535,
    "table_max": 1_000_000,
    "program_bytes_max": 4 << 20,
    "output_bytes_max": 64 << 20,
    "fee_basis_points": 500,
    "miners_max": 65_536,
}

_COUNT: Final = (1, 2**32)
_BLOCKS: Final = (1, 2**32)
_BYTES: Final = (1, 2**32)
_AMOUNT: Final = (1, UINT256_MAX)
_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "slot_seconds": (1, 3_600),
    "win_numerator": (1, 2**16),
    "win_denominator": (1, 2**16),
    "epoch_slots": (EPOCH_SLOTS_MIN, 2**16),
    "window_epochs": (1, 2**16),
    "leak_epochs": (1, 2**16),
    "grant_epochs": (0, 2**32),
    "unit_fuel_max": (1, FUEL_MAX),
    "input_bytes_max": _BYTES,
    "verify_share_percent": (1, WHOLE_PERCENT),
    "memory_bytes_max": _BYTES,
    "stack_max": _COUNT,
    "table_max": _COUNT,
    "program_bytes_max": _BYTES,
    "output_bytes_max": _BYTES,
    "challenge_blocks": _BLOCKS,
    "data_blocks": _BLOCKS,
    "audit_blocks": _BLOCKS,
    "close_blocks": _BLOCKS,
    "court_blocks": _BLOCKS,
    "cases_max": (1, 2**16),
    "jail_epochs": (1, 2**32),
    "fee_basis_points": (1, BASIS_POINTS),
    "pool_rate": (1, 2**64),
    "bond_min_wei": _AMOUNT,
    "bond_per_weight_wei": _AMOUNT,
    "bond_per_capacity_wei": _AMOUNT,
    "floor_min_wei": (FLOOR_MIN_LEAST_WEI, UINT256_MAX),
    "miners_max": (1, 65_536),
}


def _require_range(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int:
        raise InvalidParameters(f"{name}: {value!r} is no integer")
    if not least <= value <= most:
        shown = (
            f"{value} ({format_amount(value)})"
            if name.endswith("_wei") and 0 <= value <= UINT256_MAX
            else value
        )
        raise InvalidParameters(f"{name}: {shown} is not within {least} and {most}")


DEVNET_GRANT_FUEL: Final = 2 * 10**11
"""Grant of each miner of a development network, fuel."""

DEVNET: Final = ChainParameters(
    slot_seconds=1,
    win_numerator=2,
    win_denominator=3,
    epoch_slots=16,
    window_epochs=64,
    leak_epochs=64,
    grant_epochs=0,
    # 0.1 to 0.2 s of plain Python (`docs/benchmarks.md`): people's units are that long.
    unit_fuel_max=4 * 10**9,
    input_bytes_max=256 << 10,
    verify_share_percent=5,
    challenge_blocks=4,
    data_blocks=64,
    audit_blocks=8,
    close_blocks=4,
    court_blocks=16,
    cases_max=4,
    jail_epochs=32,
    pool_rate=64,
    # A bond covers 0.4 of a grant, so that no miner of four passes a third: 1.4 / 4.4.
    bond_min_wei=4_000 * NOR,
    bond_per_weight_wei=4_000 * NOR * 10 // (4 * DEVNET_GRANT_FUEL),
    bond_per_capacity_wei=10**10,
    floor_min_wei=10**6,
    **_SAME_EVERYWHERE,
)
"""Parameters of a development network (protocol 9)."""
