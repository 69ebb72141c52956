"""What programs, inputs, outputs and units are called: by the hash of what they are (protocol 2)."""

from __future__ import annotations

import struct
from typing import Final, NewType

from noria.primitives.hashes import blake3, keccak256
from noria.primitives.types import HASH_BYTES, UINT64_MAX, Hash32

ProgramId = NewType("ProgramId", Hash32)
"""Name of a WebAssembly module."""
BlobId = NewType("BlobId", Hash32)
"""Name of any bytes: an input, an output, a log."""
UnitId = NewType("UnitId", Hash32)
"""Name of a program, an input and a fuel limit together."""

PROGRAM_TAG: Final = b"noria/program/1"
BLOB_TAG: Final = b"noria/blob/1"
UNIT_TAG: Final = b"noria/unit/1"

_UNIT: Final = struct.Struct(">12s32s32sQ")


class InvalidId(ValueError):
    """Not the bytes, or not the text, of an id."""


class InvalidFuelLimit(ValueError):
    """A fuel limit that does not fit 64 bits."""


def program_id(module: bytes) -> ProgramId:
    """Name a program: ``H("noria/program/1" ‖ module bytes)``.

    Parameters
    ----------
    module
        The module as delivered, before any instrumentation.

    Returns
    -------
    ProgramId
    """
    return ProgramId(blake3(PROGRAM_TAG + module))


def blob_id(data: bytes) -> BlobId:
    """Name an input, an output or any other bytes: ``H("noria/blob/1" ‖ bytes)``.

    Parameters
    ----------
    data
        Any number of bytes.

    Returns
    -------
    BlobId
    """
    return BlobId(blake3(BLOB_TAG + data))


def unit_id(program: ProgramId, input_id: BlobId, fuel_limit: int) -> UnitId:
    """Name a unit: ``K("noria/unit/1" ‖ program_id ‖ input_id ‖ fuel_limit)``, the limit in 64 bits.

    Parameters
    ----------
    program
        Its program.
    input_id
        Its input.
    fuel_limit
        Most fuel that it may burn, from 0 to 2^64 - 1.

    Returns
    -------
    UnitId

    Raises
    ------
    InvalidId
        Where an id is not 32 bytes.
    InvalidFuelLimit
        Where the limit does not fit.
    """
    for name, value in (("a program", program), ("an input", input_id)):
        if len(value) != HASH_BYTES:
            raise InvalidId(f"{name} id has {HASH_BYTES} bytes, not {len(value)}")
    if not 0 <= fuel_limit <= UINT64_MAX:
        raise InvalidFuelLimit(f"a fuel limit has 64 bits, unlike {fuel_limit}")
    return UnitId(keccak256(_UNIT.pack(UNIT_TAG, program, input_id, fuel_limit)))
