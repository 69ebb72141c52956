//! What host calls cost, in fuel. The prices are rules of the chain: changing one changes results.
//!
//! A call pays when it enters and again for the bytes it is about to move, always before it moves them, so that no
//! work is done that was not paid for. One fuel stands for about a nanosecond; moving bytes costs what the bulk
//! instructions cost.

use super::Stop;

/// Every call, whatever it does: leaving and entering the guest, looking at the arguments.
pub const CALL: u64 = 40;
/// Each vector of a scattered read or gathered write, each subscription of a poll.
pub const VECTOR: u64 = 4;
/// Each byte of a path: it is compared, component by component, with a directory's names.
pub const PATH_BYTE: u64 = 4;
/// Each random byte: an eighth of a compression function or less.
pub const RANDOM_BYTE: u64 = 1;
/// Each directory entry that a listing looks at.
pub const ENTRY: u64 = 8;

/// Moving `length` bytes between guest and host.
#[must_use]
pub fn copy(length: u64) -> u64 {
    1 + length / 8
}

/// Fuel used so far and the most that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    used: u64,
    limit: u64,
}

impl Meter {
    /// A meter that has counted `used` of `limit`.
    #[must_use]
    pub fn new(used: u64, limit: u64) -> Self {
        Self { used, limit }
    }

    /// What was counted so far; more than the limit once a charge could not be paid.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Count `fuel` more.
    ///
    /// # Errors
    /// [`Stop::Fuel`] if the counter is then beyond the limit; it stays there.
    pub fn charge(&mut self, fuel: u64) -> Result<(), Stop> {
        self.used = self.used.saturating_add(fuel);
        if self.used > self.limit { Err(Stop::Fuel) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_may_be_used_and_no_charge_wraps_around() {
        let mut meter = Meter::new(90, 100);
        assert_eq!(meter.charge(10), Ok(()));
        assert_eq!(meter.charge(1), Err(Stop::Fuel));
        assert_eq!(meter.used(), 101);
        assert_eq!(meter.charge(u64::MAX), Err(Stop::Fuel));
        assert_eq!(meter.charge(u64::MAX), Err(Stop::Fuel));
        assert_eq!(meter.used(), u64::MAX);
    }
}
