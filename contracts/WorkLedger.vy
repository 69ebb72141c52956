# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title WorkLedger
@license Apache-2.0
@notice Useful work, paid for and accepted: per miner a list of credited batches that is only ever appended to.
@dev Line i of a miner's list is a batch's root and a mark: its epoch and the miner's cumulative credit up to and with
     it, two marks to a word. A second list holds the cumulative credit at the end of each epoch that credited
     something, so that the credit of a window is found in few steps however long the first list is. What a batch has
     committed to is known by Settlement; only that of genesis work is here.
"""

# A batch as Settlement knows it.
struct Settled:
    job: uint256
    k: uint256
    first_index: uint256
    count: uint256
    fuel: uint256
    weight: uint256
    block: uint256
    paid: bool
    credited: bool
    voided: bool

interface Settlement:
    def batch(miner: address, root: bytes32) -> Settled: view
    def void(miner: address, root: bytes32): nonpayable

# A batch to be credited: its weight, and in wei what was paid for it and the protocol's part of that.
struct Item:
    root: bytes32
    weight: uint256
    price: uint256
    fee: uint256

struct Entry:
    root: bytes32
    epoch: uint256
    cumulative: uint256

# A credited batch's commitment.
struct Batch:
    miner: address
    job: uint256
    k: uint256
    first_index: uint256
    count: uint256
    fuel: uint256
    weight: uint256
    # Credited at genesis: its receipts carry the chain's origin instead of its genesis root.
    genesis: bool
    # Found wrong by the Court: it keeps its place, but a draw that hits it fails.
    voided: bool
    known: bool

# Genesis work.
struct Stored:
    miner: address
    job: uint256
    # known | voided (a bit each, at 241, 240), k (32 bits), first_index (64), count (16), fuel (64), weight (64)
    numbers: uint256

# Cumulative credit before and at the end of a window.
struct Window:
    lo: uint256
    hi: uint256

# Where in a miner's list a position in its cumulative credit lies.
struct Located:
    line: uint256
    root: bytes32
    epoch: uint256
    before: uint256
    cumulative: uint256

# Sums over all batches credited for a fee, up to and with an epoch.
struct Sums:
    epoch: uint256
    paid: uint256
    credit: uint256

event Credited:
    miner: indexed(address)
    root: indexed(bytes32)
    credit: uint256
    cumulative: uint256

event Voided:
    miner: indexed(address)
    root: indexed(bytes32)

event FloorChanged:
    epoch: uint256
    floor_price: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
SETTLEMENT: constant(address) = 0x4E6F726961000000000000000000000000000005
COURT: constant(address) = 0x4e6f726961000000000000000000000000000006

BASIS_POINTS: constant(uint256) = 10_000
FLOOR_STEP: constant(uint256) = 8
LIST_MAX: constant(uint256) = 64
PAGE: constant(uint256) = 256
KNOWN: constant(uint256) = 1 << 241
VOIDED: constant(uint256) = 1 << 240
LOW_128: constant(uint256) = 2**128 - 1
LOW_96: constant(uint256) = 2**96 - 1
LOW_64: constant(uint256) = 2**64 - 1

GENESIS_SECONDS: immutable(uint256)
EPOCH_SECONDS: immutable(uint256)
WINDOW_EPOCHS: immutable(uint256)
FEE_BASIS_POINTS: immutable(uint256)
FLOOR_MIN: immutable(uint256)

# Price of a fuel in wei for which fees count as paid.
floor_price: public(uint256)

# last epoch (32 bits) | cumulative credit (96) | length of the second list (64) | length of the first (64)
_heads: HashMap[address, uint256]
_roots: HashMap[address, HashMap[uint256, bytes32]]
# Of lines 2 n + 1 | 2 n: epoch (32) | cumulative (96) each.
_marks: HashMap[address, HashMap[uint256, uint256]]
# epoch (128) | cumulative (128)
_epoch_marks: HashMap[address, HashMap[uint256, uint256]]

_genesis: HashMap[bytes32, Stored]

_sum_count: uint256
# epoch (32) | paid (128) | credit (96)
_sums: HashMap[uint256, uint256]

@deploy
def __init__(
    genesis_seconds: uint256, epoch_seconds: uint256, window_epochs: uint256, fee_basis_points: uint256,
    floor_min: uint256,
):
    GENESIS_SECONDS = genesis_seconds
    EPOCH_SECONDS = epoch_seconds
    WINDOW_EPOCHS = window_epochs
    FEE_BASIS_POINTS = fee_basis_points
    FLOOR_MIN = floor_min
    self.floor_price = floor_min

# ---------------------------------------------------------------- for the other contracts

@external
def credit(miner: address, items: DynArray[Item, LIST_MAX]) -> DynArray[uint256, LIST_MAX]:
    """
    @notice Credit settled batches of a miner, each once: no more than the protocol fee paid for it backs.
    @return The credit of each; with none, nothing is written.
    """
    assert msg.sender == SETTLEMENT, "WorkLedger: only Settlement credits"
    backing: uint256 = FEE_BASIS_POINTS * self.floor_price
    epoch: uint256 = self._epoch()
    head: uint256 = self._heads[miner]
    before: uint256 = head & LOW_64
    line: uint256 = before
    cumulative: uint256 = (head >> 128) & LOW_96
    pair: uint256 = 0
    if line % 2 == 1:
        pair = self._marks[miner][line // 2]
    paid: uint256 = 0
    start: uint256 = cumulative
    credits: DynArray[uint256, LIST_MAX] = []
    for item: Item in items:
        credited: uint256 = min(item.weight, item.fee * BASIS_POINTS // backing)
        credits.append(credited)
        if credited == 0:
            continue
        cumulative += credited
        paid += item.price
        self._roots[miner][line] = item.root
        if line % 2 == 0:
            pair = (epoch << 96) | cumulative
        else:
            self._marks[miner][line // 2] = pair | (((epoch << 96) | cumulative) << 128)
        line += 1
        log Credited(miner=miner, root=item.root, credit=credited, cumulative=cumulative)
    if line == before:
        return credits
    assert cumulative <= LOW_96, "WorkLedger: too much credit"
    if line % 2 == 1:
        self._marks[miner][line // 2] = pair
    epochs: uint256 = (head >> 64) & LOW_64
    if epochs == 0 or head >> 224 != epoch:
        epochs += 1
    self._epoch_marks[miner][epochs - 1] = (epoch << 128) | cumulative
    self._heads[miner] = line | (epochs << 64) | (cumulative << 128) | (epoch << 224)
    self._add_sums(epoch, paid, cumulative - start)
    return credits

@external
def void(miner: address, root: bytes32):
    """
    @notice The Court has found a credited batch wrong. The list is not edited.
    """
    assert msg.sender == COURT, "WorkLedger: only the Court voids"
    stored: Stored = self._genesis[root]
    if stored.numbers != 0 and stored.miner == miner:
        self._genesis[root].numbers = stored.numbers | VOIDED
    else:
        # It knows the batch, or refuses.
        extcall Settlement(SETTLEMENT).void(miner, root)
    log Voided(miner=miner, root=root)

@external
def begin_epoch(epoch: uint256):
    """
    @notice Consensus tells that the first block of an epoch has begun: the floor price takes a step of at most an
            eighth towards half of the mean price in the window.
    """
    assert msg.sender == CONSENSUS, "WorkLedger: only Consensus begins an epoch"
    last: uint256 = max(epoch, 2) - 2
    until: Sums = self._sums_until(last)
    if last >= WINDOW_EPOCHS:
        before: Sums = self._sums_until(last - WINDOW_EPOCHS)
        until.paid -= before.paid
        until.credit -= before.credit
    goal: uint256 = 0
    if until.credit > 0:
        goal = until.paid // (2 * until.credit)
    old: uint256 = self.floor_price
    step: uint256 = old // FLOOR_STEP
    new: uint256 = max(FLOOR_MIN, min(max(goal, old - step), old + step))
    if new != old:
        self.floor_price = new
        log FloorChanged(epoch=epoch, floor_price=new)

# ---------------------------------------------------------------- what anybody may ask

@external
@view
def batch(miner: address, root: bytes32) -> Batch:
    """
    @notice The commitment of a batch credited to a miner; `known` is false for others.
    """
    stored: Stored = self._genesis[root]
    numbers: uint256 = stored.numbers
    if numbers != 0 and stored.miner == miner:
        return Batch(
            miner=miner,
            job=stored.job,
            k=(numbers >> 208) & (2**32 - 1),
            first_index=(numbers >> 144) & LOW_64,
            count=(numbers >> 128) & (2**16 - 1),
            fuel=(numbers >> 64) & LOW_64,
            weight=numbers & LOW_64,
            genesis=True,
            voided=numbers & VOIDED != 0,
            known=True,
        )
    settled: Settled = staticcall Settlement(SETTLEMENT).batch(miner, root)
    if not settled.credited:
        return empty(Batch)
    return Batch(
        miner=miner,
        job=settled.job,
        k=settled.k,
        first_index=settled.first_index,
        count=settled.count,
        fuel=settled.fuel,
        weight=settled.weight,
        genesis=False,
        voided=settled.voided,
        known=True,
    )

@external
@view
def entry_count(miner: address) -> uint256:
    """
    @notice Length of a miner's list.
    """
    return self._heads[miner] & LOW_64

@external
@view
def entries(miner: address, first: uint256, number: uint256) -> DynArray[Entry, PAGE]:
    """
    @notice Lines of a miner's list, up to its end.
    """
    count: uint256 = self._heads[miner] & LOW_64
    found: DynArray[Entry, PAGE] = []
    for i: uint256 in range(number, bound=PAGE):
        if first + i >= count:
            break
        mark: uint256 = self._mark(miner, first + i)
        found.append(Entry(root=self._roots[miner][first + i], epoch=mark >> 96, cumulative=mark & LOW_96))
    return found

@external
@view
def locate(miner: address, position: uint256) -> Located:
    """
    @notice The line that holds a position in a miner's cumulative credit.
    """
    low: uint256 = 0
    high: uint256 = self._heads[miner] & LOW_64
    count: uint256 = high
    for _step: uint256 in range(256):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self._mark(miner, middle) & LOW_96 > position:
            high = middle
        else:
            low = middle + 1
    assert low < count, "WorkLedger: no credit at this position"
    before: uint256 = 0
    if low > 0:
        before = self._mark(miner, low - 1) & LOW_96
    mark: uint256 = self._mark(miner, low)
    return Located(
        line=low, root=self._roots[miner][low], epoch=mark >> 96, before=before, cumulative=mark & LOW_96
    )

@external
@view
def windows(miners: DynArray[address, PAGE], first: uint256, last: uint256) -> DynArray[Window, PAGE]:
    """
    @notice Cumulative credit of miners before epoch `first` and at the end of epoch `last`.
    """
    found: DynArray[Window, PAGE] = []
    for miner: address in miners:
        lo: uint256 = 0
        if first > 0:
            lo = self._credit_until(miner, first - 1)
        found.append(Window(lo=lo, hi=self._credit_until(miner, last)))
    return found

@external
@view
def credits_until(miners: DynArray[address, PAGE], epochs: DynArray[uint256, PAGE]) -> DynArray[uint256, PAGE]:
    """
    @notice Cumulative credit of miners at the end of an epoch each.
    """
    found: DynArray[uint256, PAGE] = []
    for i: uint256 in range(len(miners), bound=PAGE):
        found.append(self._credit_until(miners[i], epochs[i]))
    return found

@external
@view
def sums(last: uint256) -> Sums:
    """
    @notice Price and credit of all batches credited for a fee up to and with an epoch.
    """
    return self._sums_until(last)

# ---------------------------------------------------------------- inside

@internal
@view
def _epoch() -> uint256:
    return (block.timestamp - GENESIS_SECONDS) // EPOCH_SECONDS

@internal
@view
def _mark(miner: address, line: uint256) -> uint256:
    return (self._marks[miner][line // 2] >> (128 * (line % 2))) & LOW_128

@internal
def _add_sums(epoch: uint256, price: uint256, credited: uint256):
    count: uint256 = self._sum_count
    sums: Sums = empty(Sums)
    if count > 0:
        sums = self._sums_at(count - 1)
    if count == 0 or sums.epoch != epoch:
        count += 1
        self._sum_count = count
    paid: uint256 = sums.paid + price
    credit: uint256 = sums.credit + credited
    assert paid <= LOW_128 and credit <= LOW_96, "WorkLedger: too much credit"
    self._sums[count - 1] = (epoch << 224) | (paid << 96) | credit

@internal
@view
def _sums_at(line: uint256) -> Sums:
    word: uint256 = self._sums[line]
    return Sums(epoch=word >> 224, paid=(word >> 96) & LOW_128, credit=word & LOW_96)

@internal
@view
def _credit_until(miner: address, epoch: uint256) -> uint256:
    low: uint256 = 0
    high: uint256 = (self._heads[miner] >> 64) & LOW_64
    for _step: uint256 in range(256):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self._epoch_marks[miner][middle] >> 128 > epoch:
            high = middle
        else:
            low = middle + 1
    if low == 0:
        return 0
    return self._epoch_marks[miner][low - 1] & LOW_128

@internal
@view
def _sums_until(epoch: uint256) -> Sums:
    low: uint256 = 0
    high: uint256 = self._sum_count
    for _step: uint256 in range(256):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self._sums[middle] >> 224 > epoch:
            high = middle
        else:
            low = middle + 1
    if low == 0:
        return empty(Sums)
    return self._sums_at(low - 1)
