//! What lanes and warps do together: branches, exchange, matrices, copies; and what the interpreter reports as wrong.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use thimble_ptx::{Counts, Grid, LaunchArgument, Memory, Module};

/// Bytes of shared memory.
const SHARED: u32 = 1024;
/// Input: so many bytes, each a multiple of 3.
const INPUT: usize = 1024;

/// Runs a body in blocks of some threads. It finds its thread in `%t`, input and output (a u32 for each thread of all blocks) in
/// `%in` and `%out`, its own output in `%own`, and may use `%r`, `%rd`, `%p` 0 to 9.
fn launch(body: &str, threads: u32, blocks: u32) -> Result<(Vec<u32>, Counts), String> {
    let text = format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 128 .b8 memory[];\n\
         .visible .entry k(\n.param .u64 .ptr .global .align 1 from,\n.param .u64 to\n)\n{{\n\
         .reg .pred %p<10>;\n.reg .b32 %r<10>, %t, %b, %n;\n.reg .b64 %rd<10>, %in, %out, %own;\n\
         ld.param.u64 %in, [from];\nld.param.u64 %out, [to];\nmov.u32 %t, %tid.x;\nmov.u32 %b, %ctaid.x;\nmov.u32 %n, %ntid.x;\n\
         mad.lo.s32 %n, %b, %n, %t;\nmad.wide.u32 %own, %n, 4, %out;\n{body}\n}}\n"
    );
    let module = Module::parse(&text).map_err(|error| error.to_string())?;
    let mut memory = Memory::new();
    let input: Vec<u8> = (0..INPUT).map(|i| (3 * i) as u8).collect();
    let (from, to) =
        (memory.input("input", &input), memory.output("output", (4 * threads * blocks) as usize));
    let grid = Grid { blocks: [blocks, 1, 1], threads, shared_bytes: SHARED };
    let arguments = [LaunchArgument::Pointer(from), LaunchArgument::Pointer(to)];
    let counts = module
        .entry("k")
        .unwrap()
        .launch(grid, &arguments, &mut memory)
        .map_err(|fault| fault.to_string())?;
    Ok((memory.read(to)?, counts))
}

fn run(body: &str, threads: u32) -> Vec<u32> {
    launch(&format!("{body}\nst.global.u32 [%own], %r0;\nret;"), threads, 1)
        .unwrap_or_else(|problem| panic!("{body}\n{problem}"))
        .0
}

fn refused(body: &str, threads: u32, blocks: u32, expected: &str) {
    let problem = launch(body, threads, blocks).expect_err(body);
    assert!(problem.contains(expected), "{body}\nexpected \"{expected}\", found \"{problem}\"");
}

#[test]
fn lanes_diverge_and_meet_again() {
    // Lane i goes round i times, and all add the same after it.
    let body = "mov.u32 %r0, 0;\nmov.u32 %r1, 0;\n$LOOP:\nsetp.ge.u32 %p1, %r1, %t;\n@%p1 bra $END;\n\
                add.u32 %r0, %r0, 10;\nadd.u32 %r1, %r1, 1;\nbra.uni $LOOP;\n$END:\nadd.u32 %r0, %r0, 1;";
    let (found, counts) = launch(&format!("{body}\nst.global.u32 [%own], %r0;\nret;"), 40, 1).unwrap();
    assert_eq!(found, (0..40).map(|i| 10 * i + 1).collect::<Vec<u32>>());
    // Two warps: 31 and 39 rounds of two additions, and one after it. Met lanes add together.
    assert_eq!((counts.beginning("add.u32"), counts.beginning("st.global")), (2 * (31 + 39) + 2, 2));
    // Lanes leave one by one, and the branch is executed by those that do.
    assert_eq!((counts.by_opcode["bra"], counts.by_opcode["bra.uni"]), (40, 31 + 39));
}

#[test]
fn a_scope_has_its_own_registers() {
    let body = "mov.u32 %r0, 5;\n{\n.reg .b32 %r<1>;\nmov.u32 %r0, 6;\n}\nadd.u32 %r0, %r0, %t;";
    assert_eq!(run(body, 2), [5, 6]);
}

