/* columns.c -- column sums beside a kernel's other work. See lower.h. */
#include "cuda/lower.h"

enum { PARTS = 264, SHARED_BYTES = 96 * 1024, JOIN_THREADS = 256 };      /* two blocks a processor of a large GPU */

bool cu_columns_find(CuColumns *c, Cu *l)
{
    *c = (CuColumns){.l = l, .number = NEWN(l->arena, int, l->k->n_comp), .parts = PARTS};
    for (int i = 0; i < l->k->n_comp; i++)
        c->number[i] = sums_domain(&l->k->comp[i], l->k->n_dom) ? c->n++ : -1;
    return c->n > 0;
}

void cu_columns_place(CuColumns *c, int most)
{
    if (!poly_fixed(group_points(&c->l->places, c->grp, c->n_grp, -1), &c->points) || 4 * c->n * c->points > SHARED_BYTES) {
        cu_fail(c->l, "more columns than shared memory holds");
        return;
    }
    int64_t fit = SHARED_BYTES / (4 * c->n * c->points);
    c->slots = fit < most ? (int)fit : most;
    c->l->out->workspace = poly_const(c->parts * c->n * c->points);
}

int cu_columns_bytes(const CuColumns *c)
{
    return (int)(4 * c->slots * c->n * c->points);
}

void cu_columns_begin(CuColumns *c, CuScope *s, int at, int threads)
{
    long long size = c->n * c->points;
    cu_line(s, "float *sums = (float *)(shared + %d) + slot * %lld;", at, size);
    cu_line(s, "TC_UNROLL_4");
    cu_line(s, "for (i32 i = (i32)threadIdx.x; i < %lld; i += %d)", c->slots * size, threads);
    cu_line(s, "    ((float *)(shared + %d))[i] = 0.0f;", at);
    cu_line(s, "tc_syncthreads();");
}

void cu_columns_add(const CuColumns *c, CuScope *s, int member, const char *column, CuVal v)
{
    static const char *const part[] = {"x", "y", "z", "w"};
    Cu *l = c->l;
    int width = s->lane >= 0 ? s->width : 1;
    const char *q = cu_name(l, "q"), *x[CU_WIDTH];
    for (int i = 0; i < width; i++)
        x[i] = cu_f(s, v, i);
    cu_line(s, "float *%s = sums + %lld + %s;", q, (long long)(c->number[member] * c->points), column);
    if (width == 1 || c->points % width) {
        for (int i = 0; i < width; i++)
            cu_line(s, "%s[%d] += %s;", q, i, x[i]);
        return;
    }
    const char *t = cu_name(l, "v");
    cu_line(s, "v%df %s = *(const v%df *)%s;", width, t, width, q);
    for (int i = 0; i < width; i++)
        cu_line(s, "%s.%s += %s;", t, part[i], x[i]);
    cu_line(s, "*(v%df *)%s = %s;", width, q, t);
}

void cu_columns_end(CuColumns *c, CuScope *s, int at, int threads)
{
    long long size = c->n * c->points;
    cu_line(s, "tc_syncthreads();");
    cu_line(s, "TC_NO_UNROLL");
    cu_line(s, "for (i32 i = (i32)threadIdx.x; i < %lld; i += %d) {", size, threads);
    cu_line(s, "    const float *part = (const float *)(shared + %d) + i;", at);
    cu_line(s, "    float sum = part[0];");
    cu_line(s, "    for (int k = 1; k < %d; k++)", c->slots);
    cu_line(s, "        sum += part[k * %lld];", size);
    cu_line(s, "    ws[blockIdx.x * %lldu + i] = sum;", size);
    cu_line(s, "}");
}

/* A block joins CU_WARP columns of one member: neighbouring threads have neighbouring columns, and eight share the parts. */
void cu_columns_join(CuColumns *c)
{
    Cu *l = c->l;
    int down = JOIN_THREADS / CU_WARP;
    long long size = c->n * c->points;
    CuScope root, s;
    cu_scope_root(&root, l);
    cu_line(&root, "const i32 tx = (i32)threadIdx.x %% %d, ty = (i32)threadIdx.x / %d;", CU_WARP, CU_WARP);
    cu_line(&root, "const i32 column = (i32)blockIdx.x * %d + tx;", CU_WARP);
    cu_line(&root, "float sum = 0.0f;");
    cu_line(&root, "if (column < %lld)", (long long)c->points);
    cu_line(&root, "    for (i32 k = ty; k < %d; k += %d)", c->parts, down);
    cu_line(&root, "        sum += ws[k * %lld + blockIdx.y * %lldu + column];", size, (long long)c->points);
    cu_line(&root, "((float *)shared)[ty * %d + tx] = sum;", CU_WARP);
    cu_line(&root, "tc_syncthreads();");
    cu_line(&root, "if (ty || column >= %lld)", (long long)c->points);
    cu_line(&root, "    return;");
    cu_line(&root, "for (int k = 1; k < %d; k++)", down);
    cu_line(&root, "    sum += ((const float *)shared)[k * %d + tx];", CU_WARP);
    for (int i = 0; i < l->k->n_comp; i++) {
        if (c->number[i] < 0)
            continue;
        cu_scope_in(&s, &root);
        cu_bind_zero(&s, c->zero);
        cu_bind_digits(&s, c->grp, c->n_grp, -1, "column", false);
        cu_store(&s, &l->k->comp[i], (CuVal){.kind = CV_F, .uniform = true, .v = {"sum"}});
        cu_scope_close(&s, arena_printf(l->arena, "if (blockIdx.y == %d) {", c->number[i]), "}");
    }
    TicGrid grid = cu_grid(poly_const(c->points), CU_WARP);
    grid.y = c->n;
    cu_launch(l, "join", &root, grid, JOIN_THREADS, 1, JOIN_THREADS * 4);
}
