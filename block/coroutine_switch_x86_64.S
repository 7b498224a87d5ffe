/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coroutine_switch.h for x86-64, System V ABI.
 *
 * A context is the stack pointer of a stack that does not run, with this on it, upwards:
 * r15 r14 r13 r12 rbx rbp, the return address. The floating-point control words are kept across
 * calls too by the ABI, but nothing here ever changes them, so they are not saved.
 *
 * The unwind tables are right at every instruction: both stacks have the same shape at the moment
 * of the change, so a debugger walks through a switch, and its walk ends at the trampoline.
 */
        .text

/* void coroutine_context_switch(void **ret_own [rdi], void *context [rsi]) */
        .globl  coroutine_context_switch
        .type   coroutine_context_switch, @function
        .p2align 4
coroutine_context_switch:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
        ret
        .cfi_endproc
        .size   coroutine_context_switch, . - coroutine_context_switch

/* void *coroutine_context_make(stack_low [rdi], stack_top [rsi], run [rdx], arg [rcx]) */
        .globl  coroutine_context_make
        .type   coroutine_context_make, @function
        .p2align 4
coroutine_context_make:
        .cfi_startproc
        /* 72 below the top: six registers, the return address, and 16 bytes of nothing, so that
         * the trampoline starts with an aligned stack. */
        leaq    -72(%rsi), %rax
        leaq    trampoline_entry(%rip), %r8
        movq    $0, (%rax)              /* r15 */
        movq    $0, 8(%rax)             /* r14 */
        movq    %rdx, 16(%rax)          /* r13: run */
        movq    %rcx, 24(%rax)          /* r12: arg */
        movq    $0, 32(%rax)            /* rbx */
        movq    $0, 40(%rax)            /* rbp: the end of the chain of frames */
        movq    %r8, 48(%rax)           /* the return address */
        movq    $0, 56(%rax)
        movq    $0, 64(%rax)
        ret
        .cfi_endproc
        .size   coroutine_context_make, . - coroutine_context_make

        .type   trampoline, @function
        .p2align 4
trampoline:
        .cfi_startproc
        .cfi_undefined %rip             /* nobody called this: an unwinder stops here */
        nop                             /* unwinders look one byte before a return address */
trampoline_entry:
        movq    %r12, %rdi
        call    *%r13
        ud2
        .cfi_endproc
        .size   trampoline, . - trampoline

        .section .note.GNU-stack, "", @progbits