#[test]
fn lanes_exchange_values() {
    let shuffle = |how: &str| run(&format!("mul.lo.u32 %r1, %t, 3;\nshfl.sync.{how}, 0xffffffff;"), 32);
    let all = |f: fn(u32) -> u32| (0..32).map(|lane| 3 * f(lane)).collect::<Vec<u32>>();
    assert_eq!(shuffle("bfly.b32 %r0, %r1, 5, 31"), all(|lane| lane ^ 5));
    assert_eq!(shuffle("idx.b32 %r0, %r1, 9, 31"), all(|_| 9));
    assert_eq!(shuffle("up.b32 %r0, %r1, 2, 0"), all(|lane| if lane < 2 { lane } else { lane - 2 }));
    assert_eq!(shuffle("down.b32 %r0, %r1, 2, 31"), all(|lane| if lane > 29 { lane } else { lane + 2 }));
    // In segments of eight lanes.
    assert_eq!(shuffle("idx.b32 %r0, %r1, 3, 0x181f"), all(|lane| lane / 8 * 8 + 3));
    assert_eq!(
        shuffle("down.b32 %r0, %r1, 2, 0x181f"),
        all(|lane| if lane % 8 > 5 { lane } else { lane + 2 })
    );
    let vote = |kind: &str| run(&format!("setp.lt.u32 %p1, %t, 4;\nvote.sync.{kind}, %p1, 0xffffffff;"), 32);
    assert_eq!(vote("ballot.b32 %r0"), [15; 32]);
    let decided = |kind: &str| {
        vote(&format!("{kind}.pred %p2, %p1, 0xffffffff;\nselp.u32 %r0, 1, 0, %p2;\nvote.sync.any.pred %p3"))
            [0]
    };
    assert_eq!((decided("any"), decided("all"), decided("uni")), (1, 0, 0));
    assert_eq!(run("redux.sync.add.u32 %r0, %t, 0xffffffff;", 32), [496; 32]);
    assert_eq!(run("redux.sync.max.s32 %r0, %t, 0xffffffff;", 32), [31; 32]);
}

#[test]
fn memory_is_read_and_written() {
    // 16 bytes into shared memory, and out of it through a generic address.
    let body = "mul.wide.u32 %rd1, %t, 16;\nadd.s64 %rd2, %in, %rd1;\nld.global.nc.v4.u32 {%r1, %r2, %r3, %r4}, [%rd2];\n\
                cvt.u32.u64 %r5, %rd1;\nmov.u32 %r6, memory;\nadd.s32 %r5, %r5, %r6;\nst.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4};\n\
                bar.sync 0;\ncvt.u64.u32 %rd3, %r5;\ncvta.shared.u64 %rd4, %rd3;\nxor.b64 %rd4, %rd4, 16;\nld.u16 %r0, [%rd4+2];";
    let expected = |thread: usize| {
        let at = 16 * (thread ^ 1) + 2;
        u32::from((3 * at) as u8) | u32::from((3 * (at + 1)) as u8) << 8
    };
    assert_eq!(run(body, 64), (0..64).map(expected).collect::<Vec<u32>>());
    assert_eq!(run("ld.global.s8 %r0, [%in+85];", 1), [0xffff_ffff]);
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let copy = "shl.b32 %r1, %t, 4;\nmul.wide.u32 %rd1, %t, 16;\nadd.s64 %rd1, %rd1, %in;\ncp.async.cg.shared.global [%r1], [%rd1], 16, %r2;\n";
    let read = "ld.shared.u32 %r0, [%r1+4];";
    let waited = format!("mov.u32 %r2, 8;\n{copy}cp.async.commit_group;\ncp.async.wait_group 0;\n{read}");
    let expected: Vec<u32> =
        (0..32u32).map(|t| u32::from_le_bytes([4, 5, 6, 7].map(|i| (3 * (16 * t + i)) as u8))).collect();
    assert_eq!(run(&waited, 32), expected);
    // What is beyond the bytes that are wanted becomes zeros; nothing wanted reads nothing, wherever it is.
    assert_eq!(run(&waited.replace("%r2, 8", "%r2, 4"), 32), [0; 32]);
    assert_eq!(run(&waited.replace("%r2, 8", "%r2, 0").replace("%in;\ncp", "4096;\ncp"), 32), [0; 32]);
    let store = "st.global.u32 [%own], %r0;\nret;";
    refused(&waited.replace("wait_group 0", "wait_group 1"), 32, 1, "before its copy has been waited for");
    refused(&format!("mov.u32 %r2, 8;\n{copy}{read}{store}"), 32, 1, "before its copy has been waited for");
}

