//! What the profile, the fuel table and the instrumenter know of each instruction, looked up by a dense number.

use std::sync::LazyLock;

use wasmparser::Operator;

use crate::prices::{self, Price};

macro_rules! define_operators {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        #[derive(Clone, Copy)]
        enum Id { $($op),* }

        /// Name (`visit_i32_add`) and proposal of every instruction that can be decoded, in the order of their ids.
        pub(crate) static NAMES: &[(&str, &str)] = &[$((stringify!($visit), stringify!($proposal))),*];

        fn id(operator: &Operator<'_>) -> usize {
            match operator {
                $( Operator::$op { .. } => Id::$op as usize, )*
                _ => unreachable!("the list above is the parser's own"),
            }
        }
    };
}
wasmparser::for_each_operator!(define_operators);

/// How the lanes of a float value lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// What an instruction does with float operands, as far as bit patterns of NaNs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatRole {
    /// May show the bits of its operands; the bits of its results are determined by them.
    Bits,
    /// Takes numbers of the first shape and returns a number of the second, whose NaN bits depend on the processor.
    Arithmetic(Shape, Shape),
    /// Takes numbers of this shape; no NaN bits are in the result.
    Numeric(Shape),
    /// Shows the bits of its operand; the result has no NaN, whatever the shape in which it is looked at.
    Convert,
    /// Puts single precision's numbers, or lanes of them, into a vector; shows their bits.
    Lanes,
    /// Changes only the sign: what holds of the operand holds of the result.
    Sign,
    /// As [`FloatRole::Sign`] for a scalar, and the sign is a canonical NaN's.
    Absolute,
    /// As [`FloatRole::Sign`] for the first operand; shows the sign of the second.
    CopySign,
}

/// What is known of one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub price: Price,
    /// Name of the feature that is off in the profile and brought this instruction.
    pub off: Option<&'static str>,
    /// May trap, so that the fuel counter must be visible from outside before it runs.
    pub traps: bool,
    pub simd: bool,
    pub relaxed_simd: bool,
    pub exceptions: bool,
    pub float: FloatRole,
}

static FACTS: LazyLock<Vec<Facts>> = LazyLock::new(|| {
    let facts = |(name, proposal): &(&str, &str)| {
        let name = name.strip_prefix("visit_").unwrap_or(name);
        Facts {
            price: prices::by_name(name),
            off: feature_that_is_off(proposal),
            traps: traps(name),
            simd: matches!(*proposal, "simd" | "relaxed_simd"),
            relaxed_simd: *proposal == "relaxed_simd",
            exceptions: *proposal == "exceptions",
            float: float_role(name),
        }
    };
    NAMES.iter().map(facts).collect()
});

/// Facts of all instructions, for [`facts`]: fetched once per function, not per instruction.
pub(crate) fn table() -> &'static [Facts] {
    &FACTS
}

/// What is known of an instruction.
pub(crate) fn facts(table: &'static [Facts], operator: &Operator<'_>) -> &'static Facts {
    &table[id(operator)]
}

/// The name under which a proposal is refused; nothing for those that are part of the profile.
pub(crate) fn feature_that_is_off(proposal: &str) -> Option<&'static str> {
    Some(match proposal {
        "mvp"
        | "sign_extension"
        | "saturating_float_to_int"
        | "bulk_memory"
        | "reference_types"
        | "exceptions"
        | "simd"
        | "relaxed_simd" => return None,
        "tail_call" => "tail calls",
        "threads" => "threads and atomics",
        "shared_everything_threads" => "shared-everything threads",
        "gc" => "garbage-collected types",
        "function_references" => "typed function references",
        "legacy_exceptions" => "legacy exceptions (build with exnref: -mllvm -wasm-use-legacy-eh=false)",
        "memory_control" => "memory control instructions",
        "stack_switching" => "stack switching instructions",
        "wide_arithmetic" => "wide arithmetic instructions",
        "custom_descriptors" => "custom descriptors",
        _ => "instructions of a newer proposal",
    })
}

fn traps(name: &str) -> bool {
    let memory = name.contains("_load") || name.contains("_store");
    let division = ["i32_div_", "i32_rem_", "i64_div_", "i64_rem_"].iter().any(|start| name.starts_with(start));
    let truncation = ["i32_trunc_f", "i64_trunc_f"].iter().any(|start| name.starts_with(start));
    let bulk =
        matches!(name, "memory_copy" | "memory_fill" | "memory_init" | "table_copy" | "table_fill" | "table_init");
    memory
        || division
        || truncation
        || bulk
        || matches!(name, "unreachable" | "table_get" | "table_set" | "call_indirect")
}

