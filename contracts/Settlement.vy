# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Settlement
@license Apache-2.0
@notice Batches of receipts: committed by miners, approved by requesters or finalised by time, paid, and credited.
@dev A batch is one word under its miner and root: nobody who copies a root from a waiting transaction can keep its
     miner from committing it. Its receipts have the indices that follow those of the place's last batch, so none is
     in two batches.

     No wei stay here but those that somebody could not take: `owed` is the balance.
"""

struct Hired:
    miner: address
    price: uint256
    developer: address
    royalty: uint256
    requester: address
    session_key: address
    creditable: bool

struct Item:
    root: bytes32
    weight: uint256
    price: uint256
    fee: uint256

interface Consensus:
    def genesis_root() -> bytes32: view

interface JobMarket:
    def reserve(
        job: uint256, k: uint256, miner: address, fuel: uint256, count: uint256, total: uint256
    ) -> (uint256, Hired): nonpayable
    def withdraw(amount: uint256): nonpayable
    def hired(job: uint256, k: uint256) -> Hired: view

interface WorkLedger:
    def credit(miner: address, items: DynArray[Item, LIST_MAX]) -> DynArray[uint256, LIST_MAX]: nonpayable

interface RewardPool:
    def feed(): payable

struct Batch:
    job: uint256
    k: uint256
    first_index: uint256
    # 0 where there is no such batch.
    count: uint256
    fuel: uint256
    weight: uint256
    # In which it was committed.
    block: uint256
    paid: bool
    credited: bool
    voided: bool

# EIP-2098: the parity of R's y lies above s.
struct CompactSignature:
    r: uint256
    vs: uint256

# What batches of one place bring, before any fee, and the fees.
struct Due:
    batches: uint256
    fuel: uint256
    miner_fee: uint256
    developer_fee: uint256

event Committed:
    job: indexed(uint256)
    miner: indexed(address)
    k: uint256
    root: bytes32
    first_index: uint256
    count: uint256
    fuel: uint256
    weight: uint256

event Paid:
    job: indexed(uint256)
    k: uint256
    root: bytes32
    amount: uint256

event Settled:
    job: indexed(uint256)
    k: uint256
    miner_wei: uint256
    developer_wei: uint256
    fee: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
WORK_LEDGER: constant(address) = 0x4E6f726961000000000000000000000000000003
JOB_MARKET: constant(address) = 0x4e6F726961000000000000000000000000000004
REWARD_POOL: constant(address) = 0x4E6f726961000000000000000000000000000008

# EIP-712.
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
NAME: constant(bytes32) = keccak256("Noria")
VERSION: constant(bytes32) = keccak256("1")
ALLOW_TYPE: constant(bytes32) = keccak256("Allow(uint256 job,uint32 k,uint256 total)")
APPROVAL_TYPE: constant(bytes32) = keccak256(
    "Approval(uint256 job,uint32 k,bytes32 root,uint64 first_index,uint16 count,uint64 fuel,uint64 weight)"
)
# A signature whose s is above half of the group's order has a twin below, which alone is taken.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

LOW_255: constant(uint256) = 2**255 - 1

BASIS_POINTS: constant(uint256) = 10_000
BATCH_RECEIPTS_MAX: constant(uint256) = 4096
LIST_MAX: constant(uint256) = 64

# Where the parts of a batch's word lie: job (40 bits), k (12), first index (44), count (13), fuel (56), weight (56),
# block (32).
PLACE_BITS: constant(uint256) = 2**52 - 1
K_AT: constant(uint256) = 40
INDEX_AT: constant(uint256) = 52
COUNT_AT: constant(uint256) = 96
FUEL_AT: constant(uint256) = 109
WEIGHT_AT: constant(uint256) = 165
BLOCK_AT: constant(uint256) = 221
INDEX_MAX: constant(uint256) = 2**44 - 1
COUNT_MAX: constant(uint256) = 2**13 - 1
FUEL_MAX: constant(uint256) = 2**56 - 1
PAID: constant(uint256) = 1 << 253
CREDITED: constant(uint256) = 1 << 254
VOIDED: constant(uint256) = 1 << 255

CHALLENGE_BLOCKS: immutable(uint256)
FEE_BASIS_POINTS: immutable(uint256)

_batches: HashMap[address, HashMap[bytes32, uint256]]

# The domain separator, once it has been needed: the genesis root never changes after the first block.
_separator: bytes32

# Wei that could not be paid because the recipient refused them.
owed: public(HashMap[address, uint256])

@deploy
def __init__(challenge_blocks: uint256, fee_basis_points: uint256):
    CHALLENGE_BLOCKS = challenge_blocks
    FEE_BASIS_POINTS = fee_basis_points

@external
@payable
def __default__():
    """
    @notice Takes what JobMarket hands over, and nothing else.
    """
    assert msg.sender == JOB_MARKET, "Settlement: only JobMarket pays in"

# ---------------------------------------------------------------- for miners

@external
def commit(
    job: uint256, k: uint256, root: bytes32, fuel: uint256, weight: uint256, count: uint256, total: uint256,
    allow: Bytes[65],
):
    """
    @notice Commit a batch against an allow. It is paid once it is approved, or after T_CHALLENGE blocks.
    @param root Root of the sum tree over the receipts; `fuel` and `weight` are its sums.
    @param count Receipts, 1 to 4096; the first has the place's next index.
    @param total What the place may charge altogether, wei, as the allow says.
    @param allow Signature of `Allow(job, k, total)`.
    """
    first_index: uint256 = 0
    hired: Hired = empty(Hired)
    first_index, hired = self._reserve(job, k, root, fuel, weight, count, total)
    self._require_signed(
        keccak256(abi_encode(ALLOW_TYPE, job, k, total)),
        self._domain(),
        allow,
        hired.session_key,
        hired.requester,
    )
    self._store(job, k, root, first_index, count, fuel, weight, 0)

@external
def commit_approved(
    job: uint256, k: uint256, root: bytes32, fuel: uint256, weight: uint256, count: uint256, approval: Bytes[65]
):
    """
    @notice Commit a batch that the requester has approved, and be paid at once.
    @param approval Signature of `Approval(job, k, root, first_index, count, fuel, weight)`.
    """
    first_index: uint256 = 0
    hired: Hired = empty(Hired)
    first_index, hired = self._reserve(job, k, root, fuel, weight, count, max_value(uint256))
    self._require_signed(
        keccak256(abi_encode(APPROVAL_TYPE, job, k, root, first_index, count, fuel, weight)),
        self._domain(),
        approval,
        hired.session_key,
        hired.requester,
    )
    self._store(job, k, root, first_index, count, fuel, weight, PAID)
    self._pay_out(job, k, hired, self._due(job, k, root, fuel, hired.price, hired.royalty, empty(Due)))

# ---------------------------------------------------------------- for anybody

@external
def approve(
    job: uint256, k: uint256, roots: DynArray[bytes32, LIST_MAX], approvals: DynArray[CompactSignature, LIST_MAX]
):
    """
    @notice Have batches of a place paid that their requester has approved. Those paid already are passed over.
    """
    assert len(roots) == len(approvals), "Settlement: not one approval for each batch"
    hired: Hired = staticcall JobMarket(JOB_MARKET).hired(job, k)
    domain: bytes32 = self._domain()
    due: Due = empty(Due)
    for i: uint256 in range(len(roots), bound=LIST_MAX):
        root: bytes32 = roots[i]
        word: uint256 = self._require_batch(job, k, hired.miner, root)
        if word & PAID != 0:
            continue
        fuel: uint256 = (word >> FUEL_AT) & FUEL_MAX
        self._require_signer(
            keccak256(
                abi_encode(
                    APPROVAL_TYPE,
                    job,
                    k,
                    root,
                    (word >> INDEX_AT) & INDEX_MAX,
                    (word >> COUNT_AT) & COUNT_MAX,
                    fuel,
                    (word >> WEIGHT_AT) & FUEL_MAX,
                )
            ),
            domain,
            approvals[i].r,
            approvals[i].vs & LOW_255,
            27 + (approvals[i].vs >> 255),
            hired.session_key,
            hired.requester,
        )
        self._batches[hired.miner][root] = word | PAID
        due = self._due(job, k, root, fuel, hired.price, hired.royalty, due)
    self._pay_out(job, k, hired, due)

@external
def finalize(job: uint256, k: uint256, roots: DynArray[bytes32, LIST_MAX]):
    """
    @notice Have batches of a place paid, T_CHALLENGE blocks after they were committed. Those paid already are passed
            over.
    """
    hired: Hired = staticcall JobMarket(JOB_MARKET).hired(job, k)
    due: Due = empty(Due)
    for root: bytes32 in roots:
        word: uint256 = self._require_batch(job, k, hired.miner, root)
        if word & PAID != 0:
            continue
        self._require_unchallenged(word)
        self._batches[hired.miner][root] = word | PAID
        due = self._due(job, k, root, (word >> FUEL_AT) & FUEL_MAX, hired.price, hired.royalty, due)
    self._pay_out(job, k, hired, due)

@external
def credit(job: uint256, k: uint256, roots: DynArray[bytes32, LIST_MAX]):
    """
    @notice Make weight of paid batches of a drawn, public job with two replicas and two miners or more, T_CHALLENGE
            blocks after they were committed. Those credited already are passed over; one whose fee backs nothing may be
            tried again.
    """
    hired: Hired = staticcall JobMarket(JOB_MARKET).hired(job, k)
    assert hired.creditable, "Settlement: only drawn, public jobs with two replicas and miners earn credit"
    items: DynArray[Item, LIST_MAX] = []
    for root: bytes32 in roots:
        word: uint256 = self._require_batch(job, k, hired.miner, root)
        assert word & PAID != 0, "Settlement: a batch is not paid"
        if word & CREDITED != 0:
            continue
        self._require_unchallenged(word)
        # At once, so that a root that stands twice in the list counts once.
        self._batches[hired.miner][root] = word | CREDITED
        fuel: uint256 = (word >> FUEL_AT) & FUEL_MAX
        items.append(
            Item(
                root=root,
                weight=(word >> WEIGHT_AT) & FUEL_MAX,
                price=fuel * (hired.price + hired.royalty),
                fee=self._fee(fuel * hired.price) + self._fee(fuel * hired.royalty),
            )
        )
    assert len(items) > 0, "Settlement: nothing to credit"
    credited: DynArray[uint256, LIST_MAX] = extcall WorkLedger(WORK_LEDGER).credit(hired.miner, items)
    for i: uint256 in range(len(items), bound=LIST_MAX):
        if credited[i] == 0:
            self._batches[hired.miner][items[i].root] &= ~CREDITED

@external
def claim():
    """
    @notice Pay what the sender was owed and could not take.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "Settlement: nothing is owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)

