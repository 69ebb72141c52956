# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title WorkLedger
@license Apache-2.0
@notice Useful work, paid for and accepted: per miner a list of credited batches that is only ever appended to.
@dev Line i of a miner's list is a batch's root and, in one word, its epoch and the miner's cumulative credit
     up to and with it. A second list holds the cumulative credit at the end of each epoch that credited something, so
     that the credit of a window is found in few steps however long the first list is.
"""

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

struct Stored:
    miner: address
    job: uint256
    # known | voided | genesis (a bit each, at 242, 241, 240), k (32 bits), first_index (64), count (16), fuel (64),
    # weight (64)
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
    root: indexed(bytes32)

event FloorChanged:
    epoch: uint256
    floor_price: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
SETTLEMENT: constant(address) = 0x4E6F726961000000000000000000000000000005
COURT: constant(address) = 0x4e6f726961000000000000000000000000000006

BASIS_POINTS: constant(uint256) = 10_000
FLOOR_STEP: constant(uint256) = 8
BATCH_RECEIPTS_MAX: constant(uint256) = 4096
PAGE: constant(uint256) = 256
KNOWN: constant(uint256) = 1 << 242
VOIDED: constant(uint256) = 1 << 241
GENESIS: constant(uint256) = 1 << 240
LOW_128: constant(uint256) = 2**128 - 1

GENESIS_SECONDS: immutable(uint256)
EPOCH_SECONDS: immutable(uint256)
WINDOW_EPOCHS: immutable(uint256)
FEE_BASIS_POINTS: immutable(uint256)
FLOOR_MIN: immutable(uint256)

# Price of a fuel in wei for which fees count as paid.
floor_price: public(uint256)

entry_count: public(HashMap[address, uint256])
_roots: HashMap[address, HashMap[uint256, bytes32]]
_marks: HashMap[address, HashMap[uint256, uint256]]
_epoch_count: HashMap[address, uint256]
_epoch_marks: HashMap[address, HashMap[uint256, uint256]]

_batches: HashMap[bytes32, Stored]

_sum_count: uint256
_sums: HashMap[uint256, Sums]

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
def credit(
    miner: address, job: uint256, k: uint32, first_index: uint64, count: uint16, root: bytes32, fuel: uint64,
    weight: uint64, price: uint256, fee: uint256,
) -> uint256:
    """
    @notice Credit a settled batch: no more than the protocol fee paid for it backs.
    @param price What was paid for the batch, wei.
    @param fee The protocol's part of that, wei.
    @return The credit; with none, nothing is written.
    """
    assert msg.sender == SETTLEMENT, "WorkLedger: only Settlement credits"
    assert 0 < count and convert(count, uint256) <= BATCH_RECEIPTS_MAX, "WorkLedger: a batch has 1 to 4096 receipts"
    assert weight <= fuel, "WorkLedger: a batch weighs no more than its fuel"
    assert self._batches[root].numbers == 0, "WorkLedger: credited already"
    backed: uint256 = fee * BASIS_POINTS // (FEE_BASIS_POINTS * self.floor_price)
    credited: uint256 = min(convert(weight, uint256), backed)
    if credited == 0:
        return 0
    epoch: uint256 = self._epoch()
    self._batches[root] = Stored(
        miner=miner,
        job=job,
        numbers=(
            KNOWN
            | (convert(k, uint256) << 208)
            | (convert(first_index, uint256) << 144)
            | (convert(count, uint256) << 128)
            | (convert(fuel, uint256) << 64)
            | convert(weight, uint256)
        ),
    )
    cumulative: uint256 = self._append(miner, root, epoch, credited)
    self._add_sums(epoch, price, credited)
    log Credited(miner=miner, root=root, credit=credited, cumulative=cumulative)
    return credited

@external
def void(root: bytes32):
    """
    @notice The Court has found the batch wrong. The list is not edited.
    """
    assert msg.sender == COURT, "WorkLedger: only the Court voids"
    numbers: uint256 = self._batches[root].numbers
    assert numbers != 0, "WorkLedger: no such batch"
    self._batches[root].numbers = numbers | VOIDED
    log Voided(root=root)

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
def batch(root: bytes32) -> Batch:
    """
    @notice A credited batch's commitment; `known` is false for others.
    """
    stored: Stored = self._batches[root]
    numbers: uint256 = stored.numbers
    return Batch(
        miner=stored.miner,
        job=stored.job,
        k=(numbers >> 208) & (2**32 - 1),
        first_index=(numbers >> 144) & (2**64 - 1),
        count=(numbers >> 128) & (2**16 - 1),
        fuel=(numbers >> 64) & (2**64 - 1),
        weight=numbers & (2**64 - 1),
        genesis=numbers & GENESIS != 0,
        voided=numbers & VOIDED != 0,
        known=numbers != 0,
    )

@external
@view
def entries(miner: address, first: uint256, number: uint256) -> DynArray[Entry, PAGE]:
    """
    @notice Lines of a miner's list, up to its end.
    """
    count: uint256 = self.entry_count[miner]
    found: DynArray[Entry, PAGE] = []
    for i: uint256 in range(number, bound=PAGE):
        if first + i >= count:
            break
        mark: uint256 = self._marks[miner][first + i]
        found.append(Entry(root=self._roots[miner][first + i], epoch=mark >> 128, cumulative=mark & LOW_128))
    return found

@external
@view
def locate(miner: address, position: uint256) -> Located:
    """
    @notice The line that holds a position in a miner's cumulative credit.
    """
    low: uint256 = 0
    high: uint256 = self.entry_count[miner]
    count: uint256 = high
    for _step: uint256 in range(256):
        if low >= high:
            break
        middle: uint256 = (low + high) // 2
        if self._marks[miner][middle] & LOW_128 > position:
            high = middle
        else:
            low = middle + 1
    assert low < count, "WorkLedger: no credit at this position"
    before: uint256 = 0
    if low > 0:
        before = self._marks[miner][low - 1] & LOW_128
    mark: uint256 = self._marks[miner][low]
    return Located(
        line=low, root=self._roots[miner][low], epoch=mark >> 128, before=before, cumulative=mark & LOW_128
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
def _append(miner: address, root: bytes32, epoch: uint256, credited: uint256) -> uint256:
    line: uint256 = self.entry_count[miner]
    cumulative: uint256 = credited
    if line > 0:
        cumulative += self._marks[miner][line - 1] & LOW_128
    assert cumulative <= LOW_128, "WorkLedger: too much credit"
    mark: uint256 = (epoch << 128) | cumulative
    self._roots[miner][line] = root
    self._marks[miner][line] = mark
    self.entry_count[miner] = line + 1
    epochs: uint256 = self._epoch_count[miner]
    if epochs > 0 and self._epoch_marks[miner][epochs - 1] >> 128 == epoch:
        self._epoch_marks[miner][epochs - 1] = mark
    else:
        self._epoch_marks[miner][epochs] = mark
        self._epoch_count[miner] = epochs + 1
    return cumulative

@internal
def _add_sums(epoch: uint256, price: uint256, credited: uint256):
    count: uint256 = self._sum_count
    sums: Sums = empty(Sums)
    if count > 0:
        sums = self._sums[count - 1]
    if count == 0 or sums.epoch != epoch:
        sums.epoch = epoch
        count += 1
        self._sum_count = count
    sums.paid += price
    sums.credit += credited
    self._sums[count - 1] = sums

@internal
@view
def _credit_until(miner: address, epoch: uint256) -> uint256:
    low: uint256 = 0
    high: uint256 = self._epoch_count[miner]
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
        if self._sums[middle].epoch > epoch:
            high = middle
        else:
            low = middle + 1
    if low == 0:
        return empty(Sums)
    return self._sums[low - 1]
