/* target.c -- the machine code is made for; the only file that depends on the LLVM version.
 *
 * "native" takes the host's name and features. A named x86 processor must be one of a short list, because the C
 * interface does not tell which features a name implies and vectors are written out by us, not by LLVM.
 *
 * The masked memory intrinsics took their alignment as an operand up to LLVM 21 and as a parameter attribute after;
 * which form holds is asked of the loaded library (the number of parameters), so one binary serves both. */
#include "cpu/llvm.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/DebugInfo.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct Known {
    const char *cpu;
    int level;                         /* x86-64 micro-architecture level 1..4 */
    bool bf16;
} Known;

static const Known known_x86[] = {
    {"x86-64", 1, false},         {"x86-64-v2", 2, false},      {"x86-64-v3", 3, false},    {"x86-64-v4", 4, false},
    {"haswell", 3, false},        {"broadwell", 3, false},      {"skylake", 3, false},      {"alderlake", 3, false},
    {"skylake-avx512", 4, false}, {"cascadelake", 4, false},    {"cooperlake", 4, true},    {"icelake-client", 4, false},
    {"icelake-server", 4, false}, {"tigerlake", 4, false},      {"sapphirerapids", 4, true},
    {"emeraldrapids", 4, true},   {"graniterapids", 4, true},   {"znver1", 3, false},       {"znver2", 3, false},
    {"znver3", 3, false},         {"znver4", 4, true},          {"znver5", 4, true},
};

/* LLVM calls this for what it can not lower, and ends the process when it returns. */
static void fatal(const char *reason)
{
    fprintf(stderr, "ticc: LLVM: %s\n", reason);
    _exit(70);
}

static bool has_feature(const char *features, const char *name)
{
    size_t n = strlen(name);
    for (const char *s = features; s && *s; s = strchr(s, ','), s = s ? s + 1 : NULL)
        if (*s == '+' && !strncmp(s + 1, name, n) && (s[n + 1] == ',' || !s[n + 1]))
            return true;
    return false;
}

/* What the processor can do, from its name and the features `asked` for. */
static bool find_features(Target *t, bool native, const char *asked, Text *why)
{
    bool x86 = !strncmp(t->triple, "x86_64", 6);
    t->registers = 16;
    if (!x86) {
        if (strncmp(t->triple, "aarch64", 7)) {
            text_printf(why, "processor family `%s`, expected x86_64 or aarch64", t->triple);
            return false;
        }
        t->lanes = 4;
        t->registers = 32;
        t->fma = t->rounds = true;
        return true;
    }
    int level = 0;
    const char *f = t->features;
    if (native) {
        level = 1;
        if (has_feature(f, "sse4.1"))
            level = 2;
        if (level == 2 && has_feature(f, "avx2") && has_feature(f, "fma"))
            level = 3;
        if (level == 3 && has_feature(f, "avx512f") && has_feature(f, "avx512bw") && has_feature(f, "avx512dq") &&
            has_feature(f, "avx512vl"))
            level = 4;
        t->bf16 = level == 4 && has_feature(f, "avx512bf16");
    } else {
        for (size_t i = 0; i < LEN(known_x86); i++)
            if (!strcmp(known_x86[i].cpu, t->cpu)) {
                level = known_x86[i].level;
                t->bf16 = known_x86[i].bf16;
            }
        if (!level) {
            text_printf(why, "unknown processor `%s`; known are native", t->cpu);
            for (size_t i = 0; i < LEN(known_x86); i++)
                text_printf(why, "%s%s", i + 1 < LEN(known_x86) ? ", " : " and ", known_x86[i].cpu);
            return false;
        }
        t->bf16 |= level == 4 && has_feature(f, "avx512bf16");
    }
    t->pairs = t->bf16 && (!strncmp(t->cpu, "znver", 5) || (asked && has_feature(asked, "avx512bf16")));
    t->avx512 = level == 4;
    t->fma = level >= 3;
    t->rounds = level >= 2;
    t->lanes = level == 4 ? 16 : level == 3 ? 8 : 4;
    t->registers = level == 4 ? 32 : 16;
    return true;
}

static void make_types(Target *t)
{
    unsigned w = (unsigned)t->lanes;
    t->i1 = LLVMInt1TypeInContext(t->ctx);
    t->i8 = LLVMInt8TypeInContext(t->ctx);
    t->i16 = LLVMInt16TypeInContext(t->ctx);
    t->i32 = LLVMInt32TypeInContext(t->ctx);
    t->i64 = LLVMInt64TypeInContext(t->ctx);
    t->f32 = LLVMFloatTypeInContext(t->ctx);
    t->f64 = LLVMDoubleTypeInContext(t->ctx);
    t->ptr = LLVMPointerTypeInContext(t->ctx, 0);
    t->none = LLVMVoidTypeInContext(t->ctx);
    t->vpair = LLVMVectorType(LLVMBFloatTypeInContext(t->ctx), 2 * w);
    t->vf = LLVMVectorType(t->f32, w);
    t->vi = LLVMVectorType(t->i32, w);
    t->vl = LLVMVectorType(t->i64, w);
    t->vb = LLVMVectorType(t->i1, w);
    t->vd = LLVMVectorType(t->f64, w);
    t->vs = LLVMVectorType(t->i16, w);
}

