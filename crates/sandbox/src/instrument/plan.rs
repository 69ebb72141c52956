//! What the first pass decides and the second writes.

use wasm_encoder::{BlockType, ValType};
use wasmparser::Operator;

use crate::operators::Shape;

/// Something to inject before the instruction at an offset, or to write instead of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    /// Offset in the function's body, locals included.
    pub at: u32,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The function begins: stack rule, price of the first block, both limits checked.
    Entry { fuel: u64 },
    /// A metered block begins: its price, and for some a look at the limit.
    Charge { fuel: u64, check: bool },
    /// The global takes the local's value.
    Publish,
    /// The local takes the global's value, except for the stack's level where an exception may have been caught.
    Reload { caught: bool },
    /// Looks at the limit before the host may act.
    HostCheck,
    /// The function is left here, without its own stack units.
    Leave,
    /// The function's last `end`, the end of the injected block if there is one.
    Finish { caught: bool },
    /// Instead of an instruction that ends at an offset.
    Instead { end: u32, of: Instead },
    /// Pays for the length on top of the stack, and looks at the limit.
    Bulk { per: u32, every: u32 },
    /// Gives a NaN on top of the stack its canonical bits, if `needed`.
    Canonical { shape: Option<Shape>, needed: bool },
}

/// What is written instead of an instruction where functions pass the counter on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instead {
    /// A call that gives the counter and takes it back.
    Call {
        function: u32,
    },
    /// The same, through a table.
    CallIndirect {
        ty: u32,
        table: u32,
    },
    /// A reference to an imported function's wrapper.
    RefFunc {
        import: u32,
    },
    /// The first declared local, whose index is the counter's.
    LocalGet,
    LocalSet,
    LocalTee,
}

/// Whether an instruction's price depends on an operand, which is the last one in each of them.
pub(super) fn has_length(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. }
    )
}

/// Everything the second pass needs to know of a function.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub actions: Vec<Action>,
    /// Offset of the first instruction, after the declared locals.
    pub code_at: u32,
    pub parameters: u32,
    /// Groups of locals as declared.
    pub local_groups: Vec<(u32, ValType)>,
    /// Parameters and declared locals.
    pub locals: u32,
    /// Units of the stack rule that one call takes.
    pub stack: u64,
    /// The body becomes a block of this type, with code of ours after it.
    pub wrapped: Option<BlockType>,
    /// The counter stays in the global.
    pub global_counter: bool,
    pub instructions: u64,
    pub simd: bool,
    pub relaxed_simd: bool,
    pub exceptions: bool,
    /// Functions that instructions name as values.
    pub references: Vec<u32>,
}

impl Plan {
    /// Whether the NaN rule needs code in the function.
    pub fn canonicalises(&self) -> bool {
        self.actions.iter().any(|action| matches!(action.kind, Kind::Canonical { shape: Some(_), needed: true }))
    }
}
