//! The NaN rule where the engine has none: the result of every float instruction gets canonical NaN bits, but no earlier
//! than somebody could see the difference.
//!
//! A result that only feeds other arithmetic needs nothing. It does as soon as its bits may be seen: when it is stored,
//! reinterpreted, passed on, joined with other values. A local that is given nothing but such results (an accumulator)
//! puts this off until it is read for such a purpose. A local that also holds bits from elsewhere (memory, parameters)
//! cannot: a NaN's payload loaded from memory must survive, as it does on an engine with a NaN rule of its own.

use wasmparser::{FuncValidator, Operator, ValType, ValidatorResources};

use super::plan::{Action, Kind};
use crate::operators::{Facts, FloatRole, Shape};

/// What is known of a value on the operand stack.
#[derive(Clone, Copy)]
enum Value {
    /// Its bits are determined, and may be anything.
    Exact,
    /// Determined as well, and no NaN with bits of its own: canonicalising it would change nothing.
    Clean,
    /// Comes from a point where code can be injected; `direct` if its sign was not changed since.
    From { point: u32, direct: bool },
}

/// A place after which a value may have to be canonicalised.
struct Point {
    action: u32,
    /// Shape of the result; unknown at the read of a `v128` local.
    shape: Option<Shape>,
    /// The local that is read here, or nothing for an arithmetic result.
    local: Option<u32>,
    /// Its bits may be seen.
    observed: bool,
    /// Used as a number of these shapes.
    used_as: [bool; 2],
}

/// What a local is given, over the whole function.
#[derive(Clone, Copy, Default)]
struct Local {
    is_float: bool,
    /// Holds bits from elsewhere: arithmetic results are canonicalised before they get in.
    exact: bool,
    /// The one shape of the arithmetic results it holds.
    shape: Option<Shape>,
}

impl Local {
    /// Learns of something it is given; tells whether that was news.
    fn take(&mut self, exact: bool, shape: Option<Shape>) -> bool {
        let before = (self.exact, self.shape);
        self.exact |= exact || (shape.is_some() && self.shape.is_some() && self.shape != shape);
        self.shape = self.shape.or(shape);
        (self.exact, self.shape) != before
    }
}

/// Follows the operand stack of one function.
pub(super) struct NanFlow {
    stack: Vec<Value>,
    /// Where the current block's operands begin: dead code takes no more than these.
    base: usize,
    points: Vec<Point>,
    locals: Vec<Local>,
    /// Locals and the points whose values they are given.
    given: Vec<(u32, u32)>,
}

impl NanFlow {
    pub fn new(validator: &FuncValidator<ValidatorResources>, parameters: u32) -> Self {
        let local = |index| match validator.get_local_type(index) {
            Some(ValType::F32) => Local { is_float: true, shape: Some(Shape::F32), exact: index < parameters },
            Some(ValType::F64) => Local { is_float: true, shape: Some(Shape::F64), exact: index < parameters },
            Some(ValType::V128) => Local { is_float: true, shape: None, exact: index < parameters },
            _ => Local::default(),
        };
        let locals = (0..validator.len_locals()).map(local).collect();
        Self { stack: Vec::new(), base: 0, points: Vec::new(), locals, given: Vec::new() }
    }

    /// Tells where the operands of the block begin in which the next instruction stands.
    pub fn set_base(&mut self, base: usize) {
        self.base = base;
    }