Target *target_new(Arena *a, const CpuTarget *want, Text *why)
{
    bool native = !want || !want->cpu || !strcmp(want->cpu, "native");
    if (LLVMInitializeNativeTarget() || LLVMInitializeNativeAsmPrinter()) {
        text_printf(why, "this LLVM has no back end for the machine it runs on");
        return NULL;
    }
    LLVMResetFatalErrorHandler();
    LLVMInstallFatalErrorHandler(fatal);
    Target *t = NEW(a, Target);
    t->arena = a;
    char *triple = LLVMGetDefaultTargetTriple();
    char *cpu = native ? LLVMGetHostCPUName() : NULL;
    char *features = native ? LLVMGetHostCPUFeatures() : NULL;
    t->triple = arena_printf(a, "%s", triple);
    t->cpu = arena_printf(a, "%s", cpu ? cpu : want->cpu);
    const char *more = want && want->features ? want->features : "";
    t->features = arena_printf(a, "%s%s%s", features ? features : "", features && *features && *more ? "," : "", more);
    LLVMDisposeMessage(triple);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    if (!find_features(t, native, want ? want->features : NULL, why))
        return NULL;
    LLVMTargetRef llvm;
    char *error = NULL;
    if (LLVMGetTargetFromTriple(t->triple, &llvm, &error)) {
        text_printf(why, "%s", error);
        LLVMDisposeMessage(error);
        return NULL;
    }
    t->machine = LLVMCreateTargetMachine(llvm, t->triple, t->cpu, t->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                         LLVMCodeModelDefault);
    t->ctx = LLVMContextCreate();
    t->module = LLVMModuleCreateWithNameInContext("ticc", t->ctx);
    LLVMSetTarget(t->module, t->triple);
    LLVMTargetDataRef data = LLVMCreateTargetDataLayout(t->machine);
    LLVMSetModuleDataLayout(t->module, data);
    LLVMDisposeTargetData(data);
    make_types(t);
    t->name = arena_printf(a, "%s, %d lanes%s", t->cpu, t->lanes, t->bf16 ? ", AVX512_BF16" : "");
    return t;
}

void target_free(Target *t)
{
    if (t->module)
        LLVMDisposeModule(t->module);
    if (t->machine)
        LLVMDisposeTargetMachine(t->machine);
    if (t->ctx)
        LLVMContextDispose(t->ctx);
    t->module = NULL;
    t->machine = NULL;
    t->ctx = NULL;
}

/* NULL is the standard output. */
static bool write_file(const char *path, const char *data, size_t size, Text *why)
{
    FILE *f = path ? fopen(path, "wb") : stdout;
    bool ok = f && fwrite(data, 1, size, f) == size;
    if (f)
        ok &= (path ? fclose(f) : fflush(f)) == 0;
    if (!ok)
        text_printf(why, "%s cannot be written: %s", path ? path : "the standard output", strerror(errno));
    return ok;
}

bool target_emit(Target *t, const char *path, char kind, Text *why)
{
    char *error = NULL;
    if (LLVMVerifyModule(t->module, LLVMReturnStatusAction, &error)) {
        text_printf(why, "generated code is not valid: %s", error);
        LLVMDisposeMessage(error);
        return false;
    }
    LLVMDisposeMessage(error);
    error = NULL;
    if (kind == 'l') {
        char *text = LLVMPrintModuleToString(t->module);
        bool ok = write_file(path, text, strlen(text), why);
        LLVMDisposeMessage(text);
        return ok;
    }
    LLVMMemoryBufferRef code;                                      /* LLVM ends the process when it cannot write a file */
    if (LLVMTargetMachineEmitToMemoryBuffer(t->machine, t->module, kind == 's' ? LLVMAssemblyFile : LLVMObjectFile, &error, &code)) {
        text_printf(why, "no machine code: %s", error ? error : "LLVM does not say why");
        LLVMDisposeMessage(error);
        return false;
    }
    bool ok = write_file(path, LLVMGetBufferStart(code), LLVMGetBufferSize(code), why);
    LLVMDisposeMemoryBuffer(code);
    return ok;
}

static void string_attribute(Target *t, V fn, const char *key, const char *value)
{
    LLVMAttributeRef a =
        LLVMCreateStringAttribute(t->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}

static LLVMAttributeRef enum_attribute(Target *t, const char *key, uint64_t value)
{
    return LLVMCreateEnumAttribute(t->ctx, LLVMGetEnumAttributeKindForName(key, strlen(key)), value);
}

void target_function(Target *t, V fn)
{
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, enum_attribute(t, "nounwind", 0));
    string_attribute(t, fn, "target-cpu", t->cpu);
    if (*t->features)
        string_attribute(t, fn, "target-features", t->features);
    if (t->avx512)
        string_attribute(t, fn, "prefer-vector-width", "512");
    /* loops that fill or copy memory stay loops: generated code calls nothing */
    string_attribute(t, fn, "no-builtins", "");
}

