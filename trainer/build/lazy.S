/* One half of a lazy archive (lazy.c is the other): the functions themselves. Each jumps to where it was found; before
 * that, its first call goes through LAZY_resolve with every argument register of the x86-64 System V convention kept.
 * The functions take at most xmm registers by value and none is variadic, so these are all that need keeping.
 */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(LAZY, _table)
#define RESOLVE JOIN(LAZY, _resolve)
#define FIRST_CALL JOIN(LAZY, _first_call)

#define SYMBOL(index, name, kind)          \
  .globl name;                             \
  .hidden name;                            \
  .type name, @function;                   \
name:                                      \
  movq TABLE + 8 * (index)(%rip), %rax;    \
  testq %rax, %rax;                        \
  jz 1f;                                   \
  jmp *%rax;                               \
1:                                         \
  pushq $(index);                          \
  jmp FIRST_CALL;                          \
  .size name, . - name;

  .text
#include "symbols.inc"

  .type FIRST_CALL, @function
FIRST_CALL:
  /* The stack is 16-byte aligned here: the caller's return address and the index are on it. */
  pushq %rdi
  pushq %rsi
  pushq %rdx
  pushq %rcx
  pushq %r8
  pushq %r9
  pushq %r10
  pushq %r11
  subq $128, %rsp
  movups %xmm0, 0(%rsp)
  movups %xmm1, 16(%rsp)
  movups %xmm2, 32(%rsp)
  movups %xmm3, 48(%rsp)
  movups %xmm4, 64(%rsp)
  movups %xmm5, 80(%rsp)
  movups %xmm6, 96(%rsp)
  movups %xmm7, 112(%rsp)
  movq 192(%rsp), %rdi
  call RESOLVE
  movups 0(%rsp), %xmm0
  movups 16(%rsp), %xmm1
  movups 32(%rsp), %xmm2
  movups 48(%rsp), %xmm3
  movups 64(%rsp), %xmm4
  movups 80(%rsp), %xmm5
  movups 96(%rsp), %xmm6
  movups 112(%rsp), %xmm7
  addq $128, %rsp
  popq %r11
  popq %r10
  popq %r9
  popq %r8
  popq %rcx
  popq %rdx
  popq %rsi
  popq %rdi
  addq $8, %rsp
  jmp *%rax
  .size FIRST_CALL, . - FIRST_CALL

  .section .note.GNU-stack, "", @progbits
