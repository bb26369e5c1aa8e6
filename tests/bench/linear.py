#!/usr/bin/env python3
"""The matrix products of ViT-B/16's linear layers, each alone, beside torch.mm in turns, on the same threads.

    make bench-linear           or   tests/bench/linear.py build/release/tests/bench_linear [--threads 1] [--rounds 15]

Needs torch; its matrix products on a CPU are oneDNN's or MKL's. Every round runs each product once on each side, after one run
of it that is not timed; medians and the median of the ratios are printed. Without Python, bench_linear prints the
shares of the peak.
"""
import argparse
import statistics
import subprocess
import time

import torch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command = [args.program, "--serve", "--threads", str(args.threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    products = []
    while line := process.stdout.readline().strip():
        kind, *sizes = line.split()
        products.append((kind, *map(int, sizes)))

    def ours(i):
        process.stdin.write(f"{i}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    operands = []
    for kind, m, n, k in products:
        a = torch.rand(k, m).t() if kind == "weight" else torch.rand(m, k)
        b = torch.rand(n, k).t() if kind == "forward" else torch.rand(k, n)
        operands.append((a, b, torch.empty(m, n)))

    def theirs(i):
        a, b, c = operands[i]
        start = time.perf_counter()
        torch.mm(a, b, out=c)
        return 1e3 * (time.perf_counter() - start)

    times = [[] for _ in products]
    for _ in range(args.rounds):
        for i, answers in enumerate(times):
            ours(i)
            mine = ours(i)
            theirs(i)
            answers.append((mine, theirs(i)))
    print(f"torch {torch.__version__}, {args.threads} threads, medians of {args.rounds}")
    print("product      m     n     k   ticc ms  torch ms  ticc is")
    for (kind, m, n, k), answers in zip(products, times):
        mine, other = (statistics.median(x) for x in zip(*answers))
        ratio = statistics.median(y / x for x, y in answers)
        print(f"{kind:8} {m:5} {n:5} {k:5} {mine:9.3f} {other:9.3f}  {ratio:.2f} x as fast")
    process.stdin.close()
    process.wait()


main()
