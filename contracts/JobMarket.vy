# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title JobMarket
@license Apache-2.0
@notice Jobs, their miners, and the money that waits for them.
@dev A job's budget is here from `open` on, divided into what is free and a cap for each place. A place's miner
     commits batches in Settlement, which asks for their price with `withdraw` once it is due. What no batch has been
     committed against goes back with `refund`.

     The balance is, over all jobs, what has been put in and neither been withdrawn nor gone back, and `owed`.
"""

interface Consensus:
    def draw_randao(block_number: uint256) -> bytes32: view

struct Drawn:
    miner: address
    ask_price: uint256
    eligible: bool

interface MinerRegistry:
    def draw(seed: bytes32) -> Drawn: view
    def terms(miner: address) -> Drawn: view

interface ProgramRegistry:
    def program(program_id: bytes32) -> (address, uint256): view

struct Job:
    # 0 for none, 1 open, 2 assigned, 3 closing, 4 ended.
    state: uint256
    requester: address
    session_key: address
    terms: bytes32
    opened_block: uint256
    # 0 before `close`.
    closing_block: uint256
    # Places asked for, and those that there are.
    miners: uint256
    places: uint256
    replicas: uint256
    is_public: bool
    directed: bool
    # Wei per fuel, royalty included.
    max_price: uint256
    # Wei that no place may charge yet, and a place's first cap.
    free: uint256
    share: uint256
    # Unix seconds; 0 for none.
    deadline: uint256
    developer: address
    # Wei per fuel.
    royalty: uint256

struct Place:
    miner: address
    # Wei per fuel, without royalty.
    price: uint256
    # Wei that it may charge, and that its batches have charged.
    cap: uint256
    committed: uint256
    # Index of its next receipt.
    next_index: uint256

# What Settlement needs of a place.
struct Hired:
    miner: address
    price: uint256
    developer: address
    royalty: uint256
    requester: address
    session_key: address
    # Whether its batches may become weight.
    creditable: bool

event Opened:
    job: indexed(uint256)
    requester: indexed(address)
    program_id: bytes32
    details_hash: bytes32
    budget: uint256

event Assigned:
    job: indexed(uint256)
    miner: indexed(address)
    k: uint256
    price: uint256

event ToppedUp:
    job: indexed(uint256)
    amount: uint256

event CapRaised:
    job: indexed(uint256)
    k: uint256
    cap: uint256

event Closing:
    job: indexed(uint256)
    last_block: uint256

event Ended:
    job: indexed(uint256)
    refund: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
MINER_REGISTRY: constant(address) = 0x4E6f726961000000000000000000000000000002
SETTLEMENT: constant(address) = 0x4E6F726961000000000000000000000000000005
PROGRAM_REGISTRY: constant(address) = 0x4e6F726961000000000000000000000000000007

MINERS_MAX: constant(uint256) = 16
PLACES_MAX: constant(uint256) = 64
TRIES_MAX: constant(uint256) = 64
ASSIGN_AFTER: constant(uint256) = 2
ASSIGN_WITHIN: constant(uint256) = 64
REPLICAS_FOR_CREDIT: constant(uint256) = 2

OPEN: constant(uint256) = 1
ASSIGNED: constant(uint256) = 2
CLOSING: constant(uint256) = 3
ENDED: constant(uint256) = 4

WEI_MAX: constant(uint256) = 2**96 - 1
INDEX_MAX: constant(uint256) = 2**44 - 1
LOW_160: constant(uint256) = 2**160 - 1
LOW_40: constant(uint256) = 2**40 - 1
LOW_32: constant(uint256) = 2**32 - 1

# Where the parts of a job's first word lie; the lowest 160 bits are the requester.
OPENED_AT: constant(uint256) = 160
CLOSING_AT: constant(uint256) = 192
MINERS_AT: constant(uint256) = 224
PLACES_AT: constant(uint256) = 232
REPLICAS_AT: constant(uint256) = 240
STATE_AT: constant(uint256) = 248
STATE_BITS: constant(uint256) = 7 << 248
OPEN_INPUTS: constant(uint256) = 1 << 251
DIRECTED: constant(uint256) = 1 << 252
ROYAL: constant(uint256) = 1 << 253
# A place's account has been written; before that its cap is the job's share.
WRITTEN: constant(uint256) = 1 << 255

CLOSE_BLOCKS: immutable(uint256)

# Jobs count from 1.
job_count: public(uint256)

# state and flags | replicas (8) | places (8) | miners (8) | closing block (32) | opened block (32) | requester (160)
_heads: HashMap[uint256, uint256]
# deadline (40) | share (96) | free (96)
_money: HashMap[uint256, uint256]
# highest price (96) | session key (160)
_keys: HashMap[uint256, uint256]
_terms: HashMap[uint256, bytes32]
# royalty (96) | developer (160); only where there is a royalty
_royalties: HashMap[uint256, uint256]

# Both by job << 12 | k: price (96) | miner (160), and WRITTEN | next index (44) | committed (96) | cap (96).
_hired: HashMap[uint256, uint256]
_accounts: HashMap[uint256, uint256]

# Wei that could not be paid because the recipient refused them.
owed: public(HashMap[address, uint256])

@deploy
def __init__(close_blocks: uint256):
    CLOSE_BLOCKS = close_blocks

# ---------------------------------------------------------------- for requesters

@external
@payable
def open(
    program_id: bytes32, details_hash: bytes32, session_key: address, max_price: uint256, miners: uint256,
    replicas: uint256, is_public: bool, share: uint256, deadline: uint256,
) -> uint256:
    """
    @notice Open a job, with the value sent as budget. Its miners are drawn by `assign`.
    @param program_id What runs.
    @param details_hash Hash of whatever else requester and miners have agreed on.
    @param session_key Who may sign for the job besides the requester; the zero address for nobody.
    @param max_price Wei per fuel, royalty included, at most.
    @param miners Places to draw, 1 to 16.
    @param replicas How many of them each unit goes to.
    @param is_public Whether inputs may be shown to anybody, as credit needs.
    @param share First cap of each place, wei.
    @param deadline Unix seconds after which anybody may close the job; 0 for never.
    @return The job's number.
    """
    job: uint256 = 0
    head: uint256 = 0
    job, head = self._open(
        program_id, details_hash, session_key, max_price, miners, replicas, is_public, share, deadline
    )
    self._heads[job] = head | (OPEN << STATE_AT)
    return job

@external
@payable
def open_directed(
    program_id: bytes32, details_hash: bytes32, session_key: address, max_price: uint256, miners: uint256,
    replicas: uint256, is_public: bool, share: uint256, deadline: uint256, named: DynArray[address, MINERS_MAX],
) -> uint256:
    """
    @notice Open a job with miners of one's own choice, each once. They are paid like others, without credit.
    """
    assert len(named) == miners, "JobMarket: not as many names as miners"
    job: uint256 = 0
    head: uint256 = 0
    job, head = self._open(
        program_id, details_hash, session_key, max_price, miners, replicas, is_public, share, deadline
    )
    most: uint256 = max_price - self._royalty(job, head)
    taken: DynArray[address, PLACES_MAX] = []
    for miner: address in named:
        assert miner not in taken, "JobMarket: a miner is named twice"
        offer: Drawn = staticcall MinerRegistry(MINER_REGISTRY).terms(miner)
        assert offer.eligible, "JobMarket: a named miner cannot be hired"
        assert offer.ask_price <= most, "JobMarket: a named miner asks for more than the highest price"
        self._hire(job, len(taken), miner, offer.ask_price)
        taken.append(miner)
    self._heads[job] = head | DIRECTED | (ASSIGNED << STATE_AT) | (miners << PLACES_AT)
    return job

@external
def extend(job: uint256, share: uint256) -> uint256:
    """
    @notice Draw one more miner, by this block's prevRandao.
    @param share Cap of its place, wei, from what is free.
    @return Its place.
    """
    head: uint256 = self._require_running(job)
    places: uint256 = (head >> PLACES_AT) & 255
    assert places < PLACES_MAX, "JobMarket: as many places as a job may have"
    taken: DynArray[address, PLACES_MAX] = []
    for k: uint256 in range(places, bound=PLACES_MAX):
        taken.append(convert(self._hired[(job << 12) | k] & LOW_160, address))
    self._draw(job, head, block.prevrandao, taken, places + 1)
    self._heads[job] = head + (1 << PLACES_AT)
    self._take_free(job, share)
    self._accounts[(job << 12) | places] = WRITTEN | share
    return places

@external
@payable
def top_up(job: uint256):
    """
    @notice Add the value sent to what is free.
    """
    head: uint256 = self._require_requester(job)
    state: uint256 = (head & STATE_BITS) >> STATE_AT
    assert state == OPEN or state == ASSIGNED, "JobMarket: the job is over"
    money: uint256 = self._money[job]
    assert (money & WEI_MAX) + msg.value <= WEI_MAX, "JobMarket: an amount has 96 bits"
    self._money[job] = money + msg.value
    log ToppedUp(job=job, amount=msg.value)

@external
def raise_cap(job: uint256, k: uint256, amount: uint256):
    """
    @notice Let a place charge more.
    @param amount Wei, from what is free.
    """
    head: uint256 = self._require_running(job)
    assert k < (head >> PLACES_AT) & 255, "JobMarket: no such place"
    self._take_free(job, amount)
    account: uint256 = self._account(job, k)
    assert (account & WEI_MAX) + amount <= WEI_MAX, "JobMarket: an amount has 96 bits"
    self._accounts[(job << 12) | k] = account + amount
    log CapRaised(job=job, k=k, cap=(account & WEI_MAX) + amount)

@external
def close(job: uint256):
    """
    @notice End a job: its requester at any time, anybody after its deadline. Miners have T_CLOSE blocks to commit what
            they were allowed; a job without miners ends at once.
    """
    head: uint256 = self._require_job(job)
    if msg.sender != convert(head & LOW_160, address):
        deadline: uint256 = self._money[job] >> 192
        assert deadline != 0 and block.timestamp >= deadline, "JobMarket: only the requester may, before the deadline"
    state: uint256 = (head & STATE_BITS) >> STATE_AT
    if state == OPEN:
        self._end(job, head)
    else:
        assert state == ASSIGNED, "JobMarket: the job is over"
        self._heads[job] = (head & ~STATE_BITS) | (CLOSING << STATE_AT) | (block.number << CLOSING_AT)
        log Closing(job=job, last_block=block.number + CLOSE_BLOCKS)

# ---------------------------------------------------------------- for anybody

@external
def assign(job: uint256):
    """
    @notice Draw a job's miners, 2 to 64 blocks after it was opened. Within an epoch the draws are fixed, whoever calls: by the
            prevRandao of the first block after that in which the job was opened, or of the epoch's first block if that is
            later, and by the terms with which miners entered the epoch. So nobody who knows them can still change them.
    """
    head: uint256 = self._require_job(job)
    assert (head & STATE_BITS) >> STATE_AT == OPEN, "JobMarket: assigned already, or over"
    opened: uint256 = (head >> OPENED_AT) & LOW_32
    assert block.number >= opened + ASSIGN_AFTER, "JobMarket: too early to assign"
    assert block.number <= opened + ASSIGN_WITHIN, "JobMarket: too late to assign"
    miners: uint256 = (head >> MINERS_AT) & 255
    randao: bytes32 = staticcall Consensus(CONSENSUS).draw_randao(opened + 1)
    places: uint256 = self._draw(job, head, randao, [], miners)
    if places < miners:
        money: uint256 = self._money[job]
        # The shares of those not found are free.
        self._money[job] = money + (miners - places) * ((money >> 96) & WEI_MAX)
    self._heads[job] = (head & ~STATE_BITS) | (ASSIGNED << STATE_AT) | (places << PLACES_AT)

@external
def refund(job: uint256):
    """
    @notice Pay back what no place has committed: after the time that `close` gives, or if nobody has assigned the job in
            time.
    """
    head: uint256 = self._require_job(job)
    state: uint256 = (head & STATE_BITS) >> STATE_AT
    if state == OPEN:
        opened: uint256 = (head >> OPENED_AT) & LOW_32
        assert block.number > opened + ASSIGN_WITHIN, "JobMarket: it can still be assigned"
    else:
        assert state == CLOSING, "JobMarket: not closed, or refunded already"
        closing: uint256 = (head >> CLOSING_AT) & LOW_32
        assert block.number > closing + CLOSE_BLOCKS, "JobMarket: miners may still commit"
    self._end(job, head)

@external
def claim():
    """
    @notice Pay what the sender was owed and could not take.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "JobMarket: nothing is owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)

