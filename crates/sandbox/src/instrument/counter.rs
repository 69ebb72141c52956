//! The one counter of a running program: fuel that is left and stack units in use, in one 64-bit integer.
//!
//! Two counters in memory would cost a chain of stores and loads each at every call. The fuel is above, so that the
//! number is negative once the limit was passed; the stack units are the lowest [`STACK_BITS`], the highest of which
//! is set once there are more than [`STACK_MAX`].

use crate::profile::{FUEL_MAX, STACK_MAX};

/// Bits of the stack units.
pub(super) const STACK_BITS: u32 = 17;
/// The stack units.
pub(super) const STACK_MASK: i64 = (1 << STACK_BITS) - 1;
/// The bits of which none is set while both limits are kept.
pub(super) const BEYOND: i64 = i64::MIN | BEYOND_STACK;
const BEYOND_STACK: i64 = 1 << (STACK_BITS - 1);

const _: () = assert!(STACK_MAX + 1 == BEYOND_STACK.cast_unsigned() && FUEL_MAX << STACK_BITS < 1 << 63);

/// The counter of a program with this much fuel, none of whose functions runs.
#[must_use]
pub const fn with_fuel(fuel: i64) -> i64 {
    fuel << STACK_BITS
}

/// The fuel that is left; negative if the limit was passed.
#[must_use]
pub const fn fuel_of(counter: i64) -> i64 {
    counter >> STACK_BITS
}

/// The counter with other fuel and the same stack units.
#[must_use]
pub const fn set_fuel(counter: i64, fuel: i64) -> i64 {
    with_fuel(fuel) | (counter & STACK_MASK)
}

/// The stack units in use, of the function that trapped too.
#[must_use]
pub const fn stack_of(counter: i64) -> u64 {
    (counter & STACK_MASK).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{LOCALS_MAX, OPERANDS_MAX};

    #[test]
    fn fuel_and_stack_do_not_meet() {
        for fuel in [-1, 0, 1, FUEL_MAX.cast_signed(), -FUEL_MAX.cast_signed()] {
            for used in [0, 1, STACK_MAX, STACK_MAX + 1 + (LOCALS_MAX + OPERANDS_MAX) / 8] {
                let counter = with_fuel(fuel) + used.cast_signed();
                assert_eq!((fuel_of(counter), stack_of(counter)), (fuel, used));
                assert_eq!(counter & BEYOND != 0, fuel < 0 || used > STACK_MAX);
                assert_eq!(set_fuel(counter, 7), with_fuel(7) + used.cast_signed());
            }
        }
    }
}
