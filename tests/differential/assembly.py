"""A few lines of assembler, so that tests can say which instructions a contract runs."""

OPCODES = {
    name: code
    for code, names in {
        0x00: "STOP ADD MUL SUB DIV SDIV MOD SMOD ADDMOD MULMOD EXP SIGNEXTEND",
        0x10: "LT GT SLT SGT EQ ISZERO AND OR XOR NOT BYTE SHL SHR SAR CLZ",
        0x20: "KECCAK256",
        0x30: "ADDRESS BALANCE ORIGIN CALLER CALLVALUE CALLDATALOAD CALLDATASIZE CALLDATACOPY CODESIZE "
        "CODECOPY GASPRICE EXTCODESIZE EXTCODECOPY RETURNDATASIZE RETURNDATACOPY EXTCODEHASH",
        0x40: "BLOCKHASH COINBASE TIMESTAMP NUMBER PREVRANDAO GASLIMIT CHAINID SELFBALANCE BASEFEE BLOBHASH "
        "BLOBBASEFEE",
        0x50: "POP MLOAD MSTORE MSTORE8 SLOAD SSTORE JUMP JUMPI PC MSIZE GAS JUMPDEST TLOAD TSTORE MCOPY "
        "PUSH0",
        0x80: " ".join(f"DUP{i}" for i in range(1, 17)),
        0x90: " ".join(f"SWAP{i}" for i in range(1, 17)),
        0xA0: "LOG0 LOG1 LOG2 LOG3 LOG4",
        0xF0: "CREATE CALL CALLCODE RETURN DELEGATECALL CREATE2",
        0xFA: "STATICCALL",
        0xFD: "REVERT INVALID SELFDESTRUCT",
    }.items()
    for code, name in enumerate(names.split(), start=code)
}


def assemble(text: str) -> bytes:
    """Translate instructions; a number stands for the shortest instruction that pushes it."""
    code = b""
    for token in text.split():
        if token in OPCODES:
            code += bytes([OPCODES[token]])
        else:
            value = int(token, 0)
            size = (value.bit_length() + 7) // 8
            code += bytes([0x5F + size]) + value.to_bytes(size, "big")
    return code


def deployment(runtime: bytes) -> bytes:
    """Code that creates a contract with this runtime code."""
    return (
        b"\x61" + len(runtime).to_bytes(2, "big") + assemble("DUP1 10 PUSH0 CODECOPY PUSH0 RETURN") + runtime
    )


def word(value: int | bytes) -> bytes:
    """32 bytes: an unsigned number, or an address with zeros before it."""
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


CALL_AND_LOG = assemble(
    # Calls the address in the first word of the input with the rest of it; logs success and what came back.
    "32 CALLDATASIZE SUB 32 PUSH0 CALLDATACOPY "
    "PUSH0 PUSH0 32 CALLDATASIZE SUB PUSH0 PUSH0 PUSH0 CALLDATALOAD GAS CALL "
    "RETURNDATASIZE PUSH0 PUSH0 RETURNDATACOPY RETURNDATASIZE PUSH0 LOG1 STOP"
)
STORE_INPUT = assemble("32 CALLDATALOAD PUSH0 CALLDATALOAD SSTORE STOP")
"""Writes the second word of the input to the slot that the first one names."""
