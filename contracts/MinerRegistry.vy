# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title MinerRegistry
@license Apache-2.0
@notice Who mines: keys, bonds, capacities and prices, and what becomes of a bond.
@dev A miner has an index from 0 on while its bond is here. It names the miner's bit in Consensus and its leaf in the
     Fenwick tree of capacities. It goes to somebody else no sooner than WINDOW + 4 epochs after the bond has stopped
     counting, when no voting set knows the former owner any more. The record of a miner stays for ever, so that
     neither its key nor its punishment can be shed.

     The balance is the sum of all bonds, of what is unbonding, and of `owed`. Wei that are burned go to BURNED,
     an address of the protocol without code or key.
"""

interface Consensus:
    def genesis_root() -> bytes32: view
    def wake(index: uint256): nonpayable

struct Miner:
    # Its index plus 1; 0 for one that has none.
    place: uint256
    bls_head: bytes32
    bls_tail: bytes16
    # Wei at stake that count, and wei that are leaving, with the first epoch in which they may be withdrawn.
    bond: uint256
    unbonding: uint256
    free_epoch: uint256
    # Fuel per epoch, and the least price of a fuel in wei.
    capacity: uint256
    ask_price: uint256
    # Epoch of registration or of the last `wake`.
    life_epoch: uint256
    # First epoch in which it may win and vote again; 0 if it never was in jail.
    jailed_until: uint256
    # Epoch of its last full slash plus 1; 0 if there was none.
    slashed: uint256
    # Epoch of its last change of terms plus 1.
    changed: uint256
    # Open cases before the Court.
    holds: uint256
    peer_id: Bytes[64]

# A miner as it is stored: `times` has `jailed_until` in its low 128 bits and `changed` above, for a draw reads both.
struct Record:
    place: uint256
    bls_head: bytes32
    bls_tail: bytes16
    bond: uint256
    unbonding: uint256
    free_epoch: uint256
    capacity: uint256
    ask_price: uint256
    life_epoch: uint256
    times: uint256
    slashed: uint256
    holds: uint256
    peer_id: Bytes[64]

# What consensus reads.
struct Row:
    miner: address
    bls_head: bytes32
    bls_tail: bytes16
    bond: uint256
    life_epoch: uint256
    jailed_until: uint256
    slashed: uint256

struct Drawn:
    miner: address
    ask_price: uint256
    # Whether it may be hired: not in jail, and its bond is not below BOND_MIN.
    eligible: bool

event Registered:
    miner: indexed(address)
    index: uint256
    bls_head: bytes32
    bls_tail: bytes16

event Updated:
    miner: indexed(address)
    capacity: uint256
    ask_price: uint256

event BondChanged:
    miner: indexed(address)
    bond: uint256
    unbonding: uint256
    free_epoch: uint256

event Left:
    miner: indexed(address)
    index: uint256

event Woken:
    miner: indexed(address)
    epoch: uint256

event Slashed:
    miner: indexed(address)
    full: bool
    taken: uint256
    burned: uint256
    wronged: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
COURT: constant(address) = 0x4e6f726961000000000000000000000000000006
BURNED: constant(address) = 0x4E6F726961000000000000000000000000000000
BLS_VERIFY: constant(address) = 0x4E6f726961000000000000000000000000000102

# Leaves of the tree; a power of two.
SIZE: constant(uint256) = 65536
LEVELS: constant(uint256) = 17
PAGE: constant(uint256) = 256
LOW_96: constant(uint256) = 2**96 - 1
LOW_128: constant(uint256) = 2**128 - 1

GENESIS_SECONDS: immutable(uint256)
EPOCH_SECONDS: immutable(uint256)
UNBONDING_EPOCHS: immutable(uint256)
JAIL_EPOCHS: immutable(uint256)
BOND_MIN: immutable(uint256)
BOND_PER_CAPACITY: immutable(uint256)
MINERS_MAX: immutable(uint256)

_miners: HashMap[address, Record]
# Who has shown that a BLS key is its own; the key is hashed.
key_owner: public(HashMap[bytes32, address])

# Indices ever given, and those that have come back.
indices: public(uint256)
_free_count: uint256
_free: uint256[SIZE]
_at: address[SIZE]

# Node i sums the capacities of indices i - (i & -i) to i - 1. It holds the sum as it is now, the one with which the epoch of
# its last change began, and that epoch plus 1; 96, 96 and 64 bits. So a draw can go by the capacities with which the current
# epoch began: whoever knows a seed cannot change any more whom it names.
_tree: uint256[65537]

# Wei that could not be paid because the recipient refused them.
owed: public(HashMap[address, uint256])

@deploy
def __init__(
    genesis_seconds: uint256, epoch_seconds: uint256, unbonding_epochs: uint256, jail_epochs: uint256,
    bond_min: uint256, bond_per_capacity: uint256, miners_max: uint256,
):
    GENESIS_SECONDS = genesis_seconds
    EPOCH_SECONDS = epoch_seconds
    UNBONDING_EPOCHS = unbonding_epochs
    JAIL_EPOCHS = jail_epochs
    BOND_MIN = bond_min
    BOND_PER_CAPACITY = bond_per_capacity
    MINERS_MAX = miners_max

# ---------------------------------------------------------------- for miners

@external
@payable
def register(bls_key: Bytes[48], proof: Bytes[96], peer_id: Bytes[64], capacity: uint256, ask_price: uint256):
    """
    @notice Become a miner, with the value sent as bond.
    @param bls_key Key for blocks and votes, 48 bytes. It never changes, also not after leaving and coming back.
    @param proof Signature by that key of "noria/pop/1" ‖ genesis_root ‖ sender ‖ bls_key: nobody registers a
           key that is not its own, on another chain or for another address.
    @param peer_id Network identity, 1 to 64 bytes.
    @param capacity Fuel per epoch for which the miner stands ready; the bond must cover it.
    @param ask_price Least price of a fuel, wei.
    """
    miner: Record = self._miners[msg.sender]
    assert miner.place == 0, "MinerRegistry: registered already"
    assert len(bls_key) == 48, "MinerRegistry: a BLS key has 48 bytes"
    assert len(proof) == 96, "MinerRegistry: a proof of possession has 96 bytes"
    assert msg.value >= BOND_MIN, "MinerRegistry: the bond is below the least one"
    key_hash: bytes32 = keccak256(bls_key)
    owner: address = self.key_owner[key_hash]
    assert owner == msg.sender or owner == empty(address), "MinerRegistry: the BLS key is somebody else's"
    head: bytes32 = convert(slice(bls_key, 0, 32), bytes32)
    tail: bytes16 = convert(slice(bls_key, 32, 16), bytes16)
    if owner == empty(address):
        assert miner.bls_head == empty(bytes32) and miner.bls_tail == empty(bytes16), "MinerRegistry: a miner keeps its BLS key"
        self._check_possession(bls_key, proof)
        self.key_owner[key_hash] = msg.sender
    index: uint256 = self._take_index()
    epoch: uint256 = self._epoch()
    self._at[index] = msg.sender
    miner.place = index + 1
    miner.bls_head = head
    miner.bls_tail = tail
    # What an earlier stay left unclaimed has been paid by the withdrawal that ended it.
    miner.bond = msg.value
    miner.unbonding = 0
    miner.free_epoch = 0
    miner.life_epoch = epoch
    self._miners[msg.sender] = miner
    log Registered(miner=msg.sender, index=index, bls_head=head, bls_tail=tail)
    log BondChanged(miner=msg.sender, bond=msg.value, unbonding=0, free_epoch=0)
    self._set_terms(msg.sender, epoch, peer_id, capacity, ask_price)
    extcall Consensus(CONSENSUS).wake(index)

@external
def update(peer_id: Bytes[64], capacity: uint256, ask_price: uint256):
    """
    @notice Change the terms, at once; one change per epoch, of which registration is one. Until the epoch ends the miner is
            not drawn, and draws go by the capacity before.
    """
    self._require_registered(msg.sender)
    epoch: uint256 = self._epoch()
    assert self._miners[msg.sender].times >> 128 <= epoch, "MinerRegistry: one change per epoch"
    self._set_terms(msg.sender, epoch, peer_id, capacity, ask_price)

@external
@payable
def add_bond():
    """
    @notice Add the value sent to the bond.
    """
    self._require_registered(msg.sender)
    assert msg.value > 0, "MinerRegistry: nothing to add"
    self._miners[msg.sender].bond += msg.value
    self._log_bond(msg.sender)

@external
def unbond(amount: uint256):
    """
    @notice Begin to take bond out. It weighs nothing from the next snapshot on, may be withdrawn after WINDOW + 4
            epochs, and can be slashed until it is. Asking again makes all of it wait anew.
    @param amount Wei; what stays must be nothing, which is to leave, or at least BOND_MIN.
    """
    self._require_registered(msg.sender)
    bond: uint256 = self._miners[msg.sender].bond
    assert amount > 0 and amount <= bond, "MinerRegistry: not an amount that the bond has"
    assert amount == bond or bond - amount >= BOND_MIN, "MinerRegistry: what stays is below the least bond"
    self._miners[msg.sender].bond = bond - amount
    self._miners[msg.sender].unbonding += amount
    self._miners[msg.sender].free_epoch = self._epoch() + UNBONDING_EPOCHS
    self._fit_capacity(msg.sender)
    self._log_bond(msg.sender)

@external
def withdraw(miner: address):
    """
    @notice Pay out what has been unbonded for long enough; with no bond left, the miner's place becomes free.
    @dev Anybody may call it for anybody: the money goes to the miner, and the places of the punished become free.
    """
    self._require_registered(miner)
    free_epoch: uint256 = self._miners[miner].free_epoch
    assert free_epoch != 0 and self._epoch() >= free_epoch, "MinerRegistry: still bound"
    assert self._miners[miner].holds == 0, "MinerRegistry: a case is open"
    amount: uint256 = self._miners[miner].unbonding
    self._miners[miner].unbonding = 0
    self._miners[miner].free_epoch = 0
    if self._miners[miner].bond == 0:
        index: uint256 = self._miners[miner].place - 1
        self._miners[miner].place = 0
        self._at[index] = empty(address)
        self._free[self._free_count] = index
        self._free_count += 1
        log Left(miner=miner, index=index)
    self._log_bond(miner)
    self._pay(miner, amount)

@external
def wake():
    """
    @notice A sign of life of a miner whose weight sleeps, or would soon.
    """
    self._require_registered(msg.sender)
    epoch: uint256 = self._epoch()
    self._miners[msg.sender].life_epoch = epoch
    extcall Consensus(CONSENSUS).wake(self._miners[msg.sender].place - 1)
    log Woken(miner=msg.sender, epoch=epoch)

@external
def claim():
    """
    @notice Pay what the sender was owed and could not take.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "MinerRegistry: nothing is owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)

