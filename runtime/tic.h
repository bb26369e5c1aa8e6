/* tic.h -- the one header the compiler and the runtime share: what a compiled program carries.
 *
 * The object ticc emits defines two symbols:
 *   tic_program       one constant blob: a TicProgram header followed by the tables it points to by byte offset
 *                     (so the bytes are the same in the compiler and in the executable; nothing is relocated)
 *   tic_kernels       array of TicKernel, indexed by TicLaunch.kernel
 * A kernel runs tasks 0 .. tasks(B)-1 in any order on any thread; tasks write disjoint bytes, so the thread count
 * cannot change a bit of the result. */
#ifndef TIC_H
#define TIC_H
#include <stdint.h>

#define TIC_MAGIC 0x4D50434954ull        /* "TICPM" */
enum { TIC_ABI = 9, TIC_MAX_RANK = 8, TIC_EXT_BATCH = -1 };
/* Each thread has so much scratch, 64-byte aligned. Its last word, at TIC_NOTE, is -1 when a thread takes its first task of a launch; what
 * a task writes there, and all else that it leaves in scratch, is what the thread's next task of the same launch finds. */
enum { TIC_CACHE_LINE = 64, TIC_SCRATCH_BYTES = 8 << 20, TIC_NOTE = TIC_SCRATCH_BYTES - 8 };
static inline void tic_scratch_begin(void *scratch) { *(int64_t *)((char *)scratch + TIC_NOTE) = -1; }

typedef void (*TicKernelFn)(void *const *buf, int64_t batch, int64_t task, void *scratch);
typedef int64_t (*TicTasksFn)(int64_t batch);
typedef struct { TicKernelFn run; TicTasksFn tasks; } TicKernel;

enum TicStepInit { TIC_STEP_PREVIOUS, TIC_STEP_RANDOM, TIC_STEP_REWIND };
enum TicKind { TIC_TEMP, TIC_INPUT, TIC_PARAM, TIC_STATE, TIC_SUM };     /* SUM: of a parameter's gradient, over pieces */
enum TicDType { TIC_F32, TIC_F64, TIC_I32, TIC_BF16, TIC_U8 };
enum TicInit { TIC_INIT_CONST, TIC_INIT_NORMAL, TIC_INIT_UNIFORM };

typedef struct { int64_t c[3]; } TicPoly;                    /* c0 + c1*B + c2*B^2 */

typedef struct {
    uint32_t name;               /* offset of a zero-terminated string from the blob's start, as all `name`s below */
    uint8_t kind, dtype, init, rank;
    int64_t shape[TIC_MAX_RANK]; /* TIC_EXT_BATCH for the batch */
    TicPoly bytes;
    int32_t storage;             /* index of the tensor whose buffer this one uses (itself, or what it updates) */
    int32_t first, last;         /* TEMP: the first and last launch that touch it; outputs stay until the end */
    int32_t param;               /* PARAM, SUM, STATE: index into params / states of the program; else -1 */
    double init_a, init_b;
} TicTensor;

typedef struct {
    uint32_t label;              /* the layer it belongs to */
    uint32_t source;             /* "nn.tic:14:5" */
    uint32_t kernel;             /* index into tic_kernels; of a CUDA entry, into gpu_kernels unless `host` */
    uint32_t cls;                /* index into class_name */
    uint32_t host;               /* CUDA entries: runs on the CPU, before everything else */
    uint32_t step;               /* which fused kernel of its entry it is (part) of */
    uint32_t arg, n_arg;         /* range in args: buf[i] = storage of tensor args[arg + i] */
    uint32_t period, pad;        /* one launch over many sets of tensors has its arguments set by set, so many each; else n_arg */
    uint64_t writes;             /* bit i: buf[i], buf[i + period], .. are written (the first 64 of a period) */
    TicPoly flops;
} TicLaunch;

typedef struct { uint32_t name; int32_t tensor; } TicOutput;

/* gridDim.x = product of ceil(points[i](B) / per[i]) over the n factors; gridDim.y = y. */
enum { TIC_GRID_FACTORS = 4 };
typedef struct { TicPoly points[TIC_GRID_FACTORS]; int64_t per[TIC_GRID_FACTORS]; int32_t n, y; } TicGrid;

/* Code for GPUs. A file is CUDA C text (the program's gpu_prelude goes in front) and holds some kernels; images are cubins
 * of one file for one architecture. arch: 80 for sm_80, 900 + 'a' for sm_90a: compute capability, times ten with a suffix's
 * code added when the image runs on that one only. */
typedef struct { uint32_t name, text, image, n_image; } TicGpuFile;
typedef struct { uint32_t arch, offset, bytes, pad; } TicGpuImage;
/* A matrix as the copy engine sees it: argument `arg` from element `offset` on, inner elements side by side, outer lines
 * `stride` elements apart, fetched box_inner x box_outer at a time. */