fn shape_of(lanes: &str) -> Option<Shape> {
    Some(match lanes {
        "f32" => Shape::F32,
        "f64" => Shape::F64,
        "f32x4" => Shape::F32x4,
        "f64x2" => Shape::F64x2,
        _ => return None,
    })
}

fn float_role(name: &str) -> FloatRole {
    let (lanes, what) = name.split_once('_').unwrap_or((name, ""));
    let Some(shape) = shape_of(lanes) else {
        // i32_trunc_f64_s, i32x4_relaxed_trunc_f64x2_s_zero, ...
        let source = what.split('_').find_map(shape_of);
        return match source {
            Some(source) if what.contains("trunc") => FloatRole::Numeric(source),
            _ => FloatRole::Bits,
        };
    };
    match what {
        "add" | "sub" | "mul" | "div" | "min" | "max" | "sqrt" | "ceil" | "floor" | "trunc" | "nearest"
        | "relaxed_madd" | "relaxed_nmadd" | "relaxed_min" | "relaxed_max" => FloatRole::Arithmetic(shape, shape),
        "demote_f64" => FloatRole::Arithmetic(Shape::F64, shape),
        "promote_f32" => FloatRole::Arithmetic(Shape::F32, shape),
        "demote_f64x2_zero" => FloatRole::Arithmetic(Shape::F64x2, shape),
        "promote_low_f32x4" => FloatRole::Arithmetic(Shape::F32x4, shape),
        "eq" | "ne" | "lt" | "gt" | "le" | "ge" => FloatRole::Numeric(shape),
        "abs" if matches!(shape, Shape::F32 | Shape::F64) => FloatRole::Absolute,
        "abs" | "neg" => FloatRole::Sign,
        "copysign" => FloatRole::CopySign,
        "splat" | "replace_lane" if shape == Shape::F32x4 => FloatRole::Lanes,
        // The low half of a double may look like a NaN of single precision.
        _ if what.starts_with("convert_") && shape != Shape::F64x2 => FloatRole::Convert,
        _ => FloatRole::Bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> FloatRole {
        assert!(NAMES.iter().any(|(known, _)| *known == format!("visit_{name}")), "no instruction {name}");
        float_role(name)
    }

    #[test]
    fn roles_of_float_instructions() {
        assert_eq!(role("f64_sqrt"), FloatRole::Arithmetic(Shape::F64, Shape::F64));
        assert_eq!(role("f32_demote_f64"), FloatRole::Arithmetic(Shape::F64, Shape::F32));
        assert_eq!(role("f64x2_promote_low_f32x4"), FloatRole::Arithmetic(Shape::F32x4, Shape::F64x2));
        assert_eq!(role("f32x4_relaxed_madd"), FloatRole::Arithmetic(Shape::F32x4, Shape::F32x4));
        assert_eq!(role("f32x4_pmin"), FloatRole::Bits);
        assert_eq!(role("i64_trunc_sat_f32_u"), FloatRole::Numeric(Shape::F32));
        assert_eq!(role("i32x4_relaxed_trunc_f64x2_s_zero"), FloatRole::Numeric(Shape::F64x2));
        assert_eq!(role("i32x4_trunc_sat_f32x4_u"), FloatRole::Numeric(Shape::F32x4));
        assert_eq!(role("f64x2_convert_low_i32x4_u"), FloatRole::Bits);
        assert_eq!(role("f32x4_convert_i32x4_u"), FloatRole::Convert);
        assert_eq!(role("i64_reinterpret_f64"), FloatRole::Bits);
        assert_eq!(role("f64_reinterpret_i64"), FloatRole::Bits);
        assert_eq!(role("f64_copysign"), FloatRole::CopySign);
        assert_eq!(role("f64x2_abs"), FloatRole::Sign);
        assert_eq!(role("f64_abs"), FloatRole::Absolute);
        assert_eq!(role("f32x4_extract_lane"), FloatRole::Bits);
        assert_eq!(role("f32x4_replace_lane"), FloatRole::Lanes);
        assert_eq!(role("f64x2_splat"), FloatRole::Bits);
    }

    #[test]
    fn instructions_that_may_trap() {
        for name in ["i32_load8_s", "v128_store32_lane", "i64_rem_u", "i32_trunc_f64_s", "unreachable", "call_indirect"]
        {
            assert!(traps(name), "{name}");
        }
        for name in ["i32_trunc_sat_f64_s", "f64_div", "i32_add", "f64_trunc", "memory_grow", "i32_const"] {
            assert!(!traps(name), "{name}");
        }
    }
}
