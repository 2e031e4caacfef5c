//! Each instruction on values that are computed by hand from the PTX ISA.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

use thimble_ptx::{Grid, LaunchArgument, Memory, Module};

const GRID: Grid = Grid { blocks: [1, 1, 1], threads: 1, shared_bytes: 0 };

/// Runs one instruction on three inputs, which are in `%rd`, `%r` and `%rs` 1 to 3, and as predicates (not 0) in `%p`. Its result
/// is `%y` (64 bits), `%x` (32), `%w` (16) or `%q` (predicate).
fn run(instruction: &str, inputs: [u64; 3]) -> u64 {
    let result = ["%y", "%x", "%w", "%q"].into_iter().find(|name| instruction.contains(name)).unwrap();
    let widened = match result {
        "%y" => "mov.b64 %rd9, %y;",
        "%x" => "cvt.u64.u32 %rd9, %x;",
        "%w" => "cvt.u64.u16 %rd9, %w;",
        _ => "selp.b64 %rd9, 1, 0, %q;",
    };
    let text = format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(\n.param .u64 from,\n.param .u64 to\n)\n{{\n\
         .reg .pred %p<4>, %q, %unused;\n.reg .b16 %rs<4>, %w;\n.reg .b32 %r<4>, %x;\n.reg .b64 %rd<10>, %y;\n\
         ld.param.u64 %rd4, [from];\nld.param.u64 %rd5, [to];\n\
         ld.global.v2.u64 {{%rd1, %rd2}}, [%rd4];\nld.global.u64 %rd3, [%rd4+16];\n\
         cvt.u32.u64 %r1, %rd1;\ncvt.u32.u64 %r2, %rd2;\ncvt.u32.u64 %r3, %rd3;\n\
         cvt.u16.u64 %rs1, %rd1;\ncvt.u16.u64 %rs2, %rd2;\ncvt.u16.u64 %rs3, %rd3;\n\
         setp.ne.s64 %p1, %rd1, 0;\nsetp.ne.s64 %p2, %rd2, 0;\nsetp.ne.s64 %p3, %rd3, 0;\n\
         {instruction};\n{widened}\nst.global.u64 [%rd5], %rd9;\nret;\n}}\n"
    );
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{instruction}: {error}"));
    let mut memory = Memory::new();
    let (from, to) = (memory.input("inputs", &inputs), memory.output("result", 8));
    let arguments = [LaunchArgument::Pointer(from), LaunchArgument::Pointer(to)];
    let ran = module.entry("k").unwrap().launch(GRID, &arguments, &mut memory);
    ran.unwrap_or_else(|fault| panic!("{instruction}: {fault}"));
    memory.read::<u64>(to).unwrap()[0]
}

fn check(cases: &[(&str, [u64; 3], u64)]) {
    for (instruction, inputs, expected) in cases {
        let found = run(instruction, *inputs);
        assert_eq!(
            found, *expected,
            "{instruction} of {inputs:x?}: expected {expected:#x}, found {found:#x}"
        );
    }
}

const MINUS_7: u64 = -7i64 as u64;