# ---------------------------------------------------------------- for Consensus and the Court

@external
def slash(miner: address, prover: address):
    """
    @notice Take everything from a miner and put it in jail. Never fails for Consensus.
    @param prover Gets the half that is not burned; an odd wei is burned.
    """
    assert msg.sender == CONSENSUS, "MinerRegistry: only Consensus slashes"
    if self._miners[miner].bls_head == empty(bytes32):
        return
    epoch: uint256 = self._epoch()
    taken: uint256 = self._miners[miner].bond + self._miners[miner].unbonding
    self._miners[miner].bond = 0
    self._miners[miner].unbonding = 0
    # The place stays taken for as long as an unbonding would have lasted.
    self._miners[miner].free_epoch = epoch + UNBONDING_EPOCHS
    times: uint256 = self._miners[miner].times
    self._miners[miner].times = max(times & LOW_128, epoch + JAIL_EPOCHS) | (times & ~LOW_128)
    self._miners[miner].slashed = epoch + 1
    self._fit_capacity(miner)
    self._divide(miner, True, taken, empty(address), 0, prover)

@external
def penalise(miner: address, penalty: uint256, wronged: address, loss: uint256, prover: address) -> uint256:
    """
    @notice Take up to a penalty from a miner, first from what counts, then from what is leaving.
    @param penalty Wei, at most.
    @param wronged Is made whole first, from the half that is not burned.
    @param loss What that takes, wei.
    @param prover Gets the rest.
    @return What was taken.
    """
    assert msg.sender == COURT, "MinerRegistry: only the Court penalises"
    bond: uint256 = self._miners[miner].bond
    unbonding: uint256 = self._miners[miner].unbonding
    taken: uint256 = min(penalty, bond + unbonding)
    from_bond: uint256 = min(taken, bond)
    self._miners[miner].bond = bond - from_bond
    self._miners[miner].unbonding = unbonding - (taken - from_bond)
    if bond > 0 and from_bond == bond:
        # Without any bond the place becomes free, but not before its weight is forgotten.
        self._miners[miner].free_epoch = self._epoch() + UNBONDING_EPOCHS
    self._fit_capacity(miner)
    self._divide(miner, False, taken, wronged, loss, prover)
    return taken