#[test]
fn matrices_are_where_the_isa_says() {
    // Rows of 16 bytes; lane i gives row i. Element (row, column) of matrix m is bytes 128 m + 16 row + 2 column.
    let load = "shl.b32 %r1, %t, 4;\nmul.wide.u32 %rd1, %t, 16;\nadd.s64 %rd1, %rd1, %in;\nld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd1];\n\
                st.shared.v4.u32 [%r1], {%r2, %r3, %r4, %r5};\nbar.warp.sync 0xffffffff;\n";
    let element = |m: u32, row: u32, column: u32| {
        let at = 128 * m + 16 * row + 2 * column;
        u32::from((3 * at) as u8) | u32::from((3 * (at + 1)) as u8) << 8
    };
    let body = format!("{load}ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r6, %r7, %r8, %r0}}, [%r1];");
    let expected =
        |lane: u32| element(3, lane / 4, lane % 4 * 2) | element(3, lane / 4, lane % 4 * 2 + 1) << 16;
    assert_eq!(run(&body, 32), (0..32).map(expected).collect::<Vec<u32>>());
    let body = format!("{load}ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{%r6, %r0, %r8, %r9}}, [%r1];");
    let expected =
        |lane: u32| element(1, lane % 4 * 2, lane / 4) | element(1, lane % 4 * 2 + 1, lane / 4) << 16;
    assert_eq!(run(&body, 32), (0..32).map(expected).collect::<Vec<u32>>());
}

#[test]
fn products_are_where_the_isa_says() {
    // A has one 1, at a lane's place of register a1, upper half: row g + 8, column 2 q + 1. B has 1, 2, ... in its row 2 q + 1, as
    // bf16 whose bits are 0x3f80 and so on: the sum's row g + 8 is B's row 2 q + 1.
    let numbers = "cvt.rn.f32.u32 %r3, %r2;\nshr.u32 %r3, %r3, 16;\n";
    for lane in [0u32, 6, 31] {
        let (group, quarter) = (lane / 4, lane % 4);
        let body = format!(
            "mov.u32 %r0, 0;\nmov.u32 %r1, 0;\nsetp.eq.u32 %p1, %t, {lane};\n@%p1 mov.u32 %r1, 0x3f800000;\n\
             shr.u32 %r2, %t, 2;\nadd.u32 %r2, %r2, 1;\n{numbers}shl.b32 %r3, %r3, 16;\n\
             and.b32 %r4, %t, 3;\nsetp.ne.u32 %p2, %r4, {quarter};\n@%p2 mov.u32 %r3, 0;\n\
             mov.u32 %r5, 0;\nmov.u32 %r6, 0;\nmov.u32 %r7, 0;\nmov.u32 %r8, 0;\n\
             mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{%r5, %r6, %r7, %r8}}, {{%r0, %r1, %r0, %r0}}, {{%r3, %r0}}, \
             {{%r5, %r6, %r7, %r8}};\ncvt.rzi.u32.f32 %r0, %r7;\ncvt.rzi.u32.f32 %r1, %r5;\nmad.lo.u32 %r0, %r1, 100, %r0;"
        );
        let expected = |t: u32| if t / 4 == group { t % 4 * 2 + 1 } else { 0 };
        assert_eq!(run(&body, 32), (0..32).map(expected).collect::<Vec<u32>>(), "lane {lane}");
    }
}