# ---------------------------------------------------------------- for WorkLedger

@external
def void(miner: address, root: bytes32):
    """
    @notice The Court has found a credited batch wrong.
    """
    assert msg.sender == WORK_LEDGER, "Settlement: only WorkLedger voids"
    word: uint256 = self._batches[miner][root]
    assert word & CREDITED != 0, "Settlement: no such batch"
    self._batches[miner][root] = word | VOIDED

# ---------------------------------------------------------------- what anybody may ask

@external
@view
def batch(miner: address, root: bytes32) -> Batch:
    """
    @notice What a miner has committed under a root; `count` is 0 where there is nothing.
    """
    return self._unpack(self._batches[miner][root])

@external
@view
def rules() -> (uint256, uint256):
    """
    @notice T_CHALLENGE in blocks, and the protocol's part of every price in basis points.
    """
    return CHALLENGE_BLOCKS, FEE_BASIS_POINTS

@external
@view
def domain_separator() -> bytes32:
    """
    @notice EIP-712's, for wallets: its salt is the genesis root.
    """
    return self._compute_separator()

# ---------------------------------------------------------------- inside

@internal
def _reserve(
    job: uint256, k: uint256, root: bytes32, fuel: uint256, weight: uint256, count: uint256, total: uint256
) -> (uint256, Hired):
    assert 0 < count and count <= BATCH_RECEIPTS_MAX, "Settlement: a batch has 1 to 4096 receipts"
    assert fuel <= FUEL_MAX, "Settlement: a batch has less than 2^56 fuel"
    assert weight <= fuel, "Settlement: a batch weighs no more than its fuel"
    assert self._batches[msg.sender][root] == 0, "Settlement: committed already"
    return extcall JobMarket(JOB_MARKET).reserve(job, k, msg.sender, fuel, count, total)

