#!/usr/bin/env python3
"""The training step of CLIP ViT-B/16 in plain PyTorch, as OpenCLIP runs it: bf16 autocast, scaled_dot_product_attention,
exact GELU, fused AdamW, logits of the whole batch. Pairs/s, eager and compiled.

    bench_torch.py [BATCH...] [--compile]        the median of five steps after three to warm up"""
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc, self.proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x, causal):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(z.transpose(1, 2).reshape(b, t, d))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 768, 16, 16, bias=False)
        self.cls, self.pos = nn.Parameter(torch.randn(768) * .02), nn.Parameter(torch.randn(197, 768) * .02)
        self.ln_pre, self.ln_post = nn.LayerNorm(768), nn.LayerNorm(768)
        self.vision = nn.ModuleList(Block(768, 12) for _ in range(12))
        self.vision_out = nn.Parameter(torch.randn(768, 512) * .03)
        self.tokens, self.text_pos = nn.Embedding(49408, 512), nn.Parameter(torch.randn(77, 512) * .01)
        self.text = nn.ModuleList(Block(512, 8) for _ in range(12))
        self.ln_final, self.text_out = nn.LayerNorm(512), nn.Parameter(torch.randn(512, 512) * .04)
        self.scale = nn.Parameter(torch.tensor(2.659))

    def forward(self, pixels, tokens):
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.to(x.dtype).expand(x.shape[0], 1, -1), x], 1) + self.pos.to(x.dtype)
        x = self.ln_pre(x)
        for block in self.vision:
            x = block(x, False)
        u = F.normalize(self.ln_post(x[:, 0]) @ self.vision_out, dim=-1)
        y = self.tokens(tokens) + self.text_pos
        for block in self.text:
            y = block(y, True)
        y = self.ln_final(y)[torch.arange(y.shape[0], device=y.device), tokens.argmax(-1)]
        v = F.normalize(y @ self.text_out, dim=-1)
        logits = self.scale.exp() * u @ v.T
        at = torch.arange(u.shape[0], device=u.device)
        return (F.cross_entropy(logits, at) + F.cross_entropy(logits.T, at)) / 2


def measure(batch, compiled):
    torch.manual_seed(0)
    model = Clip().cuda()
    step_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(.9, .98), eps=1e-6, fused=True)
    pixels = torch.randn(batch, 3, 224, 224, device='cuda')
    tokens = torch.randint(0, 49000, (batch, 77), device='cuda')
    seconds = []
    for _ in range(8):
        torch.cuda.synchronize()
        t = time.perf_counter()
        with torch.autocast('cuda', torch.bfloat16):
            loss = step_of(pixels, tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - t)
    ms = sorted(seconds[3:])[2] * 1e3
    print(f'PyTorch {torch.__version__} {"torch.compile" if compiled else "eager":13s} batch {batch:5d}: {ms:8.2f} ms, {batch / ms * 1e3:7.1f} pairs/s, '
          f'{torch.cuda.max_memory_allocated() / 1e9:.1f} GB', flush=True)


def main():
    batches = [int(a) for a in sys.argv[1:] if a.isdigit()] or [256]
    for batch in batches:
        measure(batch, False)
        if '--compile' in sys.argv:
            measure(batch, True)


main()
