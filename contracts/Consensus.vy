# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Consensus
@license Apache-2.0
@notice What block validity depends on, kept in state so that a node can start from any trusted state root:
        the prevRandao of the last 8192 blocks, the lottery's randomness, checkpoints and the votes counted
        towards them, who sleeps, and the root of each epoch's snapshot.
@dev One call at the start of each block writes it all. What that call is given has been derived by every node from
     the block and the parent's state alone, and checked there (signatures, weights); the contract checks only that it
     fits, computes what follows from it by itself (randomness, sources and finality of checkpoints), and passes on
     what concerns the other contracts. A block whose call fails is invalid, so nothing here may fail for a valid one.

     prevRandao: block n keeps its value in slot n mod 8192. A slot is never emptied: the block that is 8192 younger
     overwrites it, so the checks of the number alone decide what may be answered. Blocks are numbered without gaps
     and each makes the call once, before its transactions; so a slot inside the window holds its own block's value,
     except before the first call: `_first_block` tells where the history begins. The current block is answered from
     its header, so that a call simulated on a block that is still to be built never reads its slot's former value.

     Votes: the n-th epoch for which votes can be counted has row n mod (LEAK + 2) of the tables below. Bit i of word w
     in a row is the miner with index 256·w + i in MinerRegistry. Words of `_members` are valid below `_member_words`,
     words of `_voted` where `_touched` says so; what an older epoch left beyond is ignored and overwritten, which costs
     less than clearing it.
