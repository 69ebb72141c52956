# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Consensus
@license Apache-2.0
@notice What block validity depends on, kept in state so that a node can start from any trusted state root.
        Today: the prevRandao of the last 8192 blocks, written by the call that the protocol makes at the start
        of each block.
@dev Block n keeps its value in slot n mod 8192. A slot is never emptied: the block that is 8192 younger overwrites
     it, so the checks of the number alone decide what may be answered. Blocks are numbered without gaps and each
     makes the call once, before its transactions; so a slot inside the window holds its own block's value, except
     before the first call: `_first_block` tells where the history begins. The current block is answered from its
     header, so that a call simulated on a block that is still to be built never reads its slot's former value.
"""

# The caller that the protocol uses for its own calls (as in EIP-4788 and EIP-2935). Nobody holds its key.
SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE

# Blocks whose prevRandao can be asked for, the current one included.
HISTORY: constant(uint256) = 8192

# The ring stays at the first 8192 slots; later duties declare their storage below what stands here.
_ring: bytes32[HISTORY]

# Number of the first block that made the call; 0 while there was none (genesis makes no call).
_first_block: uint256

@external
def begin_block(prev_randao: bytes32):
    """
    @notice The block-start call of the protocol.
    @param prev_randao This block's prevRandao.
    """
    assert msg.sender == SYSTEM, "Consensus: only the protocol may begin a block"
    assert prev_randao == block.prevrandao, "Consensus: not the prevRandao of this block"
    if self._first_block == 0:
        self._first_block = block.number
    self._ring[block.number % HISTORY] = prev_randao

@external
@view
def prev_randao(block_number: uint256) -> bytes32:
    """
    @notice prevRandao of one of the last 8192 blocks, this one included.
    @param block_number Number of the block.
    @return The value that the block's header carries.
    """
    if block_number == block.number:
        return block.prevrandao
    assert block_number < block.number, "Consensus: block is in the future"
    assert block.number - block_number < HISTORY, "Consensus: block is older than 8192 blocks"
    first: uint256 = self._first_block
    assert first != 0 and block_number >= first, "Consensus: block is before the history"
    return self._ring[block_number % HISTORY]
