//! First pass over a function: finds its metered blocks and decides what is injected where.
//!
//! The counter lives in a local inside a function; functions give it to one another as the last parameter and the last
//! result. The exported global must be exact whenever anybody else can look at it: at calls of the host, where an
//! exception is thrown, and at every instruction that may trap. The local is always exact; the global is too, or the
//! local is ahead of it (`ahead`).
//!
//! The counter also holds the stack units in use. A function adds its own where it begins and takes them off wherever it
//! is left, so that the local always holds the right level. After an exception the global holds the thrower's: where one
//! is caught, the level comes from the local.

use wasmparser::{Catch, FrameKind, Operator};

use super::function::Context;
use super::plan::{Action, Kind, has_length};
use crate::operators::Facts;

/// Fuel on a straight line after which the limit is checked at the latest.
const CHECK_DISTANCE: u64 = 10_000;
/// Where a line is taken to be when a call returns: what the callee spent last was not checked either.
const DISTANCE_AFTER_CALL: u64 = CHECK_DISTANCE - 1_000;
/// A check is left to the callee if a block that begins with one gets to a call for so much.
const CHECKED_BY_CALLEE: u64 = 1_000;

/// A label that branches can name.
struct Label {
    kind: FrameKind,
    /// Some branch leads to its end, which then starts a metered block.
    targeted: bool,
    /// A catch clause leads to its end: there the fuel comes from the global.
    caught: bool,
    /// Longest unchecked line with which its end can be reached by branches.
    distance: u64,
    /// For `if`: the line at its condition, where `else` continues.
    distance_at_if: u64,
}

impl Label {
    fn new(kind: FrameKind, distance: u64) -> Self {
        Self { kind, targeted: false, caught: false, distance: 0, distance_at_if: distance }
    }
}

/// The state of the pass.
pub(super) struct Flow {
    pub actions: Vec<Action>,
    /// Branches or exceptions lead to the function's own label, where nothing could be injected: its body becomes a block.
    pub wrapped: bool,
    /// The local cannot follow the control flow here: the counter stays in the global.
    pub global_counter: bool,
    imports: u32,
    /// Who calls through a table may call the host itself.
    imports_escape: bool,
    labels: Vec<Label>,
    /// The action that charges the current block.
    block: usize,
    distance: u64,
    reachable: bool,
    ahead: bool,
}

impl Flow {
    /// Starts a function whose entry costs `entry` fuel and whose first instruction is at `at`.
    pub fn new(actions: Vec<Action>, context: Context<'_>, at: u32, entry: u64) -> Self {
        let mut flow = Self {
            actions,
            wrapped: false,
            global_counter: false,
            imports: context.imports,
            imports_escape: context.imports_escape && !context.passes(),
            labels: vec![Label::new(FrameKind::Block, 0)],
            block: 0,
            distance: entry,
            reachable: true,
            ahead: true,
        };
        flow.push(at, Kind::Entry { fuel: entry });
        flow
    }

    fn push(&mut self, at: u32, kind: Kind) {
        self.actions.push(Action { at, kind });
    }