"""

interface MinerRegistry:
    def slash(miner: address, prover: address): nonpayable

interface WorkLedger:
    def begin_epoch(epoch: uint256): nonpayable

interface RewardPool:
    def begin_epoch(): nonpayable
    def pay_proposer(recipient: address): nonpayable

# A chain's last block before an epoch.
struct Checkpoint:
    epoch: uint256
    root: bytes32

# What votes with one target epoch are for, and by whose weight they count.
struct Tally:
    target: Checkpoint
    source: Checkpoint
    voting_epoch: uint256

# Votes for one target that a block adds, and whether its target is justified with them.
struct Ballot:
    epoch: uint256
    voters: DynArray[uint256, 256]
    justified: bool

# Miners of one word that have fallen asleep.
struct Sleepers:
    word: uint256
    miners: uint256

struct Randomness:
    epoch: uint256
    eta: bytes32
    running: bytes32

struct Finality:
    justified: Checkpoint
    finalised: Checkpoint

# The caller that the protocol uses for its own calls (as in EIP-4788 and EIP-2935). Nobody holds its key.
SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
# EIP-4788: the parent's root by the block's time, written before this contract is called.
BEACON_ROOTS: constant(address) = 0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02
BLAKE3: constant(address) = 0x4e6f726961000000000000000000000000000101
MINER_REGISTRY: constant(address) = 0x4E6f726961000000000000000000000000000002
WORK_LEDGER: constant(address) = 0x4E6f726961000000000000000000000000000003
REWARD_POOL: constant(address) = 0x4E6f726961000000000000000000000000000008

# Blocks whose prevRandao can be asked for, the current one included.
HISTORY: constant(uint256) = 8192
# 65,536 miners in words of 256 bits.
WORDS: constant(uint256) = 256
# Most miners that one block punishes, so that the call's gas is bounded; the others follow in later blocks.
GUILTY_MAX: constant(uint256) = 16
# Most words of sleepers in one call, likewise. Sleepers stay in the voting set for two epochs more, time enough for all.
SLEEPERS_MAX: constant(uint256) = 128

GENESIS_SECONDS: immutable(uint256)
SLOT_SECONDS: immutable(uint256)
EPOCH_SLOTS: immutable(uint256)
LEAK_EPOCHS: immutable(uint256)

# The ring stays at the first 8192 slots; later duties declare their storage below what stands here.
_ring: bytes32[HISTORY]

# Number of the first block that made the call; 0 while there was none (genesis makes no call).
_first_block: uint256

# Root of genesis, the parent of the first block.
genesis_root: public(bytes32)

# Epoch of the last block.
_epoch: uint256
_eta: bytes32
_running: bytes32

_justified: Checkpoint
_finalised: Checkpoint

# Number of epochs for which votes could be counted so far, and a row for each of the latest.
ballots: public(uint256)
_tallies: Tally[65538]
_touched: uint256[65538]
_member_words: uint256[65538]
_members: uint256[WORDS][65538]
_voted: uint256[WORDS][65538]

# Who has been silent for too long, by index; bit w of the first is set where word w may not be zero.
_asleep_words: uint256
_asleep: uint256[WORDS]

# First block of the last block's epoch; that of genesis counts as the first of its own.
_epoch_start: uint256

# Root of the snapshot of an epoch, from the first block of the epoch before it on.
snapshot_root: public(HashMap[uint256, bytes32])

@deploy
def __init__(genesis_seconds: uint256, slot_seconds: uint256, epoch_slots: uint256, leak_epochs: uint256):
    GENESIS_SECONDS = genesis_seconds
    SLOT_SECONDS = slot_seconds
    EPOCH_SLOTS = epoch_slots
    LEAK_EPOCHS = leak_epochs

# ---------------------------------------------------------------- the block-start call

@external
def begin_block(prev_randao: bytes32):
    """
    @notice The block-start call of a development chain, whose blocks are not drawn and not voted on.
    @param prev_randao This block's prevRandao.
    """
    self._begin(prev_randao)
    epoch: uint256 = self._slot() // EPOCH_SLOTS
    if epoch > self._epoch:
        self._epoch = epoch
        self._epoch_start = block.number
        self._tell_epoch(epoch)
    extcall RewardPool(REWARD_POOL).pay_proposer(block.coinbase)

@external
def begin_slot(
    prev_randao: bytes32,
    vrf_proof: Bytes[96],
    snapshot_roots: DynArray[bytes32, 3],
    members: DynArray[DynArray[uint256, WORDS], 2],
    fallen_asleep: DynArray[Sleepers, SLEEPERS_MAX],
    votes: DynArray[Ballot, 2],
    guilty: DynArray[address, GUILTY_MAX],
):
    """
    @notice The block-start call of a chain whose blocks are drawn by the lottery.
    @param prev_randao This block's prevRandao.
    @param vrf_proof The signature that won the slot.
    @param snapshot_roots In the first block of an epoch e after one of epoch p: the roots of the snapshots of
           max(p + 2, e - 1) to e + 1; in the chain's first block of max(0, e - 1) to e + 1; otherwise empty.
    @param members In the first block of an epoch e: who may vote in max(p + 1, e - 1) to e; otherwise empty.
    @param fallen_asleep In the first block of an epoch: who has now been silent for LEAK epochs; the lowest
           128 words, in ascending order.
    @param votes The votes in this block, at most once for each of the two latest epochs.
    @param guilty Whom the evidence in this block convicts, the first 16.
    """
    first: bool = self._begin(prev_randao)
    slot: uint256 = self._slot()
    epoch: uint256 = slot // EPOCH_SLOTS
    before: uint256 = self._epoch
    if first:
        self._eta = self._blake3(concat(b"noria/eta/1", self.genesis_root))
        self._running = self._eta
        self._justified = Checkpoint(epoch=0, root=self.genesis_root)
        self._finalised = self._justified
    if first or epoch > before:
        self._store_snapshot_roots(first, before, epoch, snapshot_roots)
    else:
        assert len(snapshot_roots) == 0, "Consensus: snapshots are for an epoch's first block"
    if epoch > before:
        self._epoch = epoch
        self._epoch_start = block.number
        self._eta = self._blake3(concat(b"noria/eta/1", self._running, convert(convert(epoch, uint64), bytes8)))
        self._open(before, epoch, members)
        for sleepers: Sleepers in fallen_asleep:
            self._asleep[sleepers.word] |= sleepers.miners
            self._asleep_words |= 1 << sleepers.word
        self._tell_epoch(epoch)
    else:
        assert len(members) == 0, "Consensus: voters are for an epoch's first block"
        assert len(fallen_asleep) == 0, "Consensus: sleepers are for an epoch's first block"
    if slot % EPOCH_SLOTS < 2 * EPOCH_SLOTS // 3:
        self._running = self._blake3(concat(b"noria/eta/1", self._running, vrf_proof))
    for ballot: Ballot in votes:
        self._count(ballot)
    for miner: address in guilty:
        extcall MinerRegistry(MINER_REGISTRY).slash(miner, block.coinbase)
    extcall RewardPool(REWARD_POOL).pay_proposer(block.coinbase)

@internal
def _begin(prev_randao: bytes32) -> bool:
    # Whether this is the chain's first block.
    assert msg.sender == SYSTEM, "Consensus: only the protocol may begin a block"
    assert prev_randao == block.prevrandao, "Consensus: not the prevRandao of this block"
    self._ring[block.number % HISTORY] = prev_randao
    if self._first_block != 0:
        return False
    self._first_block = block.number
    self.genesis_root = self._parent_root()
    return True

@internal
def _tell_epoch(epoch: uint256):
    extcall WorkLedger(WORK_LEDGER).begin_epoch(epoch)
    extcall RewardPool(REWARD_POOL).begin_epoch()

@internal
def _store_snapshot_roots(first: bool, before: uint256, epoch: uint256, roots: DynArray[bytes32, 3]):
    start: uint256 = max(epoch, 1) - 1
    if not first:
        start = max(start, before + 2)
    assert start + len(roots) == epoch + 2, "Consensus: not the snapshots up to the next epoch's"
    for root: bytes32 in roots:
        self.snapshot_root[start] = root
        start += 1

@internal
def _open(before: uint256, epoch: uint256, members: DynArray[DynArray[uint256, WORDS], 2]):
    # Votes for the epoch before count too, as long as no block has begun a later one.
    start: uint256 = max(before + 1, epoch - 1)
    assert start + len(members) == epoch + 1, "Consensus: not the voters of each epoch that begins"
    target_root: bytes32 = self._parent_root()
    justified: Checkpoint = self._justified
    finalised: uint256 = self._finalised.epoch
    n: uint256 = self.ballots
    for i: uint256 in range(len(members), bound=2):
        row: uint256 = (n + i) % (LEAK_EPOCHS + 2)
        number: uint256 = start + i
        voting_epoch: uint256 = finalised
        if number - finalised > LEAK_EPOCHS:
            voting_epoch = number
        self._tallies[row] = Tally(
            target=Checkpoint(epoch=number, root=target_root), source=justified, voting_epoch=voting_epoch
        )
        self._touched[row] = 0
        self._member_words[row] = len(members[i])
        for w: uint256 in range(len(members[i]), bound=WORDS):
            self._members[row][w] = members[i][w]
    self.ballots = n + len(members)

@internal
def _count(ballot: Ballot):
    n: uint256 = self.ballots
    assert n != 0, "Consensus: epoch 0 has no votes"
    row: uint256 = (n - 1) % (LEAK_EPOCHS + 2)
    if self._tallies[row].target.epoch != ballot.epoch and n > 1:
        row = (n - 2) % (LEAK_EPOCHS + 2)
    assert self._tallies[row].target.epoch == ballot.epoch, "Consensus: votes for another epoch"
    touched: uint256 = self._touched[row]
    asleep_words: uint256 = self._asleep_words
    still_asleep: uint256 = asleep_words
    for w: uint256 in range(len(ballot.voters), bound=WORDS):
        voters: uint256 = ballot.voters[w]
        if voters == 0:
            continue
        old: uint256 = 0
        if touched & (1 << w) != 0:
            old = self._voted[row][w]
        if old | voters == old:
            continue
        touched |= 1 << w
        self._voted[row][w] = old | voters
        if asleep_words & (1 << w) != 0:
            asleep: uint256 = self._asleep[w] & ~voters
            self._asleep[w] = asleep
            if asleep == 0:
                still_asleep &= ~(1 << w)
    self._touched[row] = touched
    if still_asleep != asleep_words:
        self._asleep_words = still_asleep
    if ballot.justified:
        tally: Tally = self._tallies[row]
        if tally.target.epoch > self._justified.epoch:
            self._justified = tally.target
        if tally.source.epoch + 1 == tally.target.epoch and tally.source.epoch > self._finalised.epoch:
            self._finalised = tally.source

@external
def wake(index: uint256):
    """
    @notice MinerRegistry tells that a miner has registered or called `wake`.
    """
    assert msg.sender == MINER_REGISTRY, "Consensus: only MinerRegistry wakes miners"
    w: uint256 = index // 256
    if self._asleep_words & (1 << w) != 0:
        asleep: uint256 = self._asleep[w] & ~(1 << (index % 256))
        self._asleep[w] = asleep
        if asleep == 0:
            self._asleep_words &= ~(1 << w)

# ---------------------------------------------------------------- what anybody may ask

@external
@view
def prev_randao(block_number: uint256) -> bytes32:
    """
    @notice prevRandao of one of the last 8192 blocks, this one included.
    @param block_number Number of the block.
    @return The value that the block's header carries.
    """
    return self._prev_randao(block_number)

@external
@view
def draw_randao(block_number: uint256) -> bytes32:
    """
    @notice As `prev_randao`, but of no block before the current epoch: of its first block instead.
    """
    return self._prev_randao(max(block_number, self._epoch_start))

@internal
@view
def _prev_randao(block_number: uint256) -> bytes32:
    if block_number == block.number:
        return block.prevrandao
    assert block_number < block.number, "Consensus: block is in the future"
    assert block.number - block_number < HISTORY, "Consensus: block is older than 8192 blocks"
    first: uint256 = self._first_block
    assert first != 0 and block_number >= first, "Consensus: block is before the history"
    return self._ring[block_number % HISTORY]

@external
@view
def randomness() -> Randomness:
    """
    @notice The lottery's randomness after the last block: its epoch, that epoch's eta, and what later ones come from.
    """
    return Randomness(epoch=self._epoch, eta=self._eta, running=self._running)

@external
@view
def finality() -> Finality:
    """
    @notice The highest justified and the highest final checkpoint of this chain.
    """
    return Finality(justified=self._justified, finalised=self._finalised)

@external
@view
def tally(n: uint256) -> Tally:
    """
    @notice What the votes of the n-th epoch with votes are for; n is below `ballots`, at most LEAK + 2 below.
    """
    return self._tallies[self._row(n)]

@external
@view
def members(n: uint256, words: uint256) -> DynArray[uint256, WORDS]:
    """
    @notice Who may vote in the n-th epoch with votes, in the first words of the row.
    """
    row: uint256 = self._row(n)
    valid: uint256 = self._member_words[row]
    found: DynArray[uint256, WORDS] = []
    for w: uint256 in range(words, bound=WORDS):
        if w < valid:
            found.append(self._members[row][w])
        else:
            found.append(0)
    return found

@external
@view
def voted(n: uint256, words: uint256) -> DynArray[uint256, WORDS]:
    """
    @notice Who has voted in the n-th epoch with votes, in the first words of the row.
    """
    row: uint256 = self._row(n)
    touched: uint256 = self._touched[row]
    found: DynArray[uint256, WORDS] = []
    for w: uint256 in range(words, bound=WORDS):
        if touched & (1 << w) != 0:
            found.append(self._voted[row][w])
        else:
            found.append(0)
    return found

@external
@view
def asleep(words: uint256) -> DynArray[uint256, WORDS]:
    """
    @notice Who sleeps, in the first words of the set.
    """
    found: DynArray[uint256, WORDS] = []
    for w: uint256 in range(words, bound=WORDS):
        found.append(self._asleep[w])
    return found

# ---------------------------------------------------------------- inside

@internal
@view
def _slot() -> uint256:
    return (block.timestamp - GENESIS_SECONDS) // SLOT_SECONDS

@internal
@view
def _row(n: uint256) -> uint256:
    count: uint256 = self.ballots
    assert n < count, "Consensus: no such epoch with votes yet"
    assert count - n <= LEAK_EPOCHS + 2, "Consensus: votes are forgotten"
    return n % (LEAK_EPOCHS + 2)

@internal
@view
def _parent_root() -> bytes32:
    return convert(
        raw_call(BEACON_ROOTS, abi_encode(block.timestamp), max_outsize=32, is_static_call=True), bytes32
    )

@internal
@view
def _blake3(data: Bytes[160]) -> bytes32:
    return convert(raw_call(BLAKE3, data, max_outsize=32, is_static_call=True), bytes32)
