//! Tables of the store and what their records look like.

/// Version of the layout; another one is refused.
pub const SCHEMA_VERSION: u32 = 1;