#[test]
fn integers() {
    check(&[
        ("add.s32 %x, %r1, %r2", [0xffff_ffff, 2, 0], 1),
        ("add.s64 %y, %rd1, -8", [5, 0, 0], -3i64 as u64),
        ("add.s16 %w, %rs1, %rs2", [0xffff, 3, 0], 2),
        ("sub.s32 %x, %r1, %r2", [3, 5, 0], 0xffff_fffe),
        ("mul.lo.s32 %x, %r1, %r2", [0x1_0001, 0x1_0001, 0], 0x2_0001),
        ("mul.hi.u32 %x, %r1, %r2", [0x8000_0000, 6, 0], 3),
        ("mul.hi.s32 %x, %r1, %r2", [MINUS_7, 1, 0], 0xffff_ffff),
        ("mul.wide.u32 %y, %r1, %r2", [0xffff_ffff, 2, 0], 0x1_ffff_fffe),
        ("mul.wide.s32 %y, %r1, %r2", [MINUS_7, 2, 0], -14i64 as u64),
        ("mul.wide.u16 %x, %rs1, %rs2", [0xffff, 2, 0], 0x1_fffe),
        ("mad.lo.s32 %x, %r1, %r2, %r3", [3, 5, 7], 22),
        ("mad.wide.s32 %y, %r1, %r2, %rd3", [MINUS_7, 4, 1 << 40], (1u64 << 40) - 28),
        ("div.s32 %x, %r1, %r2", [MINUS_7, 2, 0], 0xffff_fffd),
        ("div.u32 %x, %r1, %r2", [0xffff_fff9, 16, 0], 0x0fff_ffff),
        ("div.s64 %y, %rd1, %rd2", [MINUS_7, 2, 0], -3i64 as u64),
        ("rem.s32 %x, %r1, %r2", [MINUS_7, 2, 0], 0xffff_ffff),
        ("rem.u32 %x, %r1, 5", [17, 0, 0], 2),
        ("min.s32 %x, %r1, %r2", [MINUS_7, 2, 0], 0xffff_fff9),
        ("min.u32 %x, %r1, %r2", [MINUS_7, 2, 0], 2),
        ("max.s64 %y, %rd1, %rd2", [MINUS_7, 2, 0], 2),
        ("neg.s32 %x, %r1", [7, 0, 0], 0xffff_fff9),
        ("abs.s32 %x, %r1", [MINUS_7, 0, 0], 7),
        ("popc.b32 %x, %r1", [0xf0f, 0, 0], 8),
        ("clz.b32 %x, %r1", [0xff, 0, 0], 24),
        ("brev.b32 %x, %r1", [1, 0, 0], 0x8000_0000),
    ]);
}

#[test]
fn bits() {
    check(&[
        ("and.b32 %x, %r1, %r2", [0xff00, 0x0ff0, 0], 0x0f00),
        ("or.b64 %y, %rd1, %rd2", [1 << 40, 1, 0], (1 << 40) | 1),
        ("xor.b32 %x, %r1, %r2", [0xff, 0xf, 0], 0xf0),
        ("not.b32 %x, %r1", [0xf, 0, 0], 0xffff_fff0),
        ("not.pred %q, %p1", [0, 0, 0], 1),
        ("and.pred %q, %p1, %p2", [1, 0, 0], 0),
        ("shl.b32 %x, %r1, %r2", [3, 4, 0], 48),
        ("shl.b32 %x, %r1, 32", [3, 0, 0], 0),
        ("shl.b64 %y, %rd1, %r2", [3, 40, 0], 3 << 40),
        ("shr.u32 %x, %r1, 31", [MINUS_7, 0, 0], 1),
        ("shr.s32 %x, %r1, 1", [MINUS_7, 0, 0], 0xffff_fffc),
        ("shr.s32 %x, %r1, 99", [MINUS_7, 0, 0], 0xffff_ffff),
        ("shr.u64 %y, %rd1, 32", [MINUS_7, 0, 0], 0xffff_ffff),
        ("bfe.u32 %x, %r1, 4, 8", [0xabcd, 0, 0], 0xbc),
        ("bfe.s32 %x, %r1, 4, 8", [0xabcd, 0, 0], 0xffff_ffbc),
        ("bfi.b32 %x, %r1, %r2, 8, 8", [0xab, 0x1234_5678, 0], 0x1234_ab78),
        ("bfi.b64 %y, %rd1, %rd2, 32, 32", [0xffff, 7, 0], 0xffff_0000_0007),
        ("prmt.b32 %x, %r1, %r2, 0x5410", [0x3322_1100, 0x7766_5544, 0], 0x5544_1100),
        ("prmt.b32 %x, %r1, 0, 0x8888", [0x80, 0, 0], 0xffff_ffff),
        ("lop3.b32 %x, %r1, %r2, %r3, 0xca", [0xf0, 0xaa, 0x55], 0xa5),
        ("lop3.b32 %x, %r1, %r2, %r3, 0x96", [0xf0, 0xaa, 0x55], 0x0f),
        ("shf.l.wrap.b32 %x, %r1, %r2, 8", [0xaa00_0000, 0x11, 0], 0x11aa),
        ("shf.r.wrap.b32 %x, %r1, %r2, 8", [0xaa00, 0x11, 0], 0x1100_00aa),
        ("selp.b32 %x, %r1, %r2, %p3", [1, 2, 0], 2),
        ("selp.b64 %y, %rd1, %rd2, %p3", [1, 2, 3], 1),
        ("mov.b64 %y, {%r1, %r2}", [0xffff_fff9, 3, 0], 0x3_ffff_fff9),
        ("mov.b32 {_, %w}, %r1", [0xabcd_1234, 0, 0], 0xabcd),
        ("mov.u32 %x, %ntid.x", [0, 0, 0], 1),
    ]);
}

