#!/usr/bin/env python3
"""Training steps and the image tower of a compiled program beside the same in PyTorch, in turns on the same threads.

    make bench-torch            or   tests/bench/torch_step.py build/release/ticc models/vit_b16.tic --model ViT-B-16 --batch 16

Needs torch and open_clip (the model is OpenCLIP's, weights at random; --model tiny is models/vit_tiny.tic). Every side does forward,
contrastive loss, backward and AdamW on random pictures and short captions; nobody reads data. PyTorch runs eagerly and under
torch.compile, each in a process of its own, and does a step when it is its turn; ours is `bench --json`. A precision is compiled,
warmed up and timed before the next is begun; --seconds bounds the whole (the round that is begun is finished). Printed are
medians, ratios to them, and the peak resident memory of each process after its steps.

PyTorch's numbers need an OpenMP or MKL build, as the wheels are: a BLAS whose threads spin after a call disturbs its neighbour.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}


def worker(args):
    """Answers each line on stdin with a number: "step", "image N" (ms), "memory" (bytes)."""
    import open_clip
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY) if args.model == "tiny" else open_clip.create_model(args.model, pretrained=None)
    model.train()
    loss_of = open_clip.ClipLoss()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.2},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    size = model.visual.image_size
    side = size[0] if isinstance(size, (tuple, list)) else size
    pixels = torch.randn(args.batch, 3, side, side)
    tokens = torch.zeros(args.batch, 77, dtype=torch.long)
    tokens[:, 0], tokens[:, 1:13], tokens[:, 13] = 49406, torch.randint(1, 49000, (args.batch, 12)), 49407
    compiled = args.worker == "compile"
    run = torch.compile(model) if compiled else model
    encode = torch.compile(model.encode_image) if compiled else model.encode_image
    precision = torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with precision:
            image, text, scale = run(pixels, tokens)[:3]
            loss = loss_of(image, text, scale)
        loss.backward()
        optimizer.step()

    def image(n):
        with torch.inference_mode(), precision:
            encode(torch.randn(n, 3, side, side), normalize=True)

    def timed(f, *values):
        start = time.perf_counter()
        f(*values)
        return 1e3 * (time.perf_counter() - start)

    print(torch.__version__, flush=True)
    for line in sys.stdin:
        word = line.split()
        if word[0] == "step":
            answer = timed(step)
        elif word[0] == "image":
            model.eval()
            answer = timed(image, int(word[1]))
        else:
            answer = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(answer, flush=True)


class Torch:
    def __init__(self, mode, precision, args):
        command = [sys.executable, __file__, args.ticc, args.file, "--worker", mode, "--precision", precision]
        command += ["--model", args.model, "--batch", str(args.batch), "--threads", str(args.threads)]
        self.name = "PyTorch " + mode
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            sys.exit("PyTorch's side did not start; are torch and open_clip installed?")

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline() or "nan")

    def step(self):
        return self.ask("step")

    def image(self, n):
        return self.ask(f"image {n}")

    def memory(self):
        return self.ask("memory")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    name = "ticc"

    def __init__(self, precision, args, folder):
        self.args, self.program = args, os.path.join(folder, "program_" + precision)
        subprocess.run([args.ticc, args.file, "-D", "train.precision=" + precision, "-o", self.program], check=True)
        self.result = {}

    def bench(self, *flags):
        command = [self.program, "bench", "--json", "--threads", str(self.args.threads), *flags]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def step(self):
        self.result = self.bench("--batch", str(self.args.batch), "--steps", "1")
        return self.result["step_ms"]

    def image(self, n):
        return self.bench("--entry", "image", "--batch", str(n), "--steps", "3")["step_ms"]

    def memory(self):
        return self.result["resident_bytes"]

    def close(self):
        pass


def rounds(sides, what, most, until):
    """Each side in turn. PyTorch's first answer warms it up (and compiles); `bench` does that in every run."""
    times = [[] for _ in sides]
    for side in sides:
        if not isinstance(side, Ours):
            what(side)
    for _ in range(most):
        for side, answers in zip(sides, times):
            answers.append(what(side))
        if time.monotonic() > until:
            break
    return [statistics.median(answers) for answers in times], len(times[0])


def table(title, sides, ms, count, unit, amount, extra=None):
    print(f"{title}, medians of {count}")
    for i, side in enumerate(sides):
        ratio = "" if side.name == "ticc" else f"   ticc is {ms[i] / ms[0]:.2f}x as fast"
        more = f" {extra[i]:>24s}" if extra else ""
        print(f"  {side.name:16s} {ms[i]:10.1f} ms {1e3 * amount / ms[i]:9.2f} {unit}{more}{ratio}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ticc")
    parser.add_argument("file")
    parser.add_argument("--model", default="ViT-B-16", help="OpenCLIP's name of the model, or tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=["f32", "bf16"], action="append", help="default: both")
    parser.add_argument("--modes", default="eager,compile", help="ways of PyTorch")
    parser.add_argument("--images", default="1,32", help="batches of the image tower; empty: none")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.precision = args.precision[0]
        worker(args)
        return
    precisions, start = args.precision or ["f32", "bf16"], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for i, precision in enumerate(precisions):
            until = start + args.seconds * (i + 0.8) / len(precisions)
            sides = [Ours(precision, args, folder)] + [Torch(mode, precision, args) for mode in args.modes.split(",") if mode]
            ms, count = rounds(sides, lambda side: side.step(), args.rounds, until)
            memory = [f"{side.memory() / 1e9:.2f} GB at most" for side in sides]
            versions = {side.version for side in sides[1:]}
            share = 100 * sides[0].result["peak_share"]
            print(f"{precision}: {' '.join(versions)}, {args.threads} threads; ticc at {share:.0f} % of the measured f32 peak")
            table(f"step, batch {args.batch}", sides, ms, count, "pairs/s", args.batch, memory)
            for n in [int(n) for n in args.images.split(",") if n]:
                ms, count = rounds(sides, lambda side: side.image(n), args.rounds, until)
                table(f"encode_image, batch {n}", sides, ms, count, "images/s", n)
            for side in sides:
                side.close()
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