# ---------------------------------------------------------------- for Settlement

@external
def reserve(
    job: uint256, k: uint256, miner: address, fuel: uint256, count: uint256, total: uint256
) -> (uint256, Hired):
    """
    @notice Set the price of a batch aside: within the place's cap and what the requester has allowed.
    @param total What the place may have charged with this batch, wei.
    @return Index of the batch's first receipt, and the place.
    """
    assert msg.sender == SETTLEMENT, "JobMarket: only Settlement reserves"
    head: uint256 = self._require_job(job)
    state: uint256 = (head & STATE_BITS) >> STATE_AT
    assert state == ASSIGNED or (
        state == CLOSING and block.number <= ((head >> CLOSING_AT) & LOW_32) + CLOSE_BLOCKS
    ), "JobMarket: the job takes no batches"
    hired: Hired = self._hired_at(job, k, head)
    assert hired.miner == miner, "JobMarket: not the miner of this place"
    account: uint256 = self._account(job, k)
    first: uint256 = (account >> 192) & INDEX_MAX
    assert first + count <= INDEX_MAX, "JobMarket: too many receipts"
    price: uint256 = fuel * (hired.price + hired.royalty)
    committed: uint256 = ((account >> 96) & WEI_MAX) + price
    assert committed <= total, "JobMarket: more than the requester has allowed"
    assert committed <= account & WEI_MAX, "JobMarket: more than the place's cap"
    self._accounts[(job << 12) | k] = account + (count << 192) + (price << 96)
    return first, hired

