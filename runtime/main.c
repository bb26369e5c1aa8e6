/* main.c -- the produced program: which command, which flags, which exit code.
 *
 * 0 done; 1 something to mend in the input; 70 our fault; 130 or 143 stopped by a signal after saving. */
#include "base.h"
#include "device/exec.h"
#include "eval/evaluate.h"
#include "infer/infer.h"
#include "report/report.h"
#include "train/bench.h"
#include "train/check.h"
#include "train/continual.h"
#include "train/flags.h"
#include "train/info.h"
#include "train/loop.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const TicProgram *program(void) { return (const TicProgram *)(const void *)tic_program; }

typedef struct { const char *name, *says; int (*run)(int argc, char **argv); } Command;

static int finish(TicStatus status)
{
    if (!status)
        return 0;
    fprintf(stderr, "error: %s\n", tic_error());
    return status == TIC_BUG ? 70 : 1;
}

static const char *device = "auto";
static bool logged;                      /* what is printed stands in files too */

static void print_version(void)
{
    printf("%s, ticc %s\n", tic_text(program(), program()->model), tic_text(program(), program()->version));
}

/* Parses; shows help or the version when asked. *code is the exit code when it returns false. */
static bool flags(const char *command, const TicFlag *flag, int n, int argc, char **argv, const char **rest, int *n_rest, int *code)
{
    for (int i = 0; i < argc; i++) {
        bool help = !strcmp(argv[i], "--help");
        if (help)
            printf("usage: PROGRAM %s [flags]\n\n", command), tic_flags_help(flag, n, stdout);
        else if (!strcmp(argv[i], "--version"))
            print_version();
        else
            continue;
        *code = 0;
        return false;
    }
    if (tic_flags_parse(flag, n, argc, argv, rest, n_rest) || tic_device_choose(device)) {
        *code = finish(TIC_USER);
        return false;
    }
    return true;
}

static bool no_words(const char **rest, int n, int *code)
{
    if (n) {
        tic_fail(TIC_USER, "%s: not understood; flags begin with --", rest[0]);
        *code = finish(TIC_USER);
    }
    return !n;
}

