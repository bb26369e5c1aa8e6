/* events.h -- TensorBoard's event file: TFRecords (length, masked CRC-32C, data, masked CRC-32C) of Event messages.
 *
 * Format: tensorflow/core/lib/io/record_writer.cc, tensorflow/core/util/event.proto, .../framework/summary.proto. */
#ifndef TIC_TRAIN_EVENTS_H
#define TIC_TRAIN_EVENTS_H
#include "base.h"

typedef struct { const char *tag; double value; } TicScalar;
typedef struct TicEvents TicEvents;

/* Opens DIR/events.out.tfevents.ticc, made with its folder when absent. Records of steps beyond `last_step`, and what
 * follows a damaged record, are dropped first. TIC_IO when it cannot be read or written. */
TicStatus tic_events_open(const char *dir, int64_t last_step, TicEvents **out);
/* One record with all the values of a step; written through at once. At most TIC_MAX_SCALARS of them. */
TicStatus tic_events_put(TicEvents *e, int64_t step, double wall_time, const TicScalar *scalar, int n);
TicStatus tic_events_sync(TicEvents *e);         /* down to the disk */
void tic_events_close(TicEvents *e);

enum { TIC_MAX_SCALARS = 16 };
uint32_t tic_crc32c(const void *data, size_t size);
#endif
