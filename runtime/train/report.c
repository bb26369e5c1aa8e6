/* report.c -- see report.h.
 *
 * metrics.jsonl holds what scripts read (one object a line); out.log has the line OpenCLIP writes, field for field, so
 * that existing log readers keep working; the event file has OpenCLIP's tags. Times in them are means since the line
 * before; the loss in brackets is the mean of the logged losses, which metrics.jsonl remembers for a resumed run. */
#define _GNU_SOURCE
#include "train/report.h"
#include "train/events.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST_LOG = 1 << 30, BAR = 20 };

struct TicReport {
    FILE *metrics, *log;
    TicEvents *events;
    char *metrics_path, *log_path;
    int64_t batch, log_every;
    int64_t window;                  /* steps since the last line */
    double seconds, waited;          /* of these steps */
    double loss_sum;
    int64_t losses;                  /* logged so far, over the whole run */
    double step_seconds;             /* running mean, for the time left; 0: none yet */
    double drawn;                    /* when the bar was drawn last */
    bool terminal, bar_shown;
};

/* ---- the files of a resumed run */

/* Calls keep(context, line) for each whole line and rewrites the file with those it returns true for. */
static TicStatus cut_lines(const char *path, bool (*keep)(void *context, const char *line), void *context)
{
    char *data;
    size_t size, kept = 0;
    if (access(path, F_OK))
        return TIC_OK;
    TRY(tic_read_file(path, LARGEST_LOG, &data, &size));
    for (char *line = data, *end; (end = memchr(line, '\n', (size_t)(data + size - line))); line = end + 1) {
        *end = 0;
        if (keep(context, line)) {
            size_t n = (size_t)(end - line);
            memmove(data + kept, line, n);
            data[kept + n] = '\n';
            kept += n + 1;
        }
    }
    TicStatus status = kept == size ? TIC_OK : tic_write_file(path, data, kept);
    free(data);
    return status;
}

typedef struct { TicReport *r; int64_t last; bool head_over; } Cut;

static bool keep_metrics(void *context, const char *line)
{
    Cut *c = context;
    long long step;
    double loss;
    if (sscanf(line, "{\"step\": %lld, \"samples\": %*d, \"loss\": %lf", &step, &loss) != 2 || step > c->last)
        return false;
    c->r->loss_sum += loss;
    c->r->losses++;
    return true;
}

/* The head and the lines of steps. What was said between and after them is about the end of the process that said it. */
static bool keep_log(void *context, const char *line)
{
    Cut *c = context;
    const char *at = strstr(line, "| Train Epoch: ");
    long long seen;
    if (!at || sscanf(at, "| Train Epoch: %*d [%lld/", &seen) != 1)
        return c->last && !c->head_over;
    c->head_over = true;
    return seen <= c->last * c->r->batch;
}

static FILE *open_to_append(const char *path, TicStatus *status)
{
    FILE *f = *status ? NULL : fopen(path, "a");
    if (!f && !*status)
        *status = tic_fail(TIC_IO, "%s: cannot write: %s", path, strerror(errno));
    return f;
}

TicStatus tic_report_open(const TicReportOptions *o, TicReport **out)
{
    *out = NULL;
    TicReport *r = tic_alloc(sizeof *r);
    *r = (TicReport){ .batch = o->batch, .log_every = o->log_every, .terminal = isatty(STDOUT_FILENO) };
    r->metrics_path = tic_format("%s/metrics.jsonl", o->dir);
    r->log_path = tic_format("%s/out.log", o->dir);
    char *events = tic_format("%s/tensorboard", o->dir);
    Cut cut = { .r = r, .last = o->from_step };
    TicStatus status = tic_make_dirs(o->dir);
    if (!status)
        status = cut_lines(r->metrics_path, keep_metrics, &cut);
    if (!status)
        status = cut_lines(r->log_path, keep_log, &cut);
    r->metrics = open_to_append(r->metrics_path, &status);
    r->log = open_to_append(r->log_path, &status);
    if (!status)
        status = tic_events_open(events, o->from_step, &r->events);
    free(events);
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
    if (r->bar_shown)
        putchar('\n');
    if (r->metrics)
        fclose(r->metrics);
    if (r->log)
        fclose(r->log);
    tic_events_close(r->events);
    free(r->metrics_path);
    free(r->log_path);
    free(r);
}

static TicStatus lost(const char *path)
{
    return tic_fail(TIC_IO, "%s: cannot write: %s", path, strerror(errno));
}

