#!/usr/bin/env python3
"""A training step of a compiled program beside the same step in PyTorch, in turns on the same threads.

    ticc models/vit_b16.tic -o step && tests/bench/torch_step.py ./step --batch 8 --rounds 3 [--precision bf16] [--compile]

Needs torch and open_clip (the model is OpenCLIP's, weights at random). Both sides do forward, contrastive loss, backward and
AdamW on random pictures and short captions; neither reads data. Each round times one step of PyTorch and one run of
`bench --json`; the printed ratio is that of the medians. A BLAS whose threads spin after a call disturbs its neighbour: use
a build of PyTorch with OpenMP or MKL, as the wheels are.
"""
import argparse
import json
import os
import statistics
import subprocess
import time


def torch_step(args):
    import open_clip
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = open_clip.create_model(args.model, pretrained=None)
    loss_of = open_clip.ClipLoss()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.2}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    pixels = torch.randn(args.batch, 3, model.visual.image_size[0], model.visual.image_size[1])
    tokens = torch.zeros(args.batch, 77, dtype=torch.long)
    tokens[:, 0], tokens[:, 1:13], tokens[:, 13] = 49406, torch.randint(1, 49000, (args.batch, 12)), 49407
    run = torch.compile(model) if args.compile else model

    def step():
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            image, text, scale = run(pixels, tokens)[:3]
            loss = loss_of(image, text, scale)
        loss.backward()
        optimizer.step()
        return 1e3 * (time.perf_counter() - start)

    return step, torch.__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", default="ViT-B-16", help="OpenCLIP's name of the model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of PyTorch; the program has its own")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    args = parser.parse_args()
    step, version = torch_step(args)
    command = [args.program, "bench", "--json", "--batch", str(args.batch), "--threads", str(args.threads), "--steps", "1"]
    step()  # warms up, compiles
    theirs, ours, share = [], [], []
    for _ in range(args.rounds):
        theirs.append(step())
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ours.append(result["step_ms"])
        share.append(result["peak_share"])
        print(f"pytorch {theirs[-1]:9.1f} ms   program {ours[-1]:9.1f} ms   {100 * share[-1]:.1f} % of peak", flush=True)
    a, b = statistics.median(theirs), statistics.median(ours)
    mode = "torch.compile" if args.compile else "eager"
    print(f"batch {args.batch}, {args.threads} threads: PyTorch {version} {mode} {args.precision} {a:.1f} ms, program {b:.1f} ms "
          f"({100 * statistics.median(share):.1f} % of measured peak): {a / b:.2f}x")


if __name__ == "__main__":
    main()