    /// Follows one instruction that takes `takes` and leaves `leaves` operands; `height` is the stack's after it, `next`
    /// the offset of the instruction that follows.
    pub fn step(
        &mut self,
        actions: &mut Vec<Action>,
        operator: &Operator<'_>,
        facts: &Facts,
        (takes, leaves): (u32, u32),
        (height, next): (u32, u32),
    ) {
        match operator {
            Operator::LocalGet { local_index } if self.is_float(*local_index) => {
                let local = &self.locals[*local_index as usize];
                let value = self.point(actions, next, local.shape, Some(*local_index));
                self.stack.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.give(*local_index, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.give(*local_index, value);
                self.stack.push(value);
            }
            Operator::Drop => {
                self.pop();
            }
            Operator::F32Const { value } => self.stack.push(constant(is_clean_f32(value.bits()))),
            Operator::F64Const { value } => self.stack.push(constant(is_clean_f64(value.bits()))),
            Operator::V128Const { value } => {
                let bits = value.i128() as u128;
                let clean = (0..4).all(|lane| is_clean_f32((bits >> (32 * lane)) as u32))
                    && (0..2).all(|lane| is_clean_f64((bits >> (64 * lane)) as u64));
                self.stack.push(constant(clean));
            }
            _ => self.by_role(actions, facts.float, takes, leaves, next),
        }
        // Dead code and the ends of blocks: whatever the validator says is there has determined bits.
        self.stack.resize(height as usize, Value::Exact);
    }

    fn by_role(&mut self, actions: &mut Vec<Action>, role: FloatRole, takes: u32, leaves: u32, next: u32) {
        match role {
            FloatRole::Arithmetic(from, to) => {
                (0..takes).for_each(|_| self.use_as(from));
                let value = self.point(actions, next, Some(to), None);
                self.stack.push(value);
            }
            FloatRole::Numeric(from) => {
                (0..takes).for_each(|_| self.use_as(from));
                self.stack.push(Value::Exact);
            }
            FloatRole::Convert => {
                self.pop();
                self.stack.push(Value::Clean);
            }
            FloatRole::Sign => {
                let value = self.pop();
                self.stack.push(sign_changed(value));
            }
            FloatRole::CopySign => {
                let sign = self.pop();
                self.observe(sign);
                let value = self.pop();
                self.stack.push(sign_changed(value));
            }
            FloatRole::Bits => {
                for _ in 0..takes {
                    let value = self.pop();
                    self.observe(value);
                }
                self.stack.extend((0..leaves).map(|_| Value::Exact));
            }
        }
    }

    /// At the end of the function: marks the points where code is needed.
    pub fn finish(mut self, actions: &mut [Action]) {
        for &(local, point) in &self.given {
            let point = &self.points[point as usize];
            if point.local.is_none() {
                self.locals[local as usize].take(false, point.shape);
            }
        }
        self.spread();
        for &(local, point) in &self.given {
            if self.locals[local as usize].exact {
                self.points[point as usize].observed = true;
            }
        }
        for point in &self.points {
            let (shape, needed) = match point.local.map(|local| self.locals[local as usize]) {
                None => (point.shape, point.observed),
                Some(local) => {
                    let other_use = match local.shape {
                        Some(Shape::F32x4) => point.used_as[1],
                        Some(Shape::F64x2) => point.used_as[0],
                        _ => false,
                    };
                    (local.shape, !local.exact && (point.observed || other_use))
                }
            };
            // A vector local without arithmetic results has no shape and needs nothing.
            actions[point.action as usize].kind = Kind::Canonical { shape, needed: needed && shape.is_some() };
        }
    }

    /// Bits from elsewhere, and shapes, spread through copies from local to local until nothing changes.
    fn spread(&mut self) {
        let copy = |&(to, point): &(u32, u32)| self.points[point as usize].local.map(|from| (from, to));
        let mut copies: Vec<(u32, u32)> = self.given.iter().filter_map(copy).collect();
        copies.sort_unstable();
        copies.dedup();
        let mut waiting: Vec<u32> = copies.iter().map(|copy| copy.0).collect();
        while let Some(from) = waiting.pop() {
            let Local { exact, shape, .. } = self.locals[from as usize];
            let first = copies.partition_point(|copy| copy.0 < from);
            for &(_, to) in copies[first..].iter().take_while(|copy| copy.0 == from) {
                if self.locals[to as usize].take(exact, shape) {
                    waiting.push(to);
                }
            }
        }
    }

    fn is_float(&self, local: u32) -> bool {
        self.locals.get(local as usize).is_some_and(|local| local.is_float)
    }

    fn pop(&mut self) -> Value {
        if self.stack.len() > self.base { self.stack.pop().unwrap_or(Value::Exact) } else { Value::Exact }
    }

    fn point(&mut self, actions: &mut Vec<Action>, at: u32, shape: Option<Shape>, local: Option<u32>) -> Value {
        let action = actions.len() as u32;
        actions.push(Action { at, kind: Kind::Canonical { shape, needed: false } });
        self.points.push(Point { action, shape, local, observed: false, used_as: [false; 2] });
        Value::From { point: self.points.len() as u32 - 1, direct: true }
    }

    fn observe(&mut self, value: Value) {
        if let Value::From { point, .. } = value {
            self.points[point as usize].observed = true;
        }
    }

    /// The top of the stack is used as a number.
    fn use_as(&mut self, shape: Shape) {
        let Value::From { point, .. } = self.pop() else { return };
        let point = &mut self.points[point as usize];
        if point.shape.is_some_and(|known| known != shape) {
            point.observed = true;
        }
        match shape {
            Shape::F32x4 => point.used_as[0] = true,
            Shape::F64x2 => point.used_as[1] = true,
            Shape::F32 | Shape::F64 => {}
        }
    }

    fn give(&mut self, local: u32, value: Value) {
        if !self.is_float(local) {
            return;
        }
        match value {
            Value::Clean => {}
            Value::From { point, direct: true } => self.given.push((local, point)),
            Value::From { direct: false, .. } | Value::Exact => {
                self.observe(value);
                self.locals[local as usize].exact = true;
            }
        }
    }
}

fn sign_changed(value: Value) -> Value {
    match value {
        Value::From { point, .. } => Value::From { point, direct: false },
        // A canonical NaN with its sign changed is not canonical any more.
        Value::Clean | Value::Exact => Value::Exact,
    }
}

fn constant(clean: bool) -> Value {
    if clean { Value::Clean } else { Value::Exact }
}

fn is_clean_f32(bits: u32) -> bool {
    !f32::from_bits(bits).is_nan() || bits == 0x7fc0_0000
}

fn is_clean_f64(bits: u64) -> bool {
    !f64::from_bits(bits).is_nan() || bits == 0x7ff8_0000_0000_0000
}