TicStatus tic_report_sync(TicReport *r)
{
    if (fflush(r->metrics) || fsync(fileno(r->metrics)))
        return lost(r->metrics_path);
    if (fflush(r->log) || fsync(fileno(r->log)))
        return lost(r->log_path);
    return tic_events_sync(r->events);
}

/* ---- a step */

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

static double rate(const TicReport *r) { return r->seconds > 0 ? (double)(r->window * r->batch) / r->seconds : 0; }
static double wait_share(const TicReport *r) { return r->seconds > 0 ? r->waited / r->seconds : 0; }

static TicStatus write_files(TicReport *r, const TicProgress *p)
{
    long long seen = (long long)(p->step * r->batch), all = (long long)(p->total * r->batch);
    double data = r->waited / (double)r->window, batch = r->seconds / (double)r->window, speed = rate(r);
    r->loss_sum += p->loss;
    r->losses++;
    double mean = r->loss_sum / (double)r->losses;
    fprintf(r->metrics, "{\"step\": %lld, \"samples\": %lld, \"loss\": %.9g, \"lr\": %.17g, \"logit_scale\": %.9g, "
            "\"samples_per_second\": %.4g, \"data_wait\": %.4g}\n",
            (long long)p->step, seen, p->loss, p->lr, p->logit_scale, speed, wait_share(r));
    if (fflush(r->metrics))
        return lost(r->metrics_path);
    stamp(r->log);
    fprintf(r->log, "Train Epoch: 0 [%*lld/%lld (%.0f%%)] Data (t): %.3f Batch (t): %.3f, %#g/s, %#g/s/gpu LR: %5f "
            "Logit Scale: %.3f Contrastive_loss: %#.5g (%#.5g) Loss: %#.5g (%#.5g)\n",
            digits(all), seen, all, p->total ? 100.0 * (double)p->step / (double)p->total : 100, data, batch, speed, speed, p->lr,
            p->logit_scale, p->loss, mean, p->loss, mean);
    if (fflush(r->log))
        return lost(r->log_path);
    const TicScalar scalar[] = {
        { "train/data_time", data }, { "train/batch_time", batch }, { "train/samples_per_second", speed },
        { "train/samples_per_second_per_gpu", speed }, { "train/scale", p->logit_scale }, { "train/lr", p->lr },
        { "train/contrastive_loss", p->loss }, { "train/loss", p->loss },
    };
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return tic_events_put(r->events, p->step, (double)now.tv_sec + (double)now.tv_nsec * 1e-9, scalar, TIC_LEN(scalar));
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_col < 20 ? 80 : w.ws_col;
}

static void show(TicReport *r, const TicProgress *p)
{
    char line[256], left[32], bar[BAR + 4] = "";
    duration(left, sizeof left, r->step_seconds * (double)(p->total - p->step));
    snprintf(line, sizeof line, "step %*lld/%lld  loss %.4f  lr %.3g  scale %.2f  %.*f samples/s  data wait %.0f%%  left %s",
             digits(p->total), (long long)p->step, (long long)p->total, p->loss, p->lr, p->logit_scale, rate(r) < 100, rate(r), 100 * wait_share(r), left);
    if (!r->terminal) {
        puts(line);
    } else {
        int full = p->total ? (int)(BAR * p->step / p->total) : BAR, room = columns() - 1;
        if (BAR + 3 + (int)strlen(line) <= room)
            for (int i = 0; i < BAR + 3; i++)
                bar[i] = i == 0 ? '[' : i <= full ? '#' : i <= BAR ? '.' : i == BAR + 1 ? ']' : ' ';
        printf("\r%s%.*s\033[K", bar, room - (int)strlen(bar), line);       /* a line that wraps could not be redrawn */
        r->bar_shown = true;
        r->drawn = tic_now();
    }
    fflush(stdout);
}

TicStatus tic_report_step(TicReport *r, const TicProgress *p)
{
    bool due = p->step == 1 || p->step == p->total || p->step % r->log_every == 0;
    r->window++;
    r->seconds += p->seconds;
    r->waited += p->waited;
    r->step_seconds = r->step_seconds > 0 ? 0.9 * r->step_seconds + 0.1 * p->seconds : p->seconds;
    if (due || (r->terminal && tic_now() - r->drawn > 0.1))
        show(r, p);
    if (!due)
        return TIC_OK;
    TRY(write_files(r, p));
    r->window = 0;
    r->seconds = r->waited = 0;
    return TIC_OK;
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
