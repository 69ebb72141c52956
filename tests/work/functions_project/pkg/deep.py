"""A module in a package that imports relatively."""

from .. import units
from . import WORD


def spoken() -> str:
    return f"{WORD} {units.scaled(2)}"


def lately() -> float:
    from ..units import scaled
    from .other import answer

    return scaled(answer())
