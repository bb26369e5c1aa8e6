/* cpu.h -- the CPU back end's face: fused kernels to machine code through the LLVM C API.
 *
 * Only files of compiler/cpu include llvm-c. A CpuModule collects kernels (equal signatures are built once),
 * then writes object files: one, or several that are made in parallel. The first holds `tic_kernels` and, when given, the
 * program blob. */
#ifndef CPU_CPU_H
#define CPU_CPU_H
#include "pass/kernel.h"

typedef struct CpuModule CpuModule;
/* cpu: "native", NULL: the host; or "x86-64-v3", "znver4", ... parts: object files, 0 is 1. lean: memory is short, and was planned
 * without operands that are packed once (contract.c). */
typedef struct { const char *cpu, *features; int parts; bool lean; } CpuTarget;

CpuModule *cpu_module_new(Arena *a, const CpuTarget *t, Text *why);     /* NULL: unknown target */
/* The CPU's name, vector width in f32 lanes and whether AVX512_BF16 is there, for `info`. */
const char *cpu_module_target(const CpuModule *m);

/* Lowers kernel k of f: one or more launches (a two-phase reduction has two). For each, launch[i].kernel is an index
 * into tic_kernels and launch[i].arg the tensors its buf[] wants; `main` is the one that does the arithmetic; workspace tensors needed between phases are added
 * to f->graph as T_TEMP tensors (and to f->storage). Returns the number of launches, or -1 and a sentence. */
typedef struct { int kernel; const int *arg; int n_arg; bool main; } CpuLaunch;
int cpu_lower(CpuModule *m, Fused *f, const Kernel *k, CpuLaunch *launch, int cap, Text *why);
/* The f32 elements of workspace that lowering k takes, into *elements; the kernel is lowered for it. False and a sentence when it
 * cannot be (MemoryGoal). */
bool cpu_workspace(CpuModule *m, Fused *f, const Kernel *k, Poly *elements, Text *why);
/* Whether a SCORE kernel can be lowered (FuseOptions). */
bool cpu_takes_score(Graph *g, const Kernel *k);
int cpu_module_kernels(const CpuModule *m);                             /* how many distinct functions so far */

int cpu_module_parts(const CpuModule *m);
/* The file of a part: `path` itself for the first, "path.N.o" for the others; in the arena of the module. */
const char *cpu_module_path(const CpuModule *m, const char *path, int part);

/* Emits all parts, each on a thread. blob: contents of `tic_program`. kind: 'o' object, 's' assembly, 'l' LLVM text.
 * The module may not be used afterwards. */
bool cpu_module_emit(CpuModule *m, const void *blob, size_t blob_size, const char *path, char kind, Text *why);
void cpu_module_free(CpuModule *m);
#endif
