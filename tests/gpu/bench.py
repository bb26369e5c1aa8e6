# bench.py -- what bench.c times, by PyTorch (cuBLAS, scaled_dot_product_attention) on the same card: bf16, random data, median of 9.
import torch

torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def ms(f, runs=9):
    f(), f()
    times = []
    for _ in range(runs):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record(), f(), b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return sorted(times)[runs // 2]


def line(name, product, result, t, flops):
    print(f"  {name:8} {product:9} {result:9} {t:10.3f} ms {flops / t / 1e9:4.0f}", flush=True)


print(f"# torch {torch.__version__}, {torch.cuda.get_device_name()}")
V, T = 201728, 78848
for name, m, n, k in [("v qkv", V, 2304, 768), ("v proj", V, 768, 768), ("v fc1", V, 3072, 768), ("v fc2", V, 768, 3072),
                      ("t qkv", T, 1536, 512), ("t proj", T, 512, 512), ("t fc1", T, 2048, 512), ("t fc2", T, 512, 2048)]:
    x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
    y = torch.randn(m, n, device="cuda", dtype=torch.bfloat16)
    bias = torch.randn(n, device="cuda", dtype=torch.bfloat16)
    flops = 2 * m * n * k
    line(name, "forward", "bf16", ms(lambda: x @ w.t()), flops)
    if n == 4 * k:
        line(name, "forward", "bias+gelu", ms(lambda: torch.nn.functional.gelu(torch.addmm(bias, x, w.t()), approximate="tanh")), flops)
    line(name, "dgrad", "bf16", ms(lambda: y @ w), flops)
    line(name, "wgrad", "bf16", ms(lambda: y.t() @ x), flops)
    del x, w, y

for name, heads, tokens, causal in [("v attn", 12, 197, False), ("t attn", 8, 77, True)]:
    qkv = torch.randn(256, tokens, 3, heads, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    dz = torch.randn(256, heads, tokens, 64, device="cuda", dtype=torch.bfloat16)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    attend = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    flops = 256 * heads * tokens * tokens * 64 * (0.5 if causal else 1)
    line(name, "forward", "bf16", ms(attend), 4 * flops)
    z = attend()
    line(name, "backward", "bf16", ms(lambda: torch.autograd.grad(z, (q, k, v), dz, retain_graph=True)), 10 * flops)