    /// Before an instruction at `at`: pays for it and injects what must happen first.
    pub fn before(&mut self, at: u32, operator: &Operator<'_>, facts: &Facts) {
        let price = match operator {
            Operator::TryTable { try_table } => facts.price.of(try_table.catches.len() as u64),
            _ => u64::from(facts.price.fuel),
        };
        self.pay(at, price);
        if has_length(operator) {
            self.push(at, Kind::Bulk { per: facts.price.per, every: facts.price.every });
            (self.ahead, self.distance) = (false, 0);
            return;
        }
        if facts.traps {
            self.publish(at);
        }
        match operator {
            Operator::Call { function_index } => self.before_call(at, *function_index < self.imports),
            Operator::CallIndirect { .. } => {
                // The table may have no such function.
                self.publish(at);
                self.before_call(at, self.imports_escape);
            }
            Operator::Throw { .. } | Operator::ThrowRef => self.publish(at),
            Operator::Return => self.push(at, Kind::Leave),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                self.before_branch(at, [*relative_depth]);
            }
            Operator::BrTable { targets } => {
                self.before_branch(at, targets.targets().filter_map(Result::ok).chain([targets.default()]));
            }
            Operator::TryTable { try_table } => self.catches(&try_table.catches),
            Operator::End => self.before_end(at),
            _ => {}
        }
    }

    /// After an instruction, the next one being at `next`: opens the block that begins there, if one does.
    pub fn after(&mut self, next: u32, operator: &Operator<'_>) {
        match operator {
            Operator::Block { .. } => self.labels.push(Label::new(FrameKind::Block, 0)),
            Operator::TryTable { .. } => self.labels.push(Label::new(FrameKind::TryTable, 0)),
            Operator::Loop { .. } => {
                self.labels.push(Label::new(FrameKind::Loop, 0));
                self.open(next, true);
            }
            Operator::If { .. } => {
                self.labels.push(Label::new(FrameKind::If, self.distance));
                self.open(next, false);
            }
            Operator::Else => {
                let (reachable, distance) = (self.reachable, self.distance);
                if let Some(label) = self.labels.last_mut() {
                    label.kind = FrameKind::Else;
                    if reachable {
                        label.distance = label.distance.max(distance);
                    }
                    self.distance = label.distance_at_if;
                }
                self.reachable = true;
                self.open(next, false);
            }
            Operator::End => self.after_end(next),
            Operator::BrIf { .. } => self.open(next, false),
            Operator::Br { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable
            | Operator::Throw { .. }
            | Operator::ThrowRef => {
                self.reachable = false;
                self.open(next, false);
            }
            Operator::Call { function_index } if *function_index < self.imports => {
                self.push(next, Kind::Reload { caught: false });
                self.distance = self.distance.max(DISTANCE_AFTER_CALL);
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } => {
                self.ahead = true;
                self.distance = self.distance.max(DISTANCE_AFTER_CALL);
            }
            _ => {}
        }
    }

    /// Adds a price to the current block; a block that would get too long is cut here.
    fn pay(&mut self, at: u32, price: u64) {
        if price == 0 {
            return;
        }
        if self.distance + price > CHECK_DISTANCE {
            self.open(at, true);
        }
        self.distance += price;
        match &mut self.actions[self.block].kind {
            Kind::Entry { fuel } | Kind::Charge { fuel, .. } => *fuel += price,
            _ => unreachable!("a block begins with an action that charges"),
        }
    }

    /// A metered block begins at `at`.
    fn open(&mut self, at: u32, check: bool) {
        self.block = self.actions.len();
        self.push(at, Kind::Charge { fuel: 0, check });
        self.ahead = true;
        if check {
            self.distance = 0;
        }
    }

    /// Makes the global exact.
    fn publish(&mut self, at: u32) {
        if self.ahead {
            self.push(at, Kind::Publish);
            self.ahead = false;
        }
    }

    /// Every callee looks at the limit where it begins, and who calls the host does here.
    fn before_call(&mut self, at: u32, may_be_host: bool) {
        if let Kind::Charge { fuel, check } = &mut self.actions[self.block].kind {
            *check &= *fuel > CHECKED_BY_CALLEE;
        }
        if may_be_host {
            self.publish(at);
            self.push(at, Kind::HostCheck);
        }
    }

    fn before_branch(&mut self, at: u32, depths: impl IntoIterator<Item = u32>) {
        let mut caught = false;
        for depth in depths {
            let Some(place) = self.labels.len().checked_sub(depth as usize + 1) else { continue };
            let label = &mut self.labels[place];
            self.wrapped |= place == 0;
            caught |= label.caught;
            if label.kind != FrameKind::Loop {
                label.targeted = true;
                label.distance = label.distance.max(self.distance);
            }
        }
        if caught {
            self.publish(at);
        }
    }

    /// Clauses of a `try_table`; their labels count from outside of it.
    fn catches(&mut self, clauses: &[Catch]) {
        for clause in clauses {
            let (Catch::One { label, .. }
            | Catch::OneRef { label, .. }
            | Catch::All { label }
            | Catch::AllRef { label }) = clause;
            let Some(place) = self.labels.len().checked_sub(*label as usize + 1) else { continue };
            let label = &mut self.labels[place];
            // A branch that was seen before did not publish the counter, nor did the other ways to the end of an `if`,
            // and a loop's start lies behind us.
            let unpublished = label.targeted && !label.caught;
            let passed = matches!(label.kind, FrameKind::Loop | FrameKind::If | FrameKind::Else);
            self.wrapped |= place == 0;
            self.global_counter |= passed || unpublished;
            label.targeted = true;
            label.caught = true;
            label.distance = label.distance.max(DISTANCE_AFTER_CALL);
        }
    }

    fn before_end(&mut self, at: u32) {
        let last = self.labels.len() == 1;
        let caught = self.labels.last().is_some_and(|label| label.caught);
        if caught {
            self.publish(at);
        }
        if last {
            self.push(at, Kind::Finish { caught });
        }
    }

    fn after_end(&mut self, next: u32) {
        let Some(label) = self.labels.pop() else { return };
        if self.labels.is_empty() {
            return;
        }
        if !starts_block(&label) {
            return;
        }
        self.distance = if self.reachable { self.distance.max(label.distance) } else { label.distance };
        if label.kind == FrameKind::If {
            // Without `else`, a false condition leads here too.
            self.distance = self.distance.max(label.distance_at_if);
        }
        self.reachable = true;
        if label.caught {
            self.push(next, Kind::Reload { caught: true });
        }
        self.open(next, false);
    }
}

/// Whether the end of a label is reached by other ways than from above.
fn starts_block(label: &Label) -> bool {
    label.targeted || matches!(label.kind, FrameKind::If | FrameKind::Else)
}
