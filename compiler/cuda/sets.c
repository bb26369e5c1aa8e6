/* sets.c -- many maps of one form: one launch, whose blocks are pieces of all of them.
 *
 * The kernel has one argument, a table in the device's memory with the pointers of the first set, then of the second, ...; sizes
 * and first blocks of the sets are constants of the text. A block finds its set, and goes on as a MAP does: four neighbouring
 * points a thread, 16 bytes at once, and one by one what is left at the end of a set. */
#include "cuda/lower.h"

enum { SET_THREADS = 256 };

static void table(Cu *l, const char *name, const char *what, const int64_t *at, int n)
{
    text_printf(&l->file, "TC_TABLE i32 %s_%s[%d] = {", name, what, n);
    for (int i = 0; i < n; i++)
        text_printf(&l->file, "%s%lld", i ? "," : "", (long long)at[i]);
    text_printf(&l->file, "};\n");
}

bool cu_sets(Cu *l)
{
    const Sets *sets = l->sets;
    const Kernel *form = l->k;
    const char *name = cu_kernel_name(l, "sets");
    int per = SET_THREADS * CU_WIDTH, step = 1;
    int64_t *first = NEWN(l->arena, int64_t, sets->n), blocks = 0;
    for (int i = 0; i < sets->n; i++) {
        first[i] = blocks;
        blocks += (sets->size[i] + per - 1) / per;
    }
    while (step * 2 < sets->n)
        step *= 2;
    table(l, name, "first", first, sets->n);
    table(l, name, "size", sets->size, sets->n);

    CuScope root, wide, one;
    cu_scope_root(&root, l);
    cu_line(&root, "const i32 block = (i32)blockIdx.x;");
    cu_line(&root, "i32 set = 0;");
    cu_line(&root, "for (i32 step = %d; step; step /= 2)", step);
    cu_line(&root, "    if (set + step < %d && %s_first[set + step] <= block)", sets->n, name);
    cu_line(&root, "        set += step;");
    cu_line(&root, "const i32 B = %s_size[set], lane = ((block - %s_first[set]) * %d + (i32)threadIdx.x) * %d;", name, name, SET_THREADS,
            CU_WIDTH);
    cu_line(&root, "if (lane >= B)");
    cu_line(&root, "    return;");
    for (int i = 0; i < form->n_args; i++)
        cu_line(&root, "%sp%d = (%s)table[set * %d + %d];", cu_arg_type(l, i, true), i, cu_arg_type(l, i, false), form->n_args, i);
    cu_scope_in(&wide, &root);
    cu_bind(&wide, 0, "lane", false);
    wide.lane = 0;
    wide.width = CU_WIDTH;
    cu_map_body(&wide);
    cu_line(&wide, "return;");
    cu_scope_in(&one, &root);
    cu_bind(&one, 0, "at", false);
    one.lane = 0;
    one.width = 1;
    cu_map_body(&one);
    cu_scope_close(&wide, arena_printf(l->arena, "if (lane + %d <= B) {", CU_WIDTH), "}");
    cu_scope_close(&one, "for (i32 at = lane; at < B; at++) {", "}");
    cu_launch(l, "sets", &root, cu_grid(poly_const(blocks), 1), SET_THREADS, 1, 0);
    return !l->failed;
}
