# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title ProgramRegistry
@license Apache-2.0
@notice Who develops a program, and what each fuel that it burns brings its developer.
@dev Whoever is first to publish a program is its developer, and the module itself is not looked at: only who has a
     program can name it, so publish before giving it away. Programs that the chain's specification pins belong to
     this contract from genesis on, so nobody earns royalties with them.
"""

event Published:
    program_id: indexed(bytes32)
    developer: indexed(address)
    royalty: uint256
    metadata: Bytes[1024]

event RoyaltyChanged:
    program_id: indexed(bytes32)
    royalty: uint256

WEI_MAX: constant(uint256) = 2**96 - 1
LOW_160: constant(uint256) = 2**160 - 1

# royalty (96 bits) | developer (160)
_programs: HashMap[bytes32, uint256]

@external
def publish(program_id: bytes32, royalty: uint256, metadata: Bytes[1024]):
    """
    @notice Become the developer of a program, once and for ever.
    @param program_id Names the module.
    @param royalty Wei for each fuel that it burns.
    @param metadata For people; it is logged and not kept.
    """
    assert self._programs[program_id] == 0, "ProgramRegistry: published already, or pinned"
    self._write(program_id, royalty)
    log Published(program_id=program_id, developer=msg.sender, royalty=royalty, metadata=metadata)

@external
def set_royalty(program_id: bytes32, royalty: uint256):
    """
    @notice Ask for another royalty in jobs that are opened from now on.
    """
    developer: uint256 = self._programs[program_id] & LOW_160
    assert developer == convert(msg.sender, uint256), "ProgramRegistry: only the developer may"
    self._write(program_id, royalty)
    log RoyaltyChanged(program_id=program_id, royalty=royalty)

@external
@view
def program(program_id: bytes32) -> (address, uint256):
    """
    @notice A program's developer and its royalty, wei per fuel; the zero address where nobody has published it, and
            this contract's where it is pinned.
    """
    word: uint256 = self._programs[program_id]
    return convert(word & LOW_160, address), word >> 160

@internal
def _write(program_id: bytes32, royalty: uint256):
    assert royalty <= WEI_MAX, "ProgramRegistry: a royalty has 96 bits"
    self._programs[program_id] = (royalty << 160) | convert(msg.sender, uint256)