static int command_train(int argc, char **argv)
{
    TicTrainOptions o = { .seed = -1, .micro = -1 };
    const TicFlag flag[] = {
        { "--data", TIC_FLAG_TEXT, &o.data, 0, 0, "DIR", "the pool: DIR/train/YEAR/*.tar (or year folders directly)" },
        { "--out", TIC_FLAG_TEXT, &o.out, 0, 0, "DIR", "where results go (default: results)" },
        { "--name", TIC_FLAG_TEXT, &o.name, 0, 0, "NAME", "folder of this run below --out (default: model and year)" },
        { "--start", TIC_FLAG_INT, &o.start, 1, 9999, "YEAR", "the time step that holds this year" },
        { "--steps", TIC_FLAG_INT, &o.steps, 1, INT64_C(1) << 40, "N", "optimiser steps (default: samples / batch of the program)" },
        { "--batch", TIC_FLAG_INT, &o.batch, 1, 1 << 24, "N", "pairs a step (default: the program's)" },
        { "--micro", TIC_FLAG_INT, &o.micro, 0, 1 << 24, "N", "pairs computed at a time, the gradient being that of the batch (0: all)" },
        { "--resume", TIC_FLAG_BOOL, &o.resume, 0, 0, NULL, "go on from epoch_latest.pt where it exists" },
        { "--from", TIC_FLAG_TEXT, &o.from, 0, 0, "FILE", "start from the weights of this checkpoint" },
        { "--device", TIC_FLAG_TEXT, &device, 0, 0, "WHICH", "auto (default), cpu, cuda or cuda:N" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--loaders", TIC_FLAG_INT, &o.loaders, 1, 1024, "N", "threads that decode images (default: half the cores; all beside a GPU)" },
        { "--seed", TIC_FLAG_INT, &o.seed, 0, INT64_MAX, "N", "first weights, data order and crops (default: the program's)" },
        { "--vocab", TIC_FLAG_TEXT, &o.vocab, 0, 0, "FILE", "bpe_simple_vocab_16e6.txt or .txt.gz" },
        { "--log-every", TIC_FLAG_INT, &o.log_every, 1, 1 << 30, "N", "steps between progress lines" },
        { "--save-every", TIC_FLAG_INT, &o.save_every, 1, 1 << 30, "N", "steps between checkpoints" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0, stopped = 0;
    if (flags("[train]", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code)) {
        logged = true;
        code = finish(tic_train(program(), tic_kernels, &o, &stopped));
        if (!code && stopped)
            code = 128 + stopped;
    }
    free(rest);
    return code;
}

static int command_continual(int argc, char **argv)
{
    TicContinualOptions o = { .train = { .seed = -1, .micro = -1 } };
    TicTrainOptions *t = &o.train;
    const TicFlag flag[] = {
        { "--data", TIC_FLAG_TEXT, &t->data, 0, 0, "DIR", "the pool: DIR/train/YEAR/*.tar, DIR/eval/..." },
        { "--out", TIC_FLAG_TEXT, &t->out, 0, 0, "DIR", "where results go (default: results)" },
        { "--name", TIC_FLAG_TEXT, &t->name, 0, 0, "NAME", "folder of this run below --out (default: model and strategy)" },
        { "--start", TIC_FLAG_INT, &t->start, 1, 9999, "YEAR", "begin with the time step that holds this year" },
        { "--steps", TIC_FLAG_INT, &t->steps, 1, INT64_C(1) << 40, "N", "optimiser steps of one budget (default: samples / batch)" },
        { "--batch", TIC_FLAG_INT, &t->batch, 1, 1 << 24, "N", "pairs a step (default: the program's)" },
        { "--micro", TIC_FLAG_INT, &t->micro, 0, 1 << 24, "N", "pairs computed at a time, the gradient being that of the batch (0: all)" },
        { "--device", TIC_FLAG_TEXT, &device, 0, 0, "WHICH", "auto (default), cpu, cuda or cuda:N" },
        { "--threads", TIC_FLAG_INT, &t->threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--loaders", TIC_FLAG_INT, &t->loaders, 1, 1024, "N", "threads that decode images" },
        { "--seed", TIC_FLAG_INT, &t->seed, 0, INT64_MAX, "N", "first weights, data order and crops (default: the program's)" },
        { "--vocab", TIC_FLAG_TEXT, &t->vocab, 0, 0, "FILE", "bpe_simple_vocab_16e6.txt or .txt.gz" },
        { "--log-every", TIC_FLAG_INT, &t->log_every, 1, 1 << 30, "N", "steps between progress lines" },
        { "--save-every", TIC_FLAG_INT, &t->save_every, 1, 1 << 30, "N", "steps between checkpoints" },
        { "--tasks", TIC_FLAG_TEXT, &o.tasks, 0, 0, "FILE", "a tasklist.yml (default: the eval block, else what is found)" },
        { "--imagenet-val", TIC_FLAG_TEXT, &o.imagenet_val, 0, 0, "DIR", "a folder of class folders, classnames.txt and templates" },
        { "--no-eval", TIC_FLAG_BOOL, &o.no_eval, 0, 0, NULL, "train only" },
        { "--fork", TIC_FLAG_BOOL, &o.fork, 0, 0, NULL, "go on with a run that another program began" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0, stopped = 0;
    if (flags("continual", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code)) {
        logged = true;
        code = finish(tic_continual(program(), tic_kernels, &o, &stopped));
        if (!code && stopped)
            code = 128 + stopped;
    }
    free(rest);
    return code;
}

static int command_info(int argc, char **argv)
{
    int64_t batch = 0, micro = -1;
    bool json = false;
    const TicFlag flag[] = {
        { "--json", TIC_FLAG_BOOL, &json, 0, 0, NULL, "one JSON object" },
        { "--batch", TIC_FLAG_INT, &batch, 1, 1 << 24, "N", "the batch to plan memory for (default: the program's)" },
        { "--micro", TIC_FLAG_INT, &micro, 0, 1 << 24, "N", "pairs computed at a time (default: the program's; 0: all)" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("info", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code))
        code = finish(tic_info(program(), batch, micro, json, stdout));
    free(rest);
    return code;
}

static int command_eval(int argc, char **argv)
{
    TicEvalOptions o = { .batch = 64 };
    const char *write_tasks = NULL;
    const TicFlag flag[] = {
        { "--ckpt", TIC_FLAG_TEXT, &o.ckpt, 0, 0, "FILE", "the checkpoint to evaluate" },
        { "--data", TIC_FLAG_TEXT, &o.data, 0, 0, "DIR", "the pool: DIR/eval/KIND/YEAR, DIR/tic/SET/SCALE/eval/..., DIR/wds_TASK_test" },
        { "--tasks", TIC_FLAG_TEXT, &o.tasks, 0, 0, "FILE", "a tasklist.yml (default: the eval block, else what is found)" },
        { "--imagenet-val", TIC_FLAG_TEXT, &o.imagenet_val, 0, 0, "DIR", "a folder of class folders, classnames.txt and templates" },
        { "--batch", TIC_FLAG_INT, &o.batch, 1, 1 << 20, "N", "images or texts at once (default 64)" },
        { "--device", TIC_FLAG_TEXT, &device, 0, 0, "WHICH", "auto (default), cpu, cuda or cuda:N" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--vocab", TIC_FLAG_TEXT, &o.vocab, 0, 0, "FILE", "bpe_simple_vocab_16e6.txt or .txt.gz" },
        { "--out", TIC_FLAG_TEXT, &o.out, 0, 0, "DIR", "where eval_results.jsonl goes (default: beside the checkpoint's folder)" },
        { "--write-tasklist", TIC_FLAG_TEXT, &write_tasks, 0, 0, "FILE", "only write the tasks, as DataComp's tasklist.yml" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("eval", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code))
        code = finish(write_tasks ? tic_evaluate_write_tasks(program(), &o, write_tasks) : tic_evaluate(program(), tic_kernels, &o));
    free(rest);
    return code;
}

static int command_report(int argc, char **argv)
{
    const char *out = NULL;
    bool text = false;
    const TicFlag flag[] = {
        { "--out", TIC_FLAG_TEXT, &out, 0, 0, "DIR", "where report.html and report.json go (default: the only run's folder, else .)" },
        { "--text", TIC_FLAG_BOOL, &text, 0, 0, NULL, "tables for the terminal instead" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("report RUN...", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code))
        code = finish(tic_report_command((char *const *)(void *)rest, n_rest, out, text));
    free(rest);
    return code;
}

static int command_bench(int argc, char **argv)
{
    TicBenchOptions o = { .entry = "step", .steps = 3, .micro = -1 };
    const TicFlag flag[] = {
        { "--entry", TIC_FLAG_TEXT, &o.entry, 0, 0, "NAME", "what to time: step (default), image or text, a tower" },
        { "--batch", TIC_FLAG_INT, &o.batch, 1, 1 << 24, "N", "pairs a step (default: the program's)" },
        { "--micro", TIC_FLAG_INT, &o.micro, 0, 1 << 24, "N", "pairs computed at a time (default: the program's; 0: all)" },
        { "--steps", TIC_FLAG_INT, &o.steps, 1, 1 << 20, "N", "steps to time after one to warm up (default 3)" },
        { "--device", TIC_FLAG_TEXT, &device, 0, 0, "WHICH", "auto (default), cpu, cuda or cuda:N" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--explain", TIC_FLAG_BOOL, &o.explain, 0, 0, NULL, "a line for every kernel" },
        { "--json", TIC_FLAG_BOOL, &o.json, 0, 0, NULL, "one JSON object" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("bench", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code))
        code = finish(tic_bench(program(), tic_kernels, &o, stdout));
    free(rest);
    return code;
}

static int command_check(int argc, char **argv)
{
    TicCheckOptions o = { .batch = 2, .steps = 2 };
    const TicFlag flag[] = {
        { "--device", TIC_FLAG_TEXT, &device, 0, 0, "WHICH", "cuda (default) or cuda:N" },
        { "--batch", TIC_FLAG_INT, &o.batch, 1, 1 << 24, "N", "pairs a step (default 2)" },
        { "--steps", TIC_FLAG_INT, &o.steps, 1, 1 << 20, "N", "whole steps to compare (default 2)" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--explain", TIC_FLAG_BOOL, &o.explain, 0, 0, NULL, "a line for every kernel" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("check", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code)) {
        o.device = strcmp(device, "auto") ? device : "cuda";
        code = finish(tic_check(program(), tic_kernels, &o, stdout));
    }
    free(rest);
    return code;
}

static int command_classify(int argc, char **argv)
{
    TicClassifyOptions o = { 0 };
    const TicFlag flag[] = {
        { "--ckpt", TIC_FLAG_TEXT, &o.ckpt, 0, 0, "FILE", "weights: .pt, safetensors, OpenCLIP's or Hugging Face's names" },
        { "--images", TIC_FLAG_INT, &o.images, 1, 1 << 20, "N", "how many of the words are images (default: the leading ones that are files)" },
        { "--json", TIC_FLAG_BOOL, &o.json, 0, 0, NULL, "a JSON array, one object an image" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--vocab", TIC_FLAG_TEXT, &o.vocab, 0, 0, "FILE", "bpe_simple_vocab_16e6.txt or .txt.gz" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("classify IMAGE... LABEL...", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code))
        code = finish(tic_classify(program(), tic_kernels, &o, rest, n_rest, stdout));
    free(rest);
    return code;
}

static int command_embed(int argc, char **argv)
{
    TicEmbedOptions o = { .batch = 64 };
    const TicFlag flag[] = {
        { "--ckpt", TIC_FLAG_TEXT, &o.ckpt, 0, 0, "FILE", "weights: .pt, safetensors, OpenCLIP's or Hugging Face's names" },
        { "--out", TIC_FLAG_TEXT, &o.out, 0, 0, "FILE", "the .npy to write; for shards a prefix: FILE.images.npy, .texts.npy, .keys.txt" },
        { "--captions", TIC_FLAG_TEXT, &o.captions, 0, 0, "FILE", "captions, one a line, instead of images or shards" },
        { "--files", TIC_FLAG_TEXT, &o.files, 0, 0, "FILE", "names of images, one a line, instead of words" },
        { "--strict", TIC_FLAG_BOOL, &o.strict, 0, 0, NULL, "stop at the first broken picture (default: a row of NaN, and a line in FILE.skipped.txt)" },
        { "--batch", TIC_FLAG_INT, &o.batch, 1, 1 << 20, "N", "rows at once (default 64)" },
        { "--threads", TIC_FLAG_INT, &o.threads, 1, 1024, "N", "compute threads (default: all cores)" },
        { "--vocab", TIC_FLAG_TEXT, &o.vocab, 0, 0, "FILE", "bpe_simple_vocab_16e6.txt or .txt.gz" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("embed [IMAGE... | SHARD.tar...]", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code))
        code = finish(tic_embed(program(), tic_kernels, &o, rest, n_rest, stdout));
    free(rest);
    return code;
}

static int command_export(int argc, char **argv)
{
    const char *ckpt = NULL, *to = NULL, *out = NULL;
    const TicFlag flag[] = {
        { "--ckpt", TIC_FLAG_TEXT, &ckpt, 0, 0, "FILE", "weights: .pt, safetensors, OpenCLIP's or Hugging Face's names" },
        { "--to", TIC_FLAG_TEXT, &to, 0, 0, "FORM", "safetensors or pt (OpenCLIP's), hf (CLIPModel of transformers)" },
        { "--out", TIC_FLAG_TEXT, &out, 0, 0, "DIR", "the folder to write them and their configuration to" },
    };
    const char **rest = tic_alloc((size_t)(argc + 1) * sizeof *rest);
    int n_rest, code = 0;
    if (flags("export", flag, TIC_LEN(flag), argc, argv, rest, &n_rest, &code) && no_words(rest, n_rest, &code))
        code = finish(tic_export(program(), tic_kernels, ckpt, to, out, stdout));
    free(rest);
    return code;
}

static const Command commands[] = {
    { "train", "train the starting time step (the default command)", command_train },
    { "continual", "every time step in turn, each evaluated on every year", command_continual },
    { "eval", "a checkpoint on held-out sets: retrieval and zero-shot classification", command_eval },
    { "report", "runs side by side: matrices of years, transfer, curves, lineage; report.html", command_report },
    { "classify", "the probability of each label for an image", command_classify },
    { "embed", "normalised features of images, captions or shards, as .npy", command_embed },
    { "export", "weights as safetensors, .pt, or in Hugging Face's layout", command_export },
    { "info", "parameters, FLOPs, memory, kernels", command_info },
    { "bench", "time the training step or a tower on random data", command_bench },
    { "check", "a GPU's kernels against the CPU's, one by one; then whole steps", command_check },
};

static void help(void)
{
    printf("usage: PROGRAM [COMMAND] [flags]      PROGRAM COMMAND --help lists the command's flags\n\n");
    for (size_t i = 0; i < TIC_LEN(commands); i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].says);
    printf("\nmodel %s, compiled by ticc %s for %s\n", tic_text(program(), program()->model),
           tic_text(program(), program()->version), tic_text(program(), program()->target));
}

static int run(int argc, char **argv)
{
    if (tic_program_check(program()))
        return finish(TIC_BUG);
    if (argc < 2)
        return help(), 1;
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return help(), 0;
    if (!strcmp(argv[1], "--version"))
        return print_version(), 0;
    if (argv[1][0] == '-')
        return command_train(argc - 1, argv + 1);
    const char *names[TIC_LEN(commands)];
    for (size_t i = 0; i < TIC_LEN(commands); i++) {
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 2, argv + 2);
        names[i] = commands[i].name;
    }
    const char *near = tic_closest(argv[1], names, (int)TIC_LEN(commands));
    tic_fail(TIC_USER, near ? "%s: no such command; did you mean `%s`?" : "%s: no such command; --help lists them", argv[1], near);
    return finish(TIC_USER);
}

int main(int argc, char **argv)
{
    tic_standard_files();
    signal(SIGXFSZ, SIG_IGN);        /* a file that may not grow is an error like a full disk */
    int code = run(argc, argv);
    return logged ? code : tic_standard_written(code);
}
