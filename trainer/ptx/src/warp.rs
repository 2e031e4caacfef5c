//! The state of a warp: registers and which lanes are where.

use crate::copies::Copies;
use crate::instruction::{Destination, Operand, Register, Special};
use crate::shared::Thread;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// A value for each lane.
pub(crate) type Values = [u64; LANES];

/// Lanes that stand at the same instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) at: usize,
    pub(crate) lanes: u32,
}

/// What a thread's special registers say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) threads: u32,
    pub(crate) block: [u32; 3],
    pub(crate) grid: [u32; 3],
}

#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) index: usize,
    place: Place,
    registers: Vec<Values>,
    /// Lanes in which each register has a value.
    written: Vec<u32>,
    pub(crate) groups: Vec<Group>,
    /// Copies of each lane.
    pub(crate) copies: Vec<Copies>,
    /// Barriers of the warp that have passed.
    pub(crate) syncs: u32,
}

/// The lanes of a set, in order.
pub(crate) fn lanes(set: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| set >> lane & 1 == 1)
}

impl Warp {
    pub(crate) fn new(index: usize, place: Place, registers: usize) -> Warp {
        let threads = (place.threads as usize - index * LANES).min(LANES);
        let all = u32::MAX >> (LANES - threads);
        Warp {
            index,
            place,
            registers: vec![[0; LANES]; registers],
            written: vec![0; registers],
            groups: vec![Group { at: 0, lanes: all }],
            copies: (0..LANES).map(|_| Copies::default()).collect(),
            syncs: 0,
        }
    }

    /// A lane, as shared memory knows it.
    pub(crate) fn thread(&self, lane: u8) -> Thread {
        Thread { warp: self.index as u16, lane, syncs: self.syncs }
    }

    /// Lanes that have not exited.
    pub(crate) fn alive(&self) -> u32 {
        self.groups.iter().fold(0, |all, group| all | group.lanes)
    }

    /// An operand in each of the lanes.
    ///
    /// # Errors
    /// It has no value in one of them.
    pub(crate) fn read(&self, operand: Operand, set: u32) -> Result<Values, String> {
        let (values, defined) = self.peek(operand);
        match set & !defined {
            0 => Ok(values),
            missing => Err(format!("a register is read that has no value in the lanes {missing:#x}")),
        }
    }

    /// An operand and the lanes in which it has a value.
    pub(crate) fn peek(&self, operand: Operand) -> (Values, u32) {
        let values = match operand {
            Operand::Register(register) => return (self.registers[register], self.written[register]),
            Operand::Immediate(value) => [value; LANES],
            Operand::Special(Special::Thread) => {
                std::array::from_fn(|lane| (self.index * LANES + lane) as u64)
            }
            Operand::Special(Special::Lane) => std::array::from_fn(|lane| lane as u64),
            Operand::Special(Special::Threads) => [self.place.threads.into(); LANES],
            Operand::Special(Special::Block(axis)) => [self.place.block[axis].into(); LANES],
            Operand::Special(Special::Grid(axis)) => [self.place.grid[axis].into(); LANES],
        };
        (values, u32::MAX)
    }

    /// Whether lanes of the set have a predicate set, or, negated, not set.
    pub(crate) fn lanes_where(&self, predicate: Operand, negated: bool, set: u32) -> Result<u32, String> {
        let values = self.read(predicate, set)?;
        let yes = lanes(set).filter(|&lane| values[lane] == 1).fold(0, |all, lane| all | 1 << lane);
        Ok(if negated { set & !yes } else { yes })
    }

    /// Writes a register in the lanes of the set; `mask` has the bits that it can hold.
    pub(crate) fn write(&mut self, to: Register, set: u32, mask: u64, values: &Values) {
        self.write_defined(to, set, u32::MAX, mask, values);
    }

    /// As `write`; the result has a value in the `defined` lanes only.
    pub(crate) fn write_defined(&mut self, to: Register, set: u32, defined: u32, mask: u64, values: &Values) {
        let register = &mut self.registers[to];
        if set == u32::MAX {
            for (to, value) in register.iter_mut().zip(values) {
                *to = value & mask;
            }
        } else {
            lanes(set).for_each(|lane| register[lane] = values[lane] & mask);
        }
        self.written[to] = self.written[to] & !set | set & defined;
    }

    /// As `write`, where the instruction wants the value.
    pub(crate) fn write_wanted(&mut self, to: Destination, set: u32, masks: &[u64], values: &Values) {
        if let Some(to) = to {
            self.write(to, set, masks[to], values);
        }
    }

    /// Index of the group that stands at the lowest instruction.
    pub(crate) fn next_group(&self) -> Option<usize> {
        (0..self.groups.len()).min_by_key(|&i| self.groups[i].at)
    }

    /// Moves lanes of a group to their next instruction: `active` ones to `target`, the others to the one that follows.
    pub(crate) fn advance(&mut self, index: usize, active: u32, target: usize) {
        let group = self.groups[index];
        let others = group.lanes & !active;
        self.groups.swap_remove(index);
        self.join(Group { at: target, lanes: active });
        self.join(Group { at: group.at + 1, lanes: others });
    }

    /// Ends lanes of a group; the others go on.
    pub(crate) fn exit(&mut self, index: usize, active: u32) {
        let group = self.groups.swap_remove(index);
        self.join(Group { at: group.at + 1, lanes: group.lanes & !active });
    }

    /// Lanes that arrive where others are go on with them.
    fn join(&mut self, arriving: Group) {
        if arriving.lanes == 0 {
            return;
        }
        match self.groups.iter_mut().find(|group| group.at == arriving.at) {
            Some(group) => group.lanes |= arriving.lanes,
            None => self.groups.push(arriving),
        }
    }
}
