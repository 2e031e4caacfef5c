// Switching between stacks. Own assembly on x86-64 and aarch64 takes 20 ns, ucontext (elsewhere) twenty times that.
#pragma once
#include <cstddef>
#include <cstring>

#if !defined(EMULATOR_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define EMULATOR_UCONTEXT
#endif

#ifdef EMULATOR_UCONTEXT
#include <ucontext.h>
namespace emulator {
struct Context { ucontext_t state; };
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}
inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
}  // namespace emulator
#else

#ifdef __APPLE__
#define EMULATOR_SYMBOL "_emulator_switch_stack"
#else
#define EMULATOR_SYMBOL "emulator_switch_stack"
#endif

// Pushes the registers that a call preserves, saves the stack pointer, and does the reverse on the other stack. The symbol is
// local to the object file.
extern "C" void emulator_switch_stack(void** save, void* load);
#if defined(__x86_64__)
asm(".text\n" EMULATOR_SYMBOL R"(:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
asm(".text\n.balign 4\n" EMULATOR_SYMBOL R"(:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#endif

namespace emulator {
struct Context { void* stack_pointer; };

// `entry` begins at the first switch and never returns.
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
#if defined(__x86_64__)
  // Six registers, the address that `ret` takes, and a return address for `entry`, whose stack is then 8 modulo 16.
  constexpr size_t FRAME = 8, ENTRY = 6;
#else
  // Registers as above; x30 is the twelfth.
  constexpr size_t FRAME = 20, ENTRY = 11;
#endif
  void** frame = reinterpret_cast<void**>(stack + bytes - 64) - FRAME;
  memset(frame, 0, FRAME * sizeof(void*));
  frame[ENTRY] = reinterpret_cast<void*>(entry);
  context.stack_pointer = frame;
}
inline void switch_context(Context& from, Context& to) { emulator_switch_stack(&from.stack_pointer, to.stack_pointer); }
}  // namespace emulator
#endif
