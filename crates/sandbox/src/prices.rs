//! The fuel table.
