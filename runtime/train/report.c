/* report.c -- see report.h.
 *
 * metrics.jsonl holds what scripts read (one object a line); out.log has the line OpenCLIP writes, field for field, so
 * that existing log readers keep working; the terminal gets a bar. */
#define _GNU_SOURCE
#include "train/report.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct TicReport {
    FILE *metrics, *log;
    char *dir;
    bool terminal, bar_shown;
};

/* Keeps the lines whose step is at most `last`. */
static TicStatus cut_metrics(const char *path, int64_t last)
{
    char *data;
    size_t size, kept = 0;
    if (access(path, F_OK))
        return TIC_OK;
    TRY(tic_read_file(path, (size_t)1 << 32, &data, &size));
    for (char *line = data; line < data + size;) {
        char *end = memchr(line, '\n', (size_t)(data + size - line));
        if (!end)
            break;           /* a torn last line goes too */
        long long step;
        if (sscanf(line, "{\"step\": %lld", &step) == 1 && step <= last) {
            memmove(data + kept, line, (size_t)(end + 1 - line));
            kept += (size_t)(end + 1 - line);
        }
        line = end + 1;
    }
    TicStatus status = tic_write_file(path, data, kept);
    free(data);
    return status;
}

TicStatus tic_report_open(const char *dir, int64_t from_step, TicReport **out)
{
    *out = NULL;
    TicReport *r = tic_alloc(sizeof *r);
    r->dir = tic_strdup(dir);
    r->terminal = isatty(STDOUT_FILENO);
    char *metrics = tic_format("%s/metrics.jsonl", dir), *log = tic_format("%s/out.log", dir);
    TicStatus status = tic_make_dirs(dir);
    if (!status)
        status = cut_metrics(metrics, from_step);
    if (!status) {
        r->metrics = fopen(metrics, "a");
        r->log = fopen(log, "a");
        if (!r->metrics || !r->log)
            status = tic_fail(TIC_IO, "%s: cannot write: %s", r->metrics ? log : metrics, strerror(errno));
    }
    free(metrics);
    free(log);
    if (status)
        tic_report_close(r);
    else
        *out = r;
    return status;
}

void tic_report_close(TicReport *r)
{
    if (!r)
        return;
    if (r->metrics)
        fclose(r->metrics);
    if (r->log)
        fclose(r->log);
    free(r->dir);
    free(r);
}

static void stamp(FILE *f)
{
    char text[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(text, sizeof text, "%Y-%m-%d,%H:%M:%S", localtime_r(&t, &tm));
    fprintf(f, "%s | INFO | ", text);
}

static void duration(char *out, size_t size, double seconds)
{
    long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, size, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(out, size, "%lds", s);
}

static int digits(int64_t n)
{
    return snprintf(NULL, 0, "%lld", (long long)n);
}

TicStatus tic_report_step(TicReport *r, const TicProgress *p)
{
    double per_step = p->steps ? p->seconds / (double)p->steps : 0;
    double rate = p->seconds > 0 ? (double)(p->steps * p->batch) / p->seconds : 0;
    double wait = p->seconds > 0 ? p->waited / p->seconds : 0;
    long long seen = (long long)(p->step * p->batch), all = (long long)(p->total * p->batch);
    double percent = p->total ? 100.0 * (double)p->step / (double)p->total : 100;
    char eta[32];
    duration(eta, sizeof eta, per_step * (double)(p->total - p->step));

    fprintf(r->metrics, "{\"step\": %lld, \"samples\": %lld, \"loss\": %.9g, \"lr\": %.17g, \"logit_scale\": %.9g, "
            "\"samples_per_second\": %.4g, \"data_wait\": %.4g}\n",
            (long long)p->step, seen, p->loss, p->lr, p->logit_scale, rate, wait);
    stamp(r->log);
    fprintf(r->log, "Train Epoch: 0 [%*lld/%lld (%.0f%%)] Data (t): %.3f Batch (t): %.3f, %g/s, %g/s/gpu LR: %5f "
            "Logit Scale: %.3f Contrastive_loss: %#.5g (%#.5g) Loss: %#.5g (%#.5g)\n",
            digits(all), seen, all, percent, p->steps ? p->waited / (double)p->steps : 0, per_step, rate, rate, p->lr,
            p->logit_scale, p->loss, p->loss_average, p->loss, p->loss_average);
    bool lost = fflush(r->metrics) || fflush(r->log);

    char line[256];
    snprintf(line, sizeof line, "step %*lld/%lld  loss %.4f  lr %.3g  scale %.2f  %.3g samples/s  data wait %.0f%%  left %s",
             digits(p->total), (long long)p->step, (long long)p->total, p->loss, p->lr, p->logit_scale, rate, 100 * wait, eta);
    if (r->terminal) {
        char bar[21];
        int full = (int)(percent / 5);
        for (int i = 0; i < 20; i++)
            bar[i] = i < full ? '#' : '.';
        bar[20] = 0;
        printf("\r[%s] %s\033[K", bar, line);
        r->bar_shown = true;
        if (p->step >= p->total) {
            putchar('\n');
            r->bar_shown = false;
        }
    } else {
        puts(line);
    }
    fflush(stdout);
    return lost ? tic_fail(TIC_IO, "%s: cannot write the log: %s", r->dir, strerror(errno)) : TIC_OK;
}

void tic_report_say(TicReport *r, const char *fmt, ...)
{
    char text[2048];
    va_list v;
    va_start(v, fmt);
    vsnprintf(text, sizeof text, fmt, v);
    va_end(v);
    if (r && r->bar_shown) {
        putchar('\n');
        r->bar_shown = false;
    }
    puts(text);
    fflush(stdout);
    if (r && r->log) {
        stamp(r->log);
        fprintf(r->log, "%s\n", text);
        fflush(r->log);
    }
}
