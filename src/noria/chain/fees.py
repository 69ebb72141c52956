"""What a transaction should pay to be taken into a block soon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria._core import Header

DEFAULT_TIP: Final = 1_000_000_000
"""Tip in wei per gas that is suggested where recent blocks give no hint."""
TIP_BLOCKS: Final = 20
"""Recent blocks that are looked at."""
TIP_PERCENTILE: Final = 60.0
"""Of the tips in each of them."""


def suggested_tip(history: Sequence[tuple[Header, Sequence[int]]]) -> int:
    """Return the median of recent blocks' tips, wei per gas.

    Parameters
    ----------
    history
        As `noria._core.Engine.fee_history` returns it for `TIP_PERCENTILE` alone.
    """
    tips = sorted(found[0] for header, found in history if header.gas_used and found)
    return tips[len(tips) // 2] if tips else DEFAULT_TIP