@internal
def _store(
    job: uint256, k: uint256, root: bytes32, first_index: uint256, count: uint256, fuel: uint256, weight: uint256,
    flags: uint256,
):
    self._batches[msg.sender][root] = (
        job
        | (k << K_AT)
        | (first_index << INDEX_AT)
        | (count << COUNT_AT)
        | (fuel << FUEL_AT)
        | (weight << WEIGHT_AT)
        | (block.number << BLOCK_AT)
        | flags
    )
    log Committed(
        job=job,
        miner=msg.sender,
        k=k,
        root=root,
        first_index=first_index,
        count=count,
        fuel=fuel,
        weight=weight,
    )

@internal
def _due(
    job: uint256, k: uint256, root: bytes32, fuel: uint256, price: uint256, royalty: uint256, before: Due
) -> Due:
    # With one batch more. Each batch's fees are rounded on their own, as `credit` counts them.
    log Paid(job=job, k=k, root=root, amount=fuel * (price + royalty))
    return Due(
        batches=before.batches + 1,
        fuel=before.fuel + fuel,
        miner_fee=before.miner_fee + self._fee(fuel * price),
        developer_fee=before.developer_fee + self._fee(fuel * royalty),
    )

@internal
def _pay_out(job: uint256, k: uint256, hired: Hired, due: Due):
    assert due.batches > 0, "Settlement: nothing to pay"
    amount: uint256 = due.fuel * (hired.price + hired.royalty)
    miner_wei: uint256 = due.fuel * hired.price - due.miner_fee
    developer_wei: uint256 = due.fuel * hired.royalty - due.developer_fee
    fee: uint256 = due.miner_fee + due.developer_fee
    if amount > 0:
        extcall JobMarket(JOB_MARKET).withdraw(amount)
    if fee > 0:
        extcall RewardPool(REWARD_POOL).feed(value=fee)
    self._pay(hired.miner, miner_wei)
    self._pay(hired.developer, developer_wei)
    log Settled(job=job, k=k, miner_wei=miner_wei, developer_wei=developer_wei, fee=fee)