#[test]
fn faults_of_memory_are_reported() {
    let read = "mov.u32 %r0, 0;\nst.global.u32 [%own], %r0;\n";
    refused(
        "st.global.u32 [%own], %r0;\nret;",
        1,
        1,
        "a register is read that has no value in the lanes 0x1",
    );
    refused("setp.lt.u32 %p1, %r0, 3;\n@%p1 ret;\nret;", 1, 1, "has no value");
    refused(
        "ld.global.u32 %r0, [%in+1024];\nret;",
        1,
        1,
        "bytes 1024 to 1028 of `input` are accessed, and it has 1024",
    );
    refused("ld.global.u32 %r0, [%in+-4];\nret;", 1, 1, "expected the address of an allocation");
    refused("ld.global.v2.u32 {%r0, %r1}, [%in+4];\nret;", 1, 1, "is no multiple of 8");
    refused(
        "ld.global.u32 %r0, [%out];\nret;",
        1,
        1,
        "byte 0 of `output` is read and has never been written",
    );
    refused("mov.u32 %r0, 0;\nst.global.u32 [%in], %r0;\nret;", 1, 1, "`input` is an input and is written");
    refused(
        "ld.shared.u32 %r0, [memory+8];\nret;",
        1,
        1,
        "byte 8 of shared memory is read and has never been written",
    );
    refused(
        "mov.u32 %r0, 0;\nst.shared.u32 [memory+1024], %r0;\nret;",
        1,
        1,
        "of shared memory are accessed, and it has 0x400",
    );
    refused("ret;", 1, 1, "byte 0 of `output` has never been written");
    refused(
        &format!("mov.u32 %r0, 0;\nst.global.u32 [%out], %r0;\n{read}ret;"),
        1,
        2,
        "block number 0 of this launch writes it too",
    );
    let other = "mov.u32 %r0, 0;\nst.global.u32 [%own], %r0;\nld.global.u32 %r0, [%out];\nret;";
    refused(other, 1, 2, "byte 0 of `output` is read, and block number 0 of this launch writes it");
}

#[test]
fn faults_between_warps_are_reported() {
    let write = "shl.b32 %r1, %t, 2;\nst.shared.u32 [%r1], %t;\n";
    let neighbour = "xor.b32 %r2, %r1, 128;\nld.shared.u32 %r0, [%r2];\nst.global.u32 [%own], %r0;\n";
    let ordered = launch(&format!("{write}bar.sync 0;\n{neighbour}ret;"), 64, 1).unwrap().0;
    assert_eq!(ordered, (0..64).map(|t| t ^ 32).collect::<Vec<u32>>());
    refused(&format!("{write}{neighbour}ret;"), 64, 1, "has never been written");
    let read_then_write = format!(
        "{write}bar.sync 0;\n{neighbour}setp.ge.u32 %p1, %t, 32;\n@%p1 st.shared.u32 [%r1], %t;\nret;"
    );
    refused(&read_then_write, 64, 1, "is written without a barrier after warp 0 read it");
    let written_then_read = format!("{write}bar.sync 0;\nst.shared.u32 [%r1], %t;\n{neighbour}ret;");
    refused(&written_then_read, 64, 1, "without a barrier after");
    refused(
        "and.b32 %r0, %t, 31;\nsetp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [memory], %r0;\nret;",
        64,
        1,
        "is written without a barrier after warp 0 wrote it",
    );
    refused(
        "setp.lt.u32 %p1, %t, 32;\n@%p1 bar.sync 0;\nret;",
        64,
        1,
        "divergent barrier: warp 0 waits at line",
    );
    refused(
        "setp.lt.u32 %p1, %t, 16;\n@%p1 bar.sync 0;\nret;",
        32,
        1,
        "divergent barrier: lanes 0xffff reach it of 0xffffffff",
    );
    // Lockstep hides what a GPU need not do in order.
    let next = "xor.b32 %r2, %r1, 4;\nld.shared.u32 %r0, [%r2];\nst.global.u32 [%own], %r0;\n";
    refused(
        &format!("{write}{next}ret;"),
        32,
        1,
        "is read without a barrier of the warp after lane 1 wrote it",
    );
    let synced = launch(&format!("{write}bar.warp.sync 0xffffffff;\n{next}ret;"), 32, 1).unwrap().0;
    assert_eq!(synced, (0..32).map(|t| t ^ 1).collect::<Vec<u32>>());
    let again = format!("{write}bar.warp.sync 0xffffffff;\n{next}st.shared.u32 [%r1], %t;\nret;");
    refused(&again, 32, 1, "is written without a barrier of the warp after lane 1 read it");
    let shuffle = "setp.lt.u32 %p1, %t, 16;\n@%p1 shfl.sync.bfly.b32 %r0, %t, 1, 31";
    refused(&format!("{shuffle}, 0xffffffff;\nret;"), 32, 1, "expected the lanes 0xffffffff, found 0xffff");
    refused(
        &format!("{}, 0xffff;\nret;", shuffle.replace("t, 1,", "t, 16,")),
        32,
        1,
        "lane 0 asks lane 16, which does not take part",
    );
    refused("$L:\nbra.uni $L;", 1, 1, "expected an end or a barrier");
}