@external
def hold(miner: address):
    """
    @notice The Court has opened a case: nothing is withdrawn until it is closed.
    """
    assert msg.sender == COURT, "MinerRegistry: only the Court holds bonds"
    self._miners[miner].holds += 1

@external
def unhold(miner: address):
    """
    @notice The Court has closed a case.
    """
    assert msg.sender == COURT, "MinerRegistry: only the Court holds bonds"
    self._miners[miner].holds -= 1

# ---------------------------------------------------------------- what anybody may ask

@external
@view
def miner(who: address) -> Miner:
    """
    @notice A miner's record; `place` is 0 for one that is not registered.
    """
    record: Record = self._miners[who]
    return Miner(
        place=record.place,
        bls_head=record.bls_head,
        bls_tail=record.bls_tail,
        bond=record.bond,
        unbonding=record.unbonding,
        free_epoch=record.free_epoch,
        capacity=record.capacity,
        ask_price=record.ask_price,
        life_epoch=record.life_epoch,
        jailed_until=record.times & LOW_128,
        slashed=record.slashed,
        changed=record.times >> 128,
        holds=record.holds,
        peer_id=record.peer_id,
    )

@external
@view
def terms(who: address) -> Drawn:
    """
    @notice What a draw of this miner would say; who is not registered is not eligible.
    """
    return self._offer(who)

