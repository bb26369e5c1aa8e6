/* commands.h -- the subcommands of ticdata. Each takes the arguments after its name and returns the exit code:
 * 0 done, 1 the input or the system refused, 70 our fault. */
#ifndef TIC_TOOLS_COMMANDS_H
#define TIC_TOOLS_COMMANDS_H
#define TICDATA_VERSION "0.1.0"

int synth_main(int argc, char **argv);
int index_main(int argc, char **argv);
int reshard_main(int argc, char **argv);
#endif
