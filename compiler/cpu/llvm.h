/* llvm.h -- the target machine and the few places where LLVM versions or x86 intrinsics matter.
 *
 * Everything else in compiler/cpu builds IR through vec.h and asks a Target what the machine can do: the number of
 * f32 lanes of a vector, whether fused multiply-add, rounding and AVX-512 instructions exist. An intrinsic that the
 * target lacks ends the process inside LLVM, so each is checked here before it is emitted. */
#ifndef CPU_LLVM_H
#define CPU_LLVM_H
#include "cpu/cpu.h"
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

typedef LLVMValueRef V;
typedef LLVMTypeRef Ty;
typedef LLVMBasicBlockRef Block;

typedef struct Target {
    Arena *arena;
    LLVMContextRef ctx;
    LLVMModuleRef module;
    LLVMTargetMachineRef machine;
    char *cpu, *features, *triple;     /* LLVM's own strings */
    const char *name;                  /* for people: "znver4, 16 lanes, AVX512_BF16" */
    int lanes;                         /* f32 lanes of a vector: 16, 8 or 4 */
    int registers;                     /* vector registers: 32 or 16 */
    bool avx512, bf16;
    bool pairs;                        /* multiplying pairs of bf16 is twice as fast as f32: AMD; slower on Intel, which wants AMX */
    bool fma;                          /* llvm.fma is an instruction */
    bool rounds;                       /* floor and roundeven are instructions */
    Ty i1, i8, i16, i32, i64, f32, f64, ptr, none;
    Ty vpair;                          /* 2 * lanes of bfloat */
    Ty vf, vi, vl, vb, vd, vs;         /* `lanes` of f32, i32, i64, i1, f64, i16 */
} Target;

Target *target_new(Arena *a, const CpuTarget *want, Text *why);     /* NULL and a sentence */
void target_free(Target *t);
/* Verifies the module and writes it: 'o' object, 's' assembly, 'l' LLVM text. */
bool target_emit(Target *t, const char *path, char kind, Text *why);
/* Gives a function of the module the attributes of generated code. */
void target_function(Target *t, V fn);

/* Calls an intrinsic; over: the types it is overloaded on. */
V llvm_call(Target *t, LLVMBuilderRef b, const char *name, Ty *over, int n_over, V *arg, int n_arg);
/* Loads and stores of the lanes that mask has; others are not touched in memory, and read as zero. p: a pointer, or
 * for gather and scatter a vector of pointers. Elements are aligned to their size. */
V llvm_masked_load(Target *t, LLVMBuilderRef b, Ty vector, V p, V mask);
void llvm_masked_store(Target *t, LLVMBuilderRef b, V value, V p, V mask);
V llvm_gather(Target *t, LLVMBuilderRef b, Ty vector, V p, V mask);
void llvm_scatter(Target *t, LLVMBuilderRef b, V value, V p, V mask);
/* c[l] + a[2l] * b[2l] + a[2l + 1] * b[2l + 1] in f32; denormals count as zero. Target.bf16 only. */
V llvm_dot_pairs(Target *t, LLVMBuilderRef b, V c, V x, V y);
/* p * 2^n for n a whole number in [-150, 150] given as f32; AVX-512 only. */
V llvm_scale(Target *t, LLVMBuilderRef b, V p, V n);
/* The loop that the branch `back` repeats begins at a multiple of `bytes`, a power of two. */
void llvm_align_loop(Target *t, V back, unsigned bytes);
#endif
