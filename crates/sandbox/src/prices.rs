//! The fuel table of the chain's rules: `prices.csv` beside this file, one row per instruction of the profile.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What one instruction costs: `fuel + length * per / every`, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Paid whenever the instruction runs.
    pub fuel: u32,
    /// Paid for every [`Price::every`] units of its length, for instructions that have one.
    pub per: u32,
    /// Units of length that one portion of [`Price::per`] pays for.
    pub every: u32,
}

impl Price {
    /// The price for a length known beforehand.
    pub fn of(self, length: u64) -> u64 {
        u64::from(self.fuel) + length * u64::from(self.per) / u64::from(self.every)
    }
}

static TABLE: LazyLock<HashMap<String, Price>> = LazyLock::new(|| read(include_str!("prices.csv")));

/// Reads the table. It is part of the program: a mistake in it is a bug, and the tests below find it first.
fn read(text: &str) -> HashMap<String, Price> {
    let mut table = HashMap::new();
    for row in text.lines().filter(|row| !row.starts_with('#')).skip(1) {
        let mut fields = row.split(',');
        let name = fields.next().expect("a row has a name").replace('.', "_");
        let [fuel, per, every] = [(); 3].map(|()| {
            fields.next().and_then(|field| field.parse().ok()).unwrap_or_else(|| panic!("three numbers in {row:?}"))
        });
        assert!(every > 0, "a division by zero in {row:?}");
        assert!(table.insert(name, Price { fuel, per, every }).is_none(), "two rows like {row:?}");
    }
    table
}

/// Price of an instruction of the profile by its name in the text format, `i32.load8_s`; `function` for entering one.
pub fn price(name: &str) -> Option<Price> {
    TABLE.get(&name.replace('.', "_")).copied()
}

/// Price of an instruction by its name with underscores (`i32_load8_s`); nothing for those outside the profile, which
/// are rejected before anybody pays.
pub(crate) fn by_name(name: &str) -> Price {
    TABLE.get(name).copied().unwrap_or(Price { fuel: 0, per: 0, every: 1 })
}

/// Price of entering a function; its length is the number of declared locals beside parameters.
pub(crate) fn function() -> Price {
    by_name("function")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::{NAMES, feature_that_is_off};

    #[test]
    fn every_instruction_of_the_profile_has_its_row_and_no_other() {
        let names = || NAMES.iter().map(|(name, proposal)| (name.trim_start_matches("visit_"), proposal));
        for (name, proposal) in names() {
            assert_eq!(TABLE.contains_key(name), feature_that_is_off(proposal).is_none(), "{name} of {proposal}");
        }
        for row in TABLE.keys().filter(|row| *row != "function") {
            assert!(names().any(|(name, _)| name == row), "no instruction is called {row}");
        }
    }

    #[test]
    fn the_prices_that_the_protocol_fixes() {
        for free in ["nop", "block", "loop", "end", "else", "drop"] {
            assert_eq!(by_name(free), Price { fuel: 0, per: 0, every: 1 }, "{free}");
        }
        assert_eq!(by_name("i32_add").fuel, 1);
        assert_eq!(by_name("memory_copy").of(80), by_name("memory_copy").of(0) + 10);
    }

    #[test]
    fn no_price_is_too_large_for_the_distance_between_checks() {
        assert!(TABLE.values().all(|price| price.fuel < 1_000));
    }

    #[test]
    fn no_length_costs_more_than_the_counter_holds() {
        assert!(TABLE.values().all(|price| price.of(u32::MAX.into()) < crate::profile::FUEL_MAX));
    }
}
