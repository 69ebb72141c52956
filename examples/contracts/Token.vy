# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Token
@license Apache-2.0
@notice A plain ERC-20 whose owner may mint: what `make demo` deploys.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

implements: IERC20
implements: IERC20Detailed

name: public(immutable(String[32]))
symbol: public(immutable(String[8]))
decimals: public(constant(uint8)) = 18

owner: public(immutable(address))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(token_name: String[32], token_symbol: String[8]):
    name = token_name
    symbol = token_symbol
    owner = msg.sender


@external
def mint(to: address, amount: uint256):
    """
    @notice Create new tokens.
    @param to Who gets them.
    @param amount How many, in the smallest unit.
    """
    assert msg.sender == owner, "Token: only the owner may mint"
    self.totalSupply += amount
    self.balanceOf[to] += amount
    log IERC20.Transfer(sender=empty(address), receiver=to, value=amount)


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transferFrom(source: address, to: address, amount: uint256) -> bool:
    allowed: uint256 = self.allowance[source][msg.sender]
    assert allowed >= amount, "Token: allowance is too small"
    if allowed != max_value(uint256):
        self.allowance[source][msg.sender] = allowed - amount
    self._move(source, to, amount)
    return True


@internal
def _move(source: address, to: address, amount: uint256):
    assert to != empty(address), "Token: nobody holds the zero address"
    assert self.balanceOf[source] >= amount, "Token: balance is too small"
    self.balanceOf[source] -= amount
    self.balanceOf[to] += amount
    log IERC20.Transfer(sender=source, receiver=to, value=amount)