@internal
def _pay(recipient: address, amount: uint256):
    # With the stipend alone: whoever refuses, or wants to do more, calls `claim`.
    if amount == 0:
        return
    if not raw_call(recipient, b"", value=amount, gas=0, revert_on_failure=False):
        self.owed[recipient] += amount

@internal
@view
def _fee(price: uint256) -> uint256:
    return price * FEE_BASIS_POINTS // BASIS_POINTS

@internal
@view
def _require_batch(job: uint256, k: uint256, miner: address, root: bytes32) -> uint256:
    word: uint256 = self._batches[miner][root]
    assert word != 0 and word & PLACE_BITS == job | (k << K_AT), "Settlement: the place has no such batch"
    return word

@internal
@view
def _require_unchallenged(word: uint256):
    committed: uint256 = (word >> BLOCK_AT) & (2**32 - 1)
    assert block.number >= committed + CHALLENGE_BLOCKS, "Settlement: it may still be challenged"

@internal
@view
def _require_signed(
    message: bytes32, domain: bytes32, signature: Bytes[65], session_key: address, requester: address
):
    assert len(signature) == 65, "Settlement: a signature has 65 bytes"
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    # Wallets count from 27.
    if v < 27:
        v += 27
    self._require_signer(
        message, domain, convert(extract32(signature, 0), uint256), s, v, session_key, requester
    )

@internal
@view
def _require_signer(
    message: bytes32, domain: bytes32, r: uint256, s: uint256, v: uint256, session_key: address, requester: address
):
    assert v <= 28 and s <= HALF_ORDER, "Settlement: a malleable signature"
    signer: address = ecrecover(keccak256(concat(b"\x19\x01", domain, message)), v, r, s)
    assert signer != empty(address) and (
        signer == session_key or signer == requester
    ), "Settlement: not signed by the requester"

@internal
def _domain() -> bytes32:
    domain: bytes32 = self._separator
    if domain == empty(bytes32):
        domain = self._compute_separator()
        self._separator = domain
    return domain

@internal
@view
def _compute_separator() -> bytes32:
    return keccak256(
        abi_encode(
            DOMAIN_TYPE, NAME, VERSION, chain.id, self, staticcall Consensus(CONSENSUS).genesis_root()
        )
    )

@internal
@pure
def _unpack(word: uint256) -> Batch:
    return Batch(
        job=word & (2**40 - 1),
        k=(word >> K_AT) & (2**12 - 1),
        first_index=(word >> INDEX_AT) & INDEX_MAX,
        count=(word >> COUNT_AT) & COUNT_MAX,
        fuel=(word >> FUEL_AT) & FUEL_MAX,
        weight=(word >> WEIGHT_AT) & FUEL_MAX,
        block=(word >> BLOCK_AT) & (2**32 - 1),
        paid=word & PAID != 0,
        credited=word & CREDITED != 0,
        voided=word & VOIDED != 0,
    )
