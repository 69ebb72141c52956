"""Small WASI programs, written down in bytes."""

from pathlib import Path

from noria.work.ids import program_id
from noria.work.worker_handle import ProgramSource


def leb(number: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def signed(number: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -64 <= number < 64:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number & 127])


def section(number: int, *entries: bytes) -> bytes:
    body = leb(len(entries)) + b"".join(entries)
    return bytes([number]) + leb(len(body)) + body


def name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


def const(value: int) -> bytes:
    return b"\x41" + signed(value)


def command(body: bytes, *, pages: int = 2, padding: int = 0) -> bytes:
    """A module whose ``_start`` runs ``body`` with an i64 as local 0; fd_read is function 0, fd_write 1."""
    wasi = name("wasi_snapshot_preview1")
    code = b"\x01\x01\x7e" + body + b"\x0b"
    custom = name("padding") + bytes(padding)
    return (
        b"\0asm\x01\0\0\0"
        + section(1, b"\x60\0\0", b"\x60\x04\x7f\x7f\x7f\x7f\x01\x7f")
        + section(2, wasi + name("fd_read") + b"\0\x01", wasi + name("fd_write") + b"\0\x01")
        + section(3, b"\0")
        + section(5, b"\0" + leb(pages))
        + section(7, name("memory") + b"\x02\0", name("_start") + b"\0\x02")
        + section(10, leb(len(code)) + code)
        + (b"\0" + leb(len(custom)) + custom if padding else b"")
    )


STORE, LOAD = b"\x36\x02\0", b"\x28\x02\0"
READ = (
    const(0) + const(1024) + STORE + const(4) + const(60_000) + STORE
    + const(0) + const(0) + const(1) + const(8) + b"\x10\0\x1a"
)  # fmt: skip
"""Read the input to address 1024; its length is at 8."""


def write(descriptor: int) -> bytes:
    """Write what was read."""
    length = const(4) + const(8) + LOAD + STORE
    return length + const(descriptor) + const(0) + const(1) + const(8) + b"\x10\x01\x1a"


GROW = const(16_000) + b"\x40\0\x1a" + const(65_536) + const(1) + const(16_000 << 16) + b"\xfc\x0b\0"

NOTHING = command(b"")
ECHO = command(READ + write(1) + write(2))
"""Writes its input, of at most 60,000 bytes, to output and log."""
TRAP = command(READ + write(2) + b"\x00")
ENDLESS = command(b"\x03\x40\x0c\x00\x0b")
SPIN = command(READ + const(1024) + b"\x29\x03\0\x21\0\x03\x40\x20\0\x42\x01\x7d\x22\0\x50\x45\x0d\0\x0b")
"""Counts down from the 64-bit number that it reads."""
BOMB = command(GROW)
"""Fills almost 1 GiB of memory."""
FLOOD = command(READ + b"\x03\x40" + write(1) + b"\x0c\0\x0b")
"""Writes its input again and again."""


def turns(count: int) -> bytes:
    """Input of `SPIN`."""
    return count.to_bytes(8, "little")


def place(folder: Path, module: bytes) -> ProgramSource:
    """Write a module to a file of its own."""
    program = program_id(module)
    path = folder / f"{program.hex()}.wasm"
    if not path.exists():
        path.write_bytes(module)
    return ProgramSource(program, path)


def large(functions: int) -> bytes:
    """A command with many functions, each with some work for a compiler."""
    work = b"\x20\0\x20\0\x7e\x42\x03\x7c\x21\0" * 40
    code = [b"\x01\x01\x7e" + work + b"\x42" + signed(number) + b"\x21\0\x0b" for number in range(functions)]
    start = b"\0\x0b"
    bodies = [leb(len(body)) + body for body in [start, *code]]
    return (
        b"\0asm\x01\0\0\0"
        + section(1, b"\x60\0\0")
        + section(3, *[b"\0"] * (functions + 1))
        + section(5, b"\0\x01")
        + section(7, name("memory") + b"\x02\0", name("_start") + b"\0\0")
        + section(10, *bodies)
    )