@external
def withdraw(amount: uint256):
    """
    @notice Hand over the price of batches that are due; each was reserved.
    """
    assert msg.sender == SETTLEMENT, "JobMarket: only Settlement withdraws"
    raw_call(SETTLEMENT, b"", value=amount)

# ---------------------------------------------------------------- what anybody may ask

@external
@view
def hired(job: uint256, k: uint256) -> Hired:
    """
    @notice What Settlement needs of a place; zeros where there is none.
    """
    return self._hired_at(job, k, self._heads[job])

@external
@view
def job(job: uint256) -> Job:
    """
    @notice A job; `state` is 0 where there is none.
    """
    head: uint256 = self._heads[job]
    money: uint256 = self._money[job]
    key: uint256 = self._keys[job]
    royalty: uint256 = self._royalties[job]
    return Job(
        state=(head & STATE_BITS) >> STATE_AT,
        requester=convert(head & LOW_160, address),
        session_key=convert(key & LOW_160, address),
        terms=self._terms[job],
        opened_block=(head >> OPENED_AT) & LOW_32,
        closing_block=(head >> CLOSING_AT) & LOW_32,
        miners=(head >> MINERS_AT) & 255,
        places=(head >> PLACES_AT) & 255,
        replicas=(head >> REPLICAS_AT) & 255,
        is_public=head & OPEN_INPUTS != 0,
        directed=head & DIRECTED != 0,
        max_price=key >> 160,
        free=money & WEI_MAX,
        share=(money >> 96) & WEI_MAX,
        deadline=money >> 192,
        developer=convert(royalty & LOW_160, address),
        royalty=royalty >> 160,
    )

