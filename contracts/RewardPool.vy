# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title RewardPool
@license Apache-2.0
@notice What blocks earn: half of the protocol's fees, and a subsidy from a genesis vault that never outweighs them.
@dev The balance is vault plus pool. Whatever reaches this address otherwise, such as the tips of a proposer that
     names it as recipient, is pool too. Wei that are burned go to BURNED, an address of the protocol without code or
     key.
"""

event Fed:
    fee: uint256
    burned: uint256

event Released:
    amount: uint256

CONSENSUS: constant(address) = 0x4E6f726961000000000000000000000000000001
SETTLEMENT: constant(address) = 0x4E6F726961000000000000000000000000000005
BURNED: constant(address) = 0x4E6F726961000000000000000000000000000000

VAULT_SHARE: constant(uint256) = 2**14
FEE_SHARE: constant(uint256) = 4

POOL_RATE: immutable(uint256)

# Wei of the balance that are not pool yet.
vault: public(uint256)
# Fees paid since the epoch began, wei.
fees: public(uint256)

@deploy
@payable
def __init__(pool_rate: uint256):
    POOL_RATE = pool_rate
    self.vault = msg.value

@external
@payable
def feed():
    """
    @notice Take a protocol fee: half is burned, with it an odd wei, half feeds the pool.
    """
    assert msg.sender == SETTLEMENT, "RewardPool: only Settlement pays fees"
    burned: uint256 = msg.value - msg.value // 2
    self.fees += msg.value
    if burned > 0:
        raw_call(BURNED, b"", value=burned)
    log Fed(fee=msg.value, burned=burned)

@external
def begin_epoch():
    """
    @notice Consensus tells that the first block of an epoch has begun: the vault gives its part.
    """
    assert msg.sender == CONSENSUS, "RewardPool: only Consensus begins an epoch"
    fees: uint256 = self.fees
    if fees == 0:
        return
    vault: uint256 = self.vault
    amount: uint256 = min(vault // VAULT_SHARE, fees // FEE_SHARE)
    self.fees = 0
    self.vault = vault - amount
    log Released(amount=amount)

@external
def pay_proposer(recipient: address):
    """
    @notice Consensus tells that a block has begun. A recipient whose code refuses a plain payment gets nothing.
    """
    assert msg.sender == CONSENSUS, "RewardPool: only Consensus pays proposers"
    amount: uint256 = (self.balance - self.vault) // POOL_RATE
    if amount > 0:
        paid: bool = raw_call(recipient, b"", value=amount, gas=0, revert_on_failure=False)

@external
@view
def pool() -> uint256:
    """
    @notice Wei from which blocks are paid.
    """
    return self.balance - self.vault
