/* ticdata.c -- the data tool: `ticdata COMMAND [FLAGS]`. One row a command; everything else is in its file. */
#include "args.h"
#include "commands.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "synth", "draw a small image-text stream for the years 2014 to 2022", synth_main },
    { "index", "count the samples of shards and write sizes.json beside them", index_main },
    { "reshard", "sort the samples of shards into a folder for each year", reshard_main },
};

static void help(FILE *to)
{
    fputs("ticdata COMMAND [FLAGS]; ticdata COMMAND --help tells more\n\n", to);
    for (size_t i = 0; i < TIC_LEN(commands); i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
}

static int unknown(const char *word)
{
    const char *names[TIC_LEN(commands)];
    for (size_t i = 0; i < TIC_LEN(commands); i++)
        names[i] = commands[i].name;
    const char *near = args_nearest(word, names, (int)TIC_LEN(commands));
    fprintf(stderr, "ticdata: error: unknown command '%s'; %s%s%s\n", word,
            near ? "did you mean " : "--help lists the commands", near ? near : "", near ? "?" : "");
    return TIC_USER;
}

int main(int argc, char **argv)
{
    tic_standard_files();
    signal(SIGXFSZ, SIG_IGN);        /* a size limit then is a failed write with a message, like a full disk */
    if (argc < 2) {
        help(stderr);
        return TIC_USER;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help(stdout);
        return args_exit("ticdata", TIC_OK);
    }
    if (!strcmp(argv[1], "--version")) {
        puts("ticdata " TICDATA_VERSION);
        return args_exit("ticdata", TIC_OK);
    }
    for (size_t i = 0; i < TIC_LEN(commands); i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 2, argv + 2);
    return unknown(argv[1]);
}
