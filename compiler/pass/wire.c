/* wire.c -- pictures come to a device as they are, in 8 bits, and become numbers there.
 *
 * An input of f32, `pixels` say, of which axis 1 is the channel, becomes a tensor that the program itself makes,
 *
 *     pixels[n, ch, y, x] = pixels:table[ch, raw[n, ch, y, x]]
 *
 * from two inputs: `raw`, of the same name and shape, in u8, and a table with the 256 numbers of each channel, which the
 * runtime fills in once (runtime/data/pixels.h): so the numbers are the same, bit by bit, as those of a program whose input
 * is f32. The map is an equation like others: fusion puts it where its readers are, rounding to bf16 included. */
#include "pass/kernel.h"
#include "pass/pass.h"
#include <string.h>

bool pass_wire(Graph *g, const char *input)
{
    int t = 0;
    while (t < g->n_tensor && (g->tensor[t].kind != T_INPUT || strcmp(g->tensor[t].name, input)))
        t++;
    if (t == g->n_tensor || g->tensor[t].dtype != DT_F32 || g->tensor[t].rank < 2)
        return false;
    const Tensor own = g->tensor[t];
    const Ext values[2] = { own.shape[1], 256 };
    const Affine *at[MAX_RANK];
    for (int d = 0; d < own.rank; d++)
        at[d] = aff_axis(g, d);
    int raw = graph_tensor(g, input, own.rank, own.shape, T_INPUT, DT_U8);
    int table = graph_tensor(g, arena_printf(g->arena, "%s:table", input), 2, values, T_INPUT, DT_F32);
    const Affine *row[2] = { at[1], aff_load(g, expr_load(g, raw, at)) };
    g->tensor[raw].span = g->tensor[table].span = own.span;
    g->tensor[t].kind = T_TEMP;
    graph_comp(g, t, own.rank, own.shape, 0, RED_NONE, expr_load(g, table, row), at, own.span, input);
    graph_toposort(g);
    return true;
}
