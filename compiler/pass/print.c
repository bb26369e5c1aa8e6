/* print.c -- kernels as text, for --emit=fused: what each is, its members in the graph's notation, and what crosses
 * its border. */
#include "pass/kernel.h"

static void print_ext(Text *out, Ext n)
{
    if (n == EXT_BATCH)
        text_char(out, 'B');
    else
        text_printf(out, "%lld", (long long)n);
}

static void print_axes(Text *out, const char *role, const int *axis, int n)
{
    if (!n)
        return;
    text_printf(out, " %s", role);
    for (int i = 0; i < n; i++)
        text_printf(out, "%s%d", i ? "," : "=", axis[i]);
}

static void print_tensors(const Graph *g, Text *out, const char *what, const int *t, int n)
{
    text_printf(out, "    %s", what);
    for (int i = 0; i < n; i++)
        text_printf(out, " %%%d:%s", t[i], g->tensor[t[i]].name ? g->tensor[t[i]].name : "");
    text_char(out, '\n');
}

/* The form once, then what each map runs it on. */
static void print_sets(const Graph *g, const Kernel *k, Text *out)
{
    const Fused *form = k->sets->form;
    const Kernel *one = &form->kernel[0];
    text_printf(out, "    %d %s, each over B points of its own:\n", k->sets->n, k->cls == K_MAP ? "maps" : "totals");
    for (int i = 0; i < form->graph->n_tensor; i++)
        if (form->storage[i] != i)
            text_printf(out, "    %%%d in place of %%%d\n", i, form->storage[i]);
    for (int i = 0; i < one->n_comp; i++) {
        text_bytes(out, "    ", 4);
        comp_print(form->graph, &one->comp[i], out);
        text_char(out, '\n');
    }
    for (int s = 0; s < k->sets->n; s++) {
        text_printf(out, "    B=%lld", (long long)k->sets->size[s]);
        for (int i = 0; i < one->n_args; i++) {
            int t = k->args[s * one->n_args + i];
            text_printf(out, " %%%d=%%%d:%s", one->args[i], t, g->tensor[t].name ? g->tensor[t].name : "");
            if (k->cls == K_REDUCE && one->args[i] == one->comp[0].out && g->tensor[t].rank)
                text_printf(out, "[%lld]", (long long)k->sets->at[s]);
        }
        text_char(out, '\n');
    }
}

void fused_print(const Fused *f, Text *out)
{
    const Graph *g = f->graph;
    text_printf(out, "# %d kernels, %d distinct\n", f->n_kernel, f->n_distinct);
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        text_printf(out, "kernel %d %s [", i, kernel_class_name[k->cls]);
        for (int d = 0; d < k->n_dom; d++) {
            if (d)
                text_bytes(out, ", ", 2);
            print_ext(out, k->dom[d]);
        }
        text_printf(out, "] %016llx", (unsigned long long)k->signature);
        if (k->cls == K_CONTRACT) {
            print_axes(out, "batch", k->split.batch, k->split.n_batch);
            print_axes(out, "m", k->split.m, k->split.n_m);
            print_axes(out, "n", k->split.n, k->split.n_n);
            print_axes(out, "k", k->split.k, k->split.n_k);
        }
        text_printf(out, "  # %s\n", k->label);
        if (k->sets) {
            print_sets(g, k, out);
            continue;
        }
        print_tensors(g, out, "reads ", k->reads, k->n_reads);
        print_tensors(g, out, "writes", k->writes, k->n_writes);
        for (int j = 0; j < k->n_writes; j++)
            if (f->storage[k->writes[j]] != k->writes[j])
                text_printf(out, "    %%%d in place of %%%d\n", k->writes[j], f->storage[k->writes[j]]);
        for (int j = 0; j < k->n_comp; j++) {
            text_bytes(out, "    ", 4);
            comp_print(g, &k->comp[j], out);
            if (!out->n || out->at[out->n - 1] != '\n')
                text_char(out, '\n');
        }
    }
}