@external
@view
def place(job: uint256, k: uint256) -> Place:
    """
    @notice A miner's place in a job; zeros where there is none.
    """
    if k >= (self._heads[job] >> PLACES_AT) & 255:
        return empty(Place)
    return self._place(job, k)

@external
@view
def places(job: uint256) -> DynArray[Place, PLACES_MAX]:
    """
    @notice All places of a job.
    """
    found: DynArray[Place, PLACES_MAX] = []
    for k: uint256 in range((self._heads[job] >> PLACES_AT) & 255, bound=PLACES_MAX):
        found.append(self._place(job, k))
    return found

@external
@view
def close_blocks() -> uint256:
    """
    @notice T_CLOSE: blocks after `close` in which miners may commit.
    """
    return CLOSE_BLOCKS

# ---------------------------------------------------------------- inside

@internal
@payable
def _open(
    program_id: bytes32, details_hash: bytes32, session_key: address, max_price: uint256, miners: uint256,
    replicas: uint256, is_public: bool, share: uint256, deadline: uint256,
) -> (uint256, uint256):
    # Everything but the first word, which is returned without state and places.
    assert 0 < miners and miners <= MINERS_MAX, "JobMarket: a job has 1 to 16 miners"
    assert 0 < replicas and replicas <= miners, "JobMarket: replicas are 1 to the number of miners"
    assert msg.value <= WEI_MAX and max_price <= WEI_MAX and share <= WEI_MAX, "JobMarket: an amount has 96 bits"
    assert miners * share <= msg.value, "JobMarket: the budget does not cover the shares"
    assert deadline == 0 or (block.timestamp < deadline and deadline <= LOW_40), "JobMarket: no such deadline"
    developer: address = empty(address)
    royalty: uint256 = 0
    developer, royalty = staticcall ProgramRegistry(PROGRAM_REGISTRY).program(program_id)
    assert royalty <= max_price, "JobMarket: the royalty alone is above the highest price"
    job: uint256 = self.job_count + 1
    self.job_count = job
    head: uint256 = (
        convert(msg.sender, uint256) | (block.number << OPENED_AT) | (miners << MINERS_AT) | (replicas << REPLICAS_AT)
    )
    if is_public:
        head |= OPEN_INPUTS
    if royalty > 0:
        head |= ROYAL
        self._royalties[job] = convert(developer, uint256) | (royalty << 160)
    self._money[job] = (msg.value - miners * share) | (share << 96) | (deadline << 192)
    self._keys[job] = convert(session_key, uint256) | (max_price << 160)
    self._terms[job] = keccak256(concat(b"noria/terms/1", program_id, details_hash))
    log Opened(
        job=job, requester=msg.sender, program_id=program_id, details_hash=details_hash, budget=msg.value
    )
    return job, head