@external
@view
def miner_at(index: uint256) -> address:
    """
    @notice The miner with an index; the zero address where there is none.
    """
    return self._at[index]

@external
@view
def count() -> uint256:
    """
    @notice Miners that are registered.
    """
    return self.indices - self._free_count

@external
@view
def rows(first: uint256, number: uint256) -> DynArray[Row, PAGE]:
    """
    @notice What consensus reads of the miners with an index from `first` on; of a free index a row of zeros.
    """
    found: DynArray[Row, PAGE] = []
    for i: uint256 in range(number, bound=PAGE):
        miner: address = self._at[first + i]
        if miner == empty(address):
            found.append(empty(Row))
            continue
        found.append(
            Row(
                miner=miner,
                bls_head=self._miners[miner].bls_head,
                bls_tail=self._miners[miner].bls_tail,
                bond=self._miners[miner].bond,
                life_epoch=self._miners[miner].life_epoch,
                jailed_until=self._miners[miner].times & LOW_128,
                slashed=self._miners[miner].slashed,
            )
        )
    return found

@external
@view
def total_capacity() -> uint256:
    """
    @notice Capacity of all miners, fuel per epoch.
    """
    return self._tree[SIZE] & LOW_96

@external
@view
def capacity_before(index: uint256) -> uint256:
    """
    @notice Capacity of the miners with a lower index.
    """
    assert index <= SIZE, "MinerRegistry: no such index"
    total: uint256 = 0
    i: uint256 = index
    for level: uint256 in range(LEVELS):
        if i == 0:
            break
        total += self._tree[i] & LOW_96
        i &= i - 1
    return total

@external
@view
def draw(seed: bytes32) -> Drawn:
    """
    @notice The miner that a seed names, each as likely as its share of the capacity with which this epoch began. One that has
            changed its terms since then is not eligible.
    """
    epoch: uint256 = self._epoch()
    total: uint256 = self._at_start_of(epoch, self._tree[SIZE])
    assert total > 0, "MinerRegistry: no capacity to draw from"
    target: uint256 = convert(seed, uint256) % total
    given: uint256 = self.indices
    index: uint256 = 0
    step: uint256 = SIZE // 2
    for level: uint256 in range(LEVELS - 1):
        # From the first index on that was never given there is no capacity: nothing to read.
        if index + step < given:
            before: uint256 = self._at_start_of(epoch, self._tree[index + step])
            if before <= target:
                target -= before
                index += step
        step = step >> 1
    drawn: Drawn = self._offer(self._at[index])
    drawn.eligible = drawn.eligible and self._miners[drawn.miner].times >> 128 <= epoch
    return drawn

# ---------------------------------------------------------------- inside