#[test]
fn comparisons() {
    let (one, nan) = (0x3f80_0000, 0x7fc0_0000);
    check(&[
        ("setp.lt.s32 %q, %r1, %r2", [MINUS_7, 2, 0], 1),
        ("setp.lt.u32 %q, %r1, %r2", [MINUS_7, 2, 0], 0),
        ("setp.ge.s64 %q, %rd1, %rd2", [MINUS_7, 2, 0], 0),
        ("setp.eq.b32 %q, %r1, %r2", [1 << 32, 0, 0], 1),
        ("setp.gt.s16 %q, %rs1, %rs2", [0xffff, 0, 0], 0),
        ("setp.lt.f32 %q, %r1, 0f40000000", [one, 0, 0], 1),
        ("setp.ne.f32 %q, %r1, %r2", [one, nan, 0], 0),
        ("setp.neu.f32 %q, %r1, %r2", [one, nan, 0], 1),
        ("setp.leu.f32 %q, %r1, %r2", [one, nan, 0], 1),
        ("setp.gt.f32 %q, %r1, %r2", [one, nan, 0], 0),
        ("setp.nan.f32 %q, %r1, %r2", [one, nan, 0], 1),
        ("setp.lt.and.s32 %q, %r1, %r2, %p3", [1, 2, 0], 0),
        ("setp.lt.or.s32 %q, %r1, %r2, !%p3", [2, 1, 0], 1),
        ("setp.lt.s32 %unused|%q, %r1, %r2", [1, 2, 0], 0),
        ("setp.le.f64 %q, %rd1, 0d3FF0000000000000", [1.0f64.to_bits(), 0, 0], 1),
    ]);
}

fn f(x: f32) -> u64 {
    x.to_bits().into()
}