@internal
def _draw(
    job: uint256, head: uint256, randao: bytes32, before: DynArray[address, PLACES_MAX], until: uint256
) -> uint256:
    # Fill the places after those in `before`, up to `until`; return how many there are then.
    taken: DynArray[address, PLACES_MAX] = before
    most: uint256 = (self._keys[job] >> 160) - self._royalty(job, head)
    for attempt: uint256 in range(TRIES_MAX):
        k: uint256 = len(taken)
        if k == until:
            break
        drawn: Drawn = staticcall MinerRegistry(MINER_REGISTRY).draw(
            keccak256(abi_encode(randao, job, k, attempt))
        )
        if not drawn.eligible or drawn.ask_price > most or drawn.miner in taken:
            continue
        self._hire(job, k, drawn.miner, drawn.ask_price)
        taken.append(drawn.miner)
    assert len(taken) > len(before), "JobMarket: nobody can be drawn at this price"
    return len(taken)

@internal
def _hire(job: uint256, k: uint256, miner: address, price: uint256):
    self._hired[(job << 12) | k] = convert(miner, uint256) | (price << 160)
    log Assigned(job=job, miner=miner, k=k, price=price)

@internal
def _end(job: uint256, head: uint256):
    # Pay back what no place has committed.
    money: uint256 = self._money[job]
    share: uint256 = (money >> 96) & WEI_MAX
    amount: uint256 = money & WEI_MAX
    if (head & STATE_BITS) >> STATE_AT == OPEN:
        amount += ((head >> MINERS_AT) & 255) * share
    else:
        for k: uint256 in range((head >> PLACES_AT) & 255, bound=PLACES_MAX):
            account: uint256 = self._accounts[(job << 12) | k]
            if account == 0:
                amount += share
            else:
                amount += (account & WEI_MAX) - ((account >> 96) & WEI_MAX)
    self._money[job] = money & ~WEI_MAX
    self._heads[job] = (head & ~STATE_BITS) | (ENDED << STATE_AT)
    log Ended(job=job, refund=amount)
    recipient: address = convert(head & LOW_160, address)
    # With the stipend alone: whoever refuses, or wants to do more, calls `claim`.
    if amount > 0 and not raw_call(recipient, b"", value=amount, gas=0, revert_on_failure=False):
        self.owed[recipient] += amount

