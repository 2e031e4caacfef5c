//! Decoded instructions.

/// Index of a register in its entry.
pub(crate) type Register = usize;

/// A register that only some lanes or nobody needs: `_` is none.
pub(crate) type Destination = Option<Register>;

pub(crate) type Unary = fn(u64) -> u64;
pub(crate) type Binary = fn(u64, u64) -> u64;
pub(crate) type Ternary = fn(u64, u64, u64) -> u64;
pub(crate) type Quaternary = fn(u64, u64, u64, u64) -> u64;

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(Register),
    /// Bits, sign-extended where the text has a minus.
    Immediate(u64),
    Special(Special),
}

/// Registers that tell a thread its place. Blocks have one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread,
    Threads,
    Lane,
    Block(usize),
    Grid(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) base: Operand,
    pub(crate) offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
}

/// Values that lanes exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Unary(Unary, Register, Operand),
    Binary(Binary, Register, [Operand; 2]),
    Ternary(Ternary, Register, [Operand; 3]),
    Quaternary(Quaternary, Register, [Operand; 4]),
    Select {
        to: Register,
        yes: Operand,
        no: Operand,
        by: Operand,
    },
    /// `to|complement = (a comparison b) combine c`.
    Compare {
        compare: Binary,
        combine: Option<(Binary, Operand, bool)>,
        to: Destination,
        complement: Destination,
        from: [Operand; 2],
    },
    /// The first is the lowest.
    Pack {
        to: Register,
        from: Vec<Operand>,
        bits: usize,
    },
    Unpack {
        to: Vec<Destination>,
        from: Operand,
        bits: usize,
    },
    LoadParameter {
        to: Register,
        offset: usize,
        bytes: usize,
        signed: bool,
    },
    Load {
        space: Space,
        to: Vec<Destination>,
        address: Address,
        bytes: usize,
        signed: bool,
    },
    Store {
        space: Space,
        address: Address,
        from: Vec<Operand>,
        bytes: usize,
    },
    Copy {
        to: Address,
        from: Address,
        bytes: usize,
        source_bytes: Option<Operand>,
    },
    CommitCopies,
    /// Until so many groups are left at most; none: all copies, committed or not.
    WaitCopies(Option<usize>),
    LoadMatrix {
        to: Vec<Register>,
        address: Address,
        transpose: bool,
    },
    MultiplyAccumulate {
        d: [Register; 4],
        a: [Operand; 4],
        b: [Operand; 2],
        c: [Operand; 4],
    },
    Shuffle {
        kind: Shuffle,
        to: Destination,
        in_range: Destination,
        from: Operand,
        by: Operand,
        clamp: Operand,
        members: Operand,
    },
    Vote {
        kind: Vote,
        to: Register,
        from: Operand,
        negated: bool,
        members: Operand,
    },
    Reduce {
        f: Binary,
        to: Register,
        from: Operand,
        members: Operand,
    },
    ActiveMask(Register),
    /// Of the whole block.
    Barrier(Operand),
    WarpBarrier(Operand),
    Branch(usize),
    Exit,
    /// Orders memory, which the interpreter does anyway.
    Fence,
}

/// One instruction of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) operation: Operation,
    /// Predicate, and whether it is negated.
    pub(crate) guard: Option<(Register, bool)>,
    /// Line of the text, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    /// With its modifiers; executions are counted by it.
    pub(crate) opcode: String,
}