V llvm_call(Target *t, LLVMBuilderRef b, const char *name, Ty *over, int n_over, V *arg, int n_arg)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) {
        char line[128];
        snprintf(line, sizeof line, "no intrinsic %s", name);
        fatal(line);
    }
    V fn = LLVMGetIntrinsicDeclaration(t->module, id, over, (size_t)n_over);
    Ty type = LLVMIntrinsicGetType(t->ctx, id, over, (size_t)n_over);
    return LLVMBuildCall2(b, type, fn, arg, (unsigned)n_arg, "");
}

/* A masked memory access; `first` is the index of the address among the operands. */
static V masked(Target *t, LLVMBuilderRef b, const char *name, Ty *over, V *arg, int n_arg, int first, unsigned align)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    V fn = LLVMGetIntrinsicDeclaration(t->module, id, over, 2);
    Ty type = LLVMIntrinsicGetType(t->ctx, id, over, 2);
    V all[5];
    int n = 0;
    bool operand = (int)LLVMCountParamTypes(type) == n_arg + 1;
    for (int i = 0; i < n_arg; i++) {
        all[n++] = arg[i];
        if (operand && i == first)
            all[n++] = LLVMConstInt(t->i32, align, 0);
    }
    V call = LLVMBuildCall2(b, type, fn, all, (unsigned)n, "");
    if (!operand)
        LLVMAddCallSiteAttribute(call, (LLVMAttributeIndex)(first + 1), enum_attribute(t, "align", align));
    return call;
}

static unsigned element_bytes(Ty vector)
{
    Ty e = LLVMGetElementType(vector);
    switch (LLVMGetTypeKind(e)) {
    case LLVMDoubleTypeKind: return 8;
    case LLVMIntegerTypeKind: return LLVMGetIntTypeWidth(e) / 8;
    default: return 4;
    }
}

V llvm_masked_load(Target *t, LLVMBuilderRef b, Ty vector, V p, V mask)
{
    Ty over[] = {vector, t->ptr};
    V arg[] = {p, mask, LLVMConstNull(vector)};
    return masked(t, b, "llvm.masked.load", over, arg, 3, 0, element_bytes(vector));
}

void llvm_masked_store(Target *t, LLVMBuilderRef b, V value, V p, V mask)
{
    Ty over[] = {LLVMTypeOf(value), t->ptr};
    V arg[] = {value, p, mask};
    masked(t, b, "llvm.masked.store", over, arg, 3, 1, element_bytes(over[0]));
}

V llvm_gather(Target *t, LLVMBuilderRef b, Ty vector, V p, V mask)
{
    Ty over[] = {vector, LLVMTypeOf(p)};
    V arg[] = {p, mask, LLVMConstNull(vector)};
    return masked(t, b, "llvm.masked.gather", over, arg, 3, 0, element_bytes(vector));
}

void llvm_scatter(Target *t, LLVMBuilderRef b, V value, V p, V mask)
{
    Ty over[] = {LLVMTypeOf(value), LLVMTypeOf(p)};
    V arg[] = {value, p, mask};
    masked(t, b, "llvm.masked.scatter", over, arg, 3, 1, element_bytes(over[0]));
}

V llvm_scale(Target *t, LLVMBuilderRef b, V p, V n)
{
    V arg[] = {p, n, p, LLVMConstInt(LLVMInt16TypeInContext(t->ctx), 0xffff, 0), LLVMConstInt(t->i32, 4, 0)};
    return llvm_call(t, b, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, arg, 5);
}

V llvm_dot_pairs(Target *t, LLVMBuilderRef b, V c, V x, V y)
{
    V arg[] = {c, x, y};
    return llvm_call(t, b, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, arg, 3);
}

/* A loop is told apart by a node of metadata whose first part is itself: it is made with a stand-in there. */
void llvm_align_loop(Target *t, V back, unsigned bytes)
{
    LLVMMetadataRef align[] = {LLVMMDStringInContext2(t->ctx, "llvm.loop.align", 15), LLVMValueAsMetadata(LLVMConstInt(t->i32, bytes, 0))};
    LLVMMetadataRef self = LLVMTemporaryMDNode(t->ctx, NULL, 0), loop[] = {self, LLVMMDNodeInContext2(t->ctx, align, 2)};
    LLVMMetadataRef node = LLVMMDNodeInContext2(t->ctx, loop, 2);
    LLVMMetadataReplaceAllUsesWith(self, node);
    LLVMSetMetadata(back, LLVMGetMDKindIDInContext(t->ctx, "llvm.loop", 9), LLVMMetadataAsValue(t->ctx, node));
}