@internal
@view
def _epoch() -> uint256:
    return (block.timestamp - GENESIS_SECONDS) // EPOCH_SECONDS

@internal
@pure
def _at_start_of(epoch: uint256, node: uint256) -> uint256:
    if node >> 192 > epoch:
        return (node >> 96) & LOW_96
    return node & LOW_96

@internal
@view
def _offer(miner: address) -> Drawn:
    return Drawn(
        miner=miner,
        ask_price=self._miners[miner].ask_price,
        eligible=(
            self._miners[miner].bond >= BOND_MIN and self._epoch() >= self._miners[miner].times & LOW_128
        ),
    )

@internal
@view
def _require_registered(miner: address):
    assert self._miners[miner].place != 0, "MinerRegistry: not registered"

@internal
@view
def _check_possession(bls_key: Bytes[48], proof: Bytes[96]):
    message: Bytes[111] = concat(
        b"noria/pop/1", staticcall Consensus(CONSENSUS).genesis_root(), convert(msg.sender, bytes20), bls_key
    )
    answer: Bytes[32] = raw_call(
        BLS_VERIFY, concat(bls_key, proof, message), max_outsize=32, is_static_call=True
    )
    assert convert(answer, uint256) == 1, "MinerRegistry: the key's proof of possession is wrong"

@internal
def _take_index() -> uint256:
    free: uint256 = self._free_count
    taken: uint256 = self.indices
    assert taken - free < MINERS_MAX, "MinerRegistry: as many miners as there may be"
    if free > 0:
        self._free_count = free - 1
        return self._free[free - 1]
    self.indices = taken + 1
    return taken

@internal
def _set_terms(miner: address, epoch: uint256, peer_id: Bytes[64], capacity: uint256, ask_price: uint256):
    assert len(peer_id) > 0, "MinerRegistry: no peer id"
    assert capacity <= self._cover(self._miners[miner].bond), "MinerRegistry: the bond does not cover the capacity"
    self._miners[miner].peer_id = peer_id
    self._miners[miner].ask_price = ask_price
    self._miners[miner].times = (self._miners[miner].times & LOW_128) | ((epoch + 1) << 128)
    self._set_capacity(miner, capacity)
    log Updated(miner=miner, capacity=capacity, ask_price=ask_price)

@internal
@view
def _cover(bond: uint256) -> uint256:
    if bond < BOND_MIN:
        return 0
    return bond // BOND_PER_CAPACITY

@internal
def _fit_capacity(miner: address):
    # No more capacity than the bond that is left covers.
    covered: uint256 = self._cover(self._miners[miner].bond)
    if self._miners[miner].capacity > covered:
        self._set_capacity(miner, covered)

@internal
def _set_capacity(miner: address, capacity: uint256):
    old: uint256 = self._miners[miner].capacity
    if old == capacity:
        return
    self._miners[miner].capacity = capacity
    epoch: uint256 = self._epoch()
    i: uint256 = self._miners[miner].place
    for level: uint256 in range(LEVELS):
        if i > SIZE:
            break
        node: uint256 = self._tree[i]
        now: uint256 = (node & LOW_96) - old + capacity
        assert now <= LOW_96, "MinerRegistry: a sum of capacities has 96 bits"
        self._tree[i] = now | (self._at_start_of(epoch, node) << 96) | ((epoch + 1) << 192)
        i += i & (~i + 1)

@internal
def _divide(miner: address, full: bool, taken: uint256, wronged: address, loss: uint256, prover: address):
    burned: uint256 = taken - taken // 2
    whole: uint256 = min(taken // 2, loss)
    if burned > 0:
        raw_call(BURNED, b"", value=burned)
    self._pay(wronged, whole)
    self._pay(prover, taken // 2 - whole)
    log Slashed(miner=miner, full=full, taken=taken, burned=burned, wronged=whole)
    self._log_bond(miner)

@internal
def _pay(recipient: address, amount: uint256):
    # With the stipend alone: whoever refuses, or wants to do more, calls `claim`.
    if amount == 0:
        return
    if not raw_call(recipient, b"", value=amount, gas=0, revert_on_failure=False):
        self.owed[recipient] += amount

@internal
def _log_bond(miner: address):
    log BondChanged(
        miner=miner,
        bond=self._miners[miner].bond,
        unbonding=self._miners[miner].unbonding,
        free_epoch=self._miners[miner].free_epoch,
    )