#[test]
fn what_is_unknown_is_named() {
    refused(
        "sin.approx.f32 %r0, %r1;\nret;",
        1,
        1,
        "`sin.approx.f32 %r0, %r1`: the instruction `sin` is unknown",
    );
    refused("add.rz.f32 %r0, %r1, %r2;\nret;", 1, 1, "`.rz` of `add` is unknown");
    refused("atom.global.add.u32 %r0, [%in], 1;\nret;", 1, 1, "the instruction `atom` is unknown");
    refused("mov.u32 %r10, 1;\nret;", 1, 1, "expected a register, found `%r10`");
    refused("bra $NOWHERE;\nret;", 1, 1, "expected a label, found `$NOWHERE`");
    refused("ld.param.u64 %rd1, [from+4];\nret;", 1, 1, "expected 8 bytes of a parameter");
    refused(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%r0}, {%r0}, {%r0}, {%r0};",
        1,
        1,
        "m16n8k16",
    );
    let error = Module::parse(".version 9.0\n.global .align 4 .b8 table[4];\n").unwrap_err().to_string();
    assert!(error.starts_with("line 2: expected an entry or"), "{error}");
}

#[test]
fn a_block_must_not_write_what_another_reads() {
    let text = ".visible .entry k(\n.param .u64 values\n)\n{\n.reg .pred %p<1>;\n.reg .b32 %r<2>;\n.reg .b64 %rd<1>;\n\
                ld.param.u64 %rd0, [values];\nmov.u32 %r0, %ctaid.x;\nld.global.u32 %r1, [%rd0];\n\
                setp.eq.u32 %p0, %r0, 1;\n@%p0 st.global.u32 [%rd0], %r1;\nret;\n}\n";
    let module = Module::parse(text).unwrap();
    let launch = |blocks: u32| {
        let mut memory = Memory::new();
        let values = memory.in_place("values", &[7u32]);
        let grid = Grid { blocks: [blocks, 1, 1], threads: 1, shared_bytes: 0 };
        let ran = module.entry("k").unwrap().launch(grid, &[LaunchArgument::Pointer(values)], &mut memory);
        ran.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(launch(1), Ok(()));
    let problem = launch(2).unwrap_err();
    assert!(
        problem.contains("byte 0 of `values` is written, and another block of this launch reads it"),
        "{problem}"
    );
}

#[test]
fn launches_are_checked() {
    let text = ".visible .entry k(\n.param .u32 a,\n.param .u64 b\n)\n.maxntid 64, 1, 1\n{\nret;\n}\n";
    let module = Module::parse(text).unwrap();
    let entry = module.entry("k").unwrap();
    assert_eq!(entry.parameters.iter().map(|p| (p.offset, p.bytes)).collect::<Vec<_>>(), [(0, 4), (8, 8)]);
    let launch = |threads: u32, arguments: &[LaunchArgument]| {
        let grid = Grid { blocks: [1, 1, 1], threads, shared_bytes: 0 };
        entry.launch(grid, arguments, &mut Memory::new()).map_err(|fault| fault.to_string())
    };
    let good = [LaunchArgument::I32(1), LaunchArgument::I64(2)];
    assert_eq!(launch(64, &good).unwrap().total(), 2);
    assert_eq!(launch(65, &good).unwrap_err(), "k: expected 1 to 64 threads, found 65");
    assert_eq!(launch(1, &good[..1]).unwrap_err(), "k: expected 2 arguments, found 1");
    assert_eq!(launch(1, &[good[1], good[0]]).unwrap_err(), "k: expected 4 bytes for `a`, found I64(2)");
}
