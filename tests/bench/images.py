#!/usr/bin/env python3
"""From a JPEG to the normalised 224 x 224 of a batch, on one core: ours beside Pillow and torchvision, in turns.

    make bench-images                   or   tests/bench/images.py build/release/tests/bench_images [--pictures DIR]

Needs torch, torchvision, Pillow, numpy. Both sides begin with the same bytes in memory; that they end with the same
pixels is tested elsewhere (tests/parity). Pictures are drawn with the spectrum of photographs, longest side 512, 4:2:0, quality
90 (2.4 bits a pixel); --pictures takes the JPEGs of a folder instead. Each round times each way once over all pictures; medians
are compared.
"""
import argparse
import glob
import io
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
import torchvision
from PIL import Image, __version__ as pillow_version
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, RandomResizedCrop, Resize, ToTensor

SHAPES = [(512, 512), (512, 384), (512, 384), (384, 512), (512, 341)]
NORMALISE = [ToTensor(), Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))]
CUBIC = InterpolationMode.BICUBIC
EVAL = Compose([Resize(224, interpolation=CUBIC), CenterCrop(224)] + NORMALISE)
TRAIN = Compose([RandomResizedCrop(224, scale=(0.9, 1.0), interpolation=CUBIC)] + NORMALISE)


def photograph(rng, width, height):
    """Brightness and two weaker colours, each noise whose amplitude falls with frequency."""
    planes = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.standard_normal((height, width)))
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        frequency[0, 0] = 1
        plane = np.fft.irfft2(noise / frequency**1.4, (height, width))
        planes.append(plane / plane.std())
    light, blue, red = planes[0], planes[1] / 4, planes[2] / 4
    rgb = np.stack([light + red, light - 0.3 * blue - 0.4 * red, light + blue], -1)
    return Image.fromarray(np.clip(120 + 50 * rgb, 0, 255).astype(np.uint8))


def write_pictures(folder):
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SHAPES):
        photograph(rng, width, height).save(os.path.join(folder, f"{i}.jpg"), quality=90)


def theirs(transform, files):
    start = time.perf_counter()
    for data in files:
        transform(Image.open(io.BytesIO(data)).convert("RGB"))
    return 1e6 * (time.perf_counter() - start) / len(files)


def ours(process, mode):
    process.stdin.write(mode + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--pictures", metavar="DIR", help="*.jpg to use; default: drawn")
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of the child too: one core for both
    with tempfile.TemporaryDirectory() as folder:
        if not args.pictures:
            write_pictures(folder)
        paths = sorted(glob.glob(os.path.join(args.pictures or folder, "*.jpg")))
        files = [open(path, "rb").read() for path in paths]
        process = subprocess.Popen([args.program, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ways = {
            "train": (lambda: theirs(TRAIN, files), lambda: ours(process, "train")),
            "train, decode = scaled": (lambda: theirs(TRAIN, files), lambda: ours(process, "train scaled")),
            "eval": (lambda: theirs(EVAL, files), lambda: ours(process, "eval")),
        }
        times = {name: ([], []) for name in ways}
        decode = []
        for round in range(args.rounds + 1):
            decode.append(theirs(lambda image: None, files))
            for name, pair in ways.items():
                for side in (0, 1):
                    us = pair[side]()
                    if round:  # the first warms up
                        times[name][side].append(us)
        process.stdin.close()
        process.wait()
    size = sum(map(len, files)) / len(files)
    print(f"{len(files)} pictures of {size / 1000:.0f} kB on one core, medians of {args.rounds} rounds in turns, us a picture")
    print(f"Pillow {pillow_version}, torchvision {torchvision.__version__}; of theirs, decoding alone {statistics.median(decode):.0f}")
    print(f"{'':24s} {'theirs':>8s} {'ours':>8s} {'ratio':>7s}")
    for name, (a, b) in times.items():
        a, b = statistics.median(a), statistics.median(b)
        print(f"{name:24s} {a:8.0f} {b:8.0f} {a / b:6.2f}x")


if __name__ == "__main__":
    main()