@internal
def _take_free(job: uint256, amount: uint256):
    money: uint256 = self._money[job]
    assert amount <= money & WEI_MAX, "JobMarket: so much is not free"
    self._money[job] = money - amount

@internal
@view
def _require_job(job: uint256) -> uint256:
    head: uint256 = self._heads[job]
    assert head != 0, "JobMarket: no such job"
    return head

@internal
@view
def _require_requester(job: uint256) -> uint256:
    head: uint256 = self._require_job(job)
    assert msg.sender == convert(head & LOW_160, address), "JobMarket: only the requester may"
    return head

@internal
@view
def _require_running(job: uint256) -> uint256:
    head: uint256 = self._require_requester(job)
    assert (head & STATE_BITS) >> STATE_AT == ASSIGNED, "JobMarket: not assigned, or over"
    return head

@internal
@view
def _royalty(job: uint256, head: uint256) -> uint256:
    if head & ROYAL == 0:
        return 0
    return self._royalties[job] >> 160

@internal
@view
def _account(job: uint256, k: uint256) -> uint256:
    account: uint256 = self._accounts[(job << 12) | k]
    if account == 0:
        account = WRITTEN | ((self._money[job] >> 96) & WEI_MAX)
    return account

@internal
@view
def _place(job: uint256, k: uint256) -> Place:
    hired: uint256 = self._hired[(job << 12) | k]
    account: uint256 = self._account(job, k)
    return Place(
        miner=convert(hired & LOW_160, address),
        price=hired >> 160,
        cap=account & WEI_MAX,
        committed=(account >> 96) & WEI_MAX,
        next_index=(account >> 192) & INDEX_MAX,
    )

@internal
@view
def _hired_at(job: uint256, k: uint256, head: uint256) -> Hired:
    if k >= (head >> PLACES_AT) & 255:
        return empty(Hired)
    word: uint256 = self._hired[(job << 12) | k]
    royalty: uint256 = 0
    if head & ROYAL != 0:
        royalty = self._royalties[job]
    return Hired(
        miner=convert(word & LOW_160, address),
        price=word >> 160,
        developer=convert(royalty & LOW_160, address),
        royalty=royalty >> 160,
        requester=convert(head & LOW_160, address),
        session_key=convert(self._keys[job] & LOW_160, address),
        creditable=(
            head & OPEN_INPUTS != 0
            and head & DIRECTED == 0
            and (head >> REPLICAS_AT) & 255 >= REPLICAS_FOR_CREDIT
            # Fewer may have been drawn than were asked for.
            and (head >> PLACES_AT) & 255 >= REPLICAS_FOR_CREDIT
        ),
    )