#[test]
fn floats() {
    let tiny = f32::from_bits(1);
    check(&[
        ("add.f32 %x, %r1, %r2", [f(1.5), f(2.25), 0], f(3.75)),
        ("sub.rn.f32 %x, %r1, %r2", [f(1.5), f(2.25), 0], f(-0.75)),
        ("mul.f32 %x, %r1, %r2", [f(1.5), f(-2.0), 0], f(-3.0)),
        ("mul.ftz.f32 %x, %r1, %r2", [f(tiny), f(1e30), 0], 0),
        // Not rounded in between: 4097^2 = 2^24 + 2^13 + 1 has 25 bits.
        ("fma.rn.f32 %x, %r1, %r2, %r3", [f(4097.0), f(4097.0), f(-16_785_408.0)], f(1.0)),
        ("div.rn.f32 %x, %r1, %r2", [f(1.0), f(3.0), 0], f(1.0 / 3.0)),
        ("div.approx.f32 %x, %r1, %r2", [f(3.0), f(2.0), 0], f(1.5)),
        ("max.f32 %x, %r1, %r2", [f(f32::NAN), f(2.0), 0], f(2.0)),
        ("min.f32 %x, %r1, %r2", [f(-1.0), f(2.0), 0], f(-1.0)),
        ("neg.f32 %x, %r1", [f(2.0), 0, 0], f(-2.0)),
        ("abs.f32 %x, %r1", [f(-2.0), 0, 0], f(2.0)),
        ("rcp.rn.f32 %x, %r1", [f(8.0), 0, 0], f(0.125)),
        ("sqrt.rn.f32 %x, %r1", [f(2.25), 0, 0], f(1.5)),
        ("rsqrt.approx.f32 %x, %r1", [f(4.0), 0, 0], f(0.5)),
        ("ex2.approx.ftz.f32 %x, %r1", [f(-3.0), 0, 0], f(0.125)),
        ("ex2.approx.ftz.f32 %x, %r1", [f(-140.0), 0, 0], 0),
        ("lg2.approx.f32 %x, %r1", [f(0.125), 0, 0], f(-3.0)),
        ("add.f64 %y, %rd1, %rd2", [0.1f64.to_bits(), 0.2f64.to_bits(), 0], (0.1f64 + 0.2).to_bits()),
        ("fma.rn.f64 %y, %rd1, %rd2, %rd3", [2f64.to_bits(), 3f64.to_bits(), 1f64.to_bits()], 7f64.to_bits()),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("cvt.s64.s32 %y, %r1", [MINUS_7, 0, 0], MINUS_7),
        ("cvt.u64.u32 %y, %r1", [MINUS_7, 0, 0], 0xffff_fff9),
        ("cvt.u32.u64 %x, %rd1", [(1 << 40) | 5, 0, 0], 5),
        ("cvt.s32.s8 %x, %r1", [0x80, 0, 0], 0xffff_ff80),
        ("cvt.u16.u32 %w, %r1", [0x12_3456, 0, 0], 0x3456),
        ("cvt.rn.f32.s32 %x, %r1", [MINUS_7, 0, 0], f(-7.0)),
        // 2^24 + 1 is between two floats, and the lower one is even.
        ("cvt.rn.f32.u32 %x, %r1", [(1 << 24) + 1, 0, 0], f(16_777_216.0)),
        ("cvt.rn.f32.s64 %x, %rd1", [MINUS_7, 0, 0], f(-7.0)),
        ("cvt.rzi.s32.f32 %x, %r1", [f(-2.7), 0, 0], -2i32 as u32 as u64),
        ("cvt.rni.s32.f32 %x, %r1", [f(2.5), 0, 0], 2),
        ("cvt.rmi.s32.f32 %x, %r1", [f(-2.1), 0, 0], -3i32 as u32 as u64),
        ("cvt.rpi.f32.f32 %x, %r1", [f(2.1), 0, 0], f(3.0)),
        ("cvt.rzi.s32.f32 %x, %r1", [f(1e20), 0, 0], 0x7fff_ffff),
        ("cvt.sat.f32.f32 %x, %r1", [f(1.7), 0, 0], f(1.0)),
        ("cvt.f64.f32 %y, %r1", [f(0.5), 0, 0], 0.5f64.to_bits()),
        ("cvt.rn.f32.f64 %x, %rd1", [0.1f64.to_bits(), 0, 0], f(0.1)),
        ("cvt.rn.bf16.f32 %w, %r1", [f(1.0), 0, 0], 0x3f80),
        // Halfway between two: the even one, down and up.
        ("cvt.rn.bf16.f32 %w, %r1", [0x3f80_8000, 0, 0], 0x3f80),
        ("cvt.rn.bf16.f32 %w, %r1", [0x3f81_8000, 0, 0], 0x3f82),
        ("cvt.rz.bf16.f32 %w, %r1", [0x3f81_ffff, 0, 0], 0x3f81),
        ("cvt.rn.bf16.f32 %w, %r1", [f(f32::MAX), 0, 0], 0x7f80),
        ("cvt.rn.bf16.f32 %w, %r1", [f(f32::NAN), 0, 0], 0x7fff),
        // The first source is the upper half.
        ("cvt.rn.bf16x2.f32 %x, %r1, %r2", [f(1.0), f(-2.0), 0], 0x3f80_c000),
        ("cvt.f32.bf16 %x, %rs1", [0xc000, 0, 0], f(-2.0)),
    ]);
}
