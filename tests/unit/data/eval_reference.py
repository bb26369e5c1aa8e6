#!/usr/bin/env python3
"""Writes eval_small.bin: features of the sample data's size and what CLIP_benchmark 1.4 counts on them.

    python eval_reference.py eval_small.bin [--check]

The counts are those of clip_benchmark/metrics/zeroshot_retrieval.py and zeroshot_classification.py, written out in plain
numpy: top-k by sorting each row, recall of rows whose positives are none is NaN and compares false, balanced accuracy over
the classes that occur. --check compares with the package itself (pip install clip-benchmark torch scikit-learn).

Layout, little-endian: int32 images, texts, width, classes, templates; float32 image [images, width], text [texts, width],
class texts [classes, templates, width]; int64 image_of [texts], label [images]; float64: image_retrieval_recall@1, 5, 10,
text_retrieval_recall@1, 5, 10, acc1, acc5, mean_per_class_recall.
"""
import sys
import numpy as np

IMAGES, WIDTH, CLASSES, TEMPLATES = 60, 24, 12, 3


def unit(x):
    return (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def recall(scores, positive, k):
    k = min(k, scores.shape[1])
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(positive, top, axis=1).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return float(((hits / positive.sum(axis=1)) > 0).mean())


def main():
    rng = np.random.default_rng(7)
    centre = rng.normal(size=(CLASSES, WIDTH))
    label = rng.integers(0, CLASSES - 1, IMAGES)                         # the last class never occurs
    image = unit(centre[label] + rng.normal(size=(IMAGES, WIDTH)) * 1.2)
    lines = rng.choice([0, 1, 1, 1, 2, 3], IMAGES)                       # lines a caption has; 0: an empty caption
    image_of = np.repeat(np.arange(IMAGES), lines)
    text = unit(image[image_of] * 1.5 + rng.normal(size=(len(image_of), WIDTH)) * 0.5)
    classes = unit(centre[:, None] + rng.normal(size=(CLASSES, TEMPLATES, WIDTH)) * 1.5)

    scores = text @ image.T
    positive = np.zeros(scores.shape, bool)
    positive[np.arange(len(image_of)), image_of] = True
    want = [recall(scores, positive, k) for k in (1, 5, 10)] + [recall(scores.T, positive.T, k) for k in (1, 5, 10)]
    weights = unit(classes.mean(axis=1))
    logits = 100 * image @ weights.T
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == label[:, None]).argmax(axis=1)
    want += [float((rank < 1).mean()), float((rank < 5).mean())]
    want += [float(np.mean([(order[label == c, 0] == c).mean() for c in np.unique(label)]))]
    if "--check" in sys.argv:
        check(scores, positive, logits, label, want)
    with open(sys.argv[1], "wb") as f:
        np.array([IMAGES, len(image_of), WIDTH, CLASSES, TEMPLATES], "<i4").tofile(f)
        for a, kind in ((image, "<f4"), (text, "<f4"), (classes, "<f4"), (image_of, "<i8"), (label, "<i8"), (want, "<f8")):
            np.asarray(a, kind).tofile(f)
    print(*(f"{w:.6f}" for w in want))


def check(scores, positive, logits, label, want):
    import torch
    from clip_benchmark.metrics import zeroshot_retrieval as zr
    from sklearn.metrics import balanced_accuracy_score
    s, p = torch.from_numpy(scores), torch.from_numpy(positive)
    got = []
    for a, b in ((s, p), (s.T, p.T)):
        got += [(zr.batchify(zr.recall_at_k, a, b, 16, "cpu", k=k) > 0).float().mean().item() for k in (1, 5, 10)]
    out, target = torch.from_numpy(logits), torch.from_numpy(label)
    correct = out.topk(5, 1)[1].eq(target[:, None])          # zeroshot_classification.accuracy, which NumPy 2 does not run
    got += [correct[:, :k].any(dim=1).float().mean().item() for k in (1, 5)] + [balanced_accuracy_score(target, out.argmax(dim=1))]
    assert np.allclose(got, want, atol=1e-6), (got, want)
    print("clip_benchmark agrees")


main()
