"""How many certificates a node runs again (protocol 4.5). Which ones is its own secret draw."""

from __future__ import annotations

from typing import Final

from noria.consensus.parameters import WHOLE_PERCENT, ChainParameters

CERTAIN: Final = 1 << 32
"""The chance of what always happens; chances are integers of one part in this many."""


def check_chance(
    parameters: ChainParameters, *, certificates_per_epoch: int, mean_run_milliseconds: int
) -> int:
    """Return q: the chance with which a node checks a certificate, of `CERTAIN` (protocol 4.5).

    The largest with which running units again stays within ``VERIFY_SHARE`` of one core. With n honest nodes
    a lie escapes all of them with ``(1 - q)^n``.

    Parameters
    ----------
    parameters
        The chain's.
    certificates_per_epoch
        How many blocks with a certificate an epoch has.
    mean_run_milliseconds
        How long a unit takes, compilation left out.
    """
    cost = certificates_per_epoch * mean_run_milliseconds * WHOLE_PERCENT
    budget = parameters.epoch_slots * parameters.slot_seconds * 1000 * parameters.verify_share_percent
    return CERTAIN if cost <= budget else CERTAIN * budget // cost