typedef struct { int32_t arg, box_inner, box_outer, pad; int64_t offset, stride; TicPoly inner, outer; } TicGpuMap;
/* How the kernel is launched where it is sm_90a's own; threads 0: not otherwise. With two maps, they come before the
 * arguments, and as many blocks as there are multiprocessors, or as `tiles` says if those are fewer: the kernel goes on by itself. With
 * none, tiles are the grid. */
typedef struct { int32_t threads, shared, maps, pad; TicGrid tiles; TicGpuMap map[2]; } TicGpuHopper;
/* What sm_90a has in place of the kernel's text: one that kernels of other sizes share. It gets its sizes behind the batch, as
 * i32. file -1: nothing, the text is the same. */
enum { TIC_GPU_SIZES = 12 };
typedef struct { uint32_t name; int32_t file, n_size, pad, size[TIC_GPU_SIZES]; } TicGpuOwn;
/* table: its one argument, besides the batch, is an array in the device's memory of what else would be its arguments. */
typedef struct { uint32_t name, file; TicGrid grid; int32_t threads, shared, table, pad; TicGpuHopper hopper; TicGpuOwn own; } TicGpuKernel;

enum TicTarget { TIC_CPU, TIC_CUDA };

/* One program of the executable: "step" (pixels, tokens, step, total -> loss, lr, ...), "image" (pixels ->
 * image_features), "text" (tokens -> text_features); with a continual block "schedule" (f64 scalars y, t, samples_y,
 * samples_t, base, unknown -> mix, budget) and perhaps "after" (previous:NAME -> parameters) and "distill", the step of a
 * strategy with a teacher (teacher:NAME); with train.micro also "features", "loss", "piece" and "update", the step in pieces
 * (train/step.h), and their like with "distill:" in front. Tensors, launches and outputs are ranges of the shared tables;
 * tensor numbers (args, storage, outputs) count from the entry's own first tensor. */
typedef struct {
    uint32_t name;
    uint32_t tensor, n_tensor, launch, n_launch, output, n_output;
    uint32_t target;                 /* enum TicTarget: the same program may be there for both */
    uint32_t first_update;           /* launches from here on may write parameters and states; n_launch: none do */
    double forward_flops_per_pair;   /* contractions of the forward pass, 2 a multiply-add, full towers (step only) */
} TicEntry;

/* A parameter (state_dict order) or an optimiser state. */
typedef struct {
    uint32_t name;
    uint8_t init, rank, pad[2];
    int64_t shape[TIC_MAX_RANK];
    int64_t count;
    double init_a, init_b;
    double weight_decay;             /* params: 0 = the no-decay group */
    int32_t param;                   /* states: the parameter they belong to; params: own index */
    uint32_t role;                   /* states: "exp_avg", "exp_avg_sq", ... */
} TicParam;

typedef struct { uint32_t name; int32_t lo, hi; } TicYearStep;
typedef struct { uint32_t kind, name; int32_t year; } TicTask;

typedef struct {
    uint64_t magic;
    uint32_t abi, bytes;             /* of the whole blob */
    uint64_t hash;                   /* of the source and every option that shaped the code */
    uint32_t model, source, version, target;             /* strings: model name, main source text, ticc version, cpu */
    uint32_t n_entries, entries;     /* counts and byte offsets of the tables */
    uint32_t n_tensors, tensors, n_launches, launches, n_args, args, n_outputs, outputs;
    uint32_t n_params, params, n_states, states, n_kernels, n_distinct;
    uint32_t n_class_names, class_names;                 /* table of string offsets (uint32_t) */
    uint32_t gpu_prelude, gpu_options;                   /* text in front of every file; NVRTC's options, one a line */
    uint32_t n_gpu_files, gpu_files, n_gpu_images, gpu_images, n_gpu_kernels, gpu_kernels;
    /* data block */
    uint32_t data_name, data_shards;
    int32_t image_size, context, augment, with_replacement;
    int64_t vocabulary;              /* tokens are numbers below this: rows of the smallest table they index; 0: of none */
    int32_t scaled_decode;           /* training JPEGs are decoded smaller where that leaves pixels enough */
    int32_t by_shard;                /* samples(y) counts shards, and within a year each shard is drawn as often as another */
    double scale_lo, scale_hi, ratio_lo, ratio_hi, mean[3], std[3];
    /* train block */
    int64_t batch, samples, micro;   /* micro > 0: pairs of a piece, and the entries of a step in pieces are there */
    double clip_norm, lr_peak, beta1, beta2, eps, weight_decay;
    uint64_t seed;
    int32_t bf16;
    /* continual and eval blocks */
    int32_t start;
    int32_t init;                    /* TIC_STEP_*: the weights a time step begins with */
    int32_t carry_moments;           /* and with their moments */
    double keep;                     /* TIC_STEP_REWIND: the share of a step after which its state is kept */
    double cost;                     /* compute of a pair against a plain one, in the account of TiC-CLIP */
    uint32_t strategy, n_steps, steps, n_tasks, tasks;
} TicProgram;

extern const TicKernel tic_kernels[];
extern const unsigned char tic_program[];    /* a TicProgram and its tables */
#endif
