#!/usr/bin/env python3
"""make_fixtures.py -- what OpenCLIP computes for the models of this folder, as small files that check.c reads.

    python tests/parity/make_fixtures.py            writes tests/parity/data/{tiny,quick,sigmoid,wide,large}.safetensors
    python tests/parity/make_fixtures.py --full DIR writes DIR/vit_b16.safetensors: the real ViT-B/16 with random weights

Needs torch, open_clip_torch, safetensors. The model is open_clip's own class with this size, the optimiser torch's
AdamW in open_clip's two groups, the schedule and the losses are open_clip's. The small models are computed in f64 from
f32 weights and inputs, so the files hold what is true, not one machine's rounding; --full computes in f32 as people do.
"""
import argparse, os, sys
import numpy as np, torch
from open_clip.loss import ClipLoss, SigLipLoss
from open_clip.model import CLIP
from open_clip_train.scheduler import cosine_lr
from safetensors.numpy import save_file
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recipe import digest, parameter, uniform

PEAK, WARMUP, TOTAL, STEPS, DECAY, CLIP_NORM = 1e-4, 4, 20, 10, 0.2, 0.1


def config(size, patch, vw, vl, vh, vocab, context, tw, tl, th, out, quick=False, sigmoid=False):
    return dict(embed_dim=out, quick_gelu=quick,
                vision_cfg=dict(image_size=size, patch_size=patch, width=vw, layers=vl, head_width=vw // vh),
                text_cfg=dict(context_length=context, vocab_size=vocab, width=tw, layers=tl, heads=th),
                **(dict(init_logit_bias=-10) if sigmoid else {}))


MODELS = {
    "tiny": config(32, 8, 32, 2, 2, 64, 12, 16, 2, 2, 16),
    "quick": config(32, 8, 32, 2, 2, 64, 12, 16, 2, 2, 16, quick=True),
    "sigmoid": config(32, 8, 32, 2, 2, 64, 12, 16, 2, 2, 16, sigmoid=True),
    "wide": config(48, 16, 768, 1, 12, 64, 12, 512, 1, 8, 512),
    "large": config(42, 14, 1024, 1, 16, 64, 12, 768, 1, 12, 768),
    "vit_b16": config(224, 16, 768, 12, 12, 49408, 77, 512, 12, 8, 512),
}


def inputs(cfg, batch):
    """Pixels of the size of normalised ones, each row with a level of its own so that images differ as photographs do;
    captions of differing length that end in the largest id."""
    v, t = cfg["vision_cfg"], cfg["text_cfg"]
    side = v["image_size"]
    pixels = uniform("pixels", batch * 3 * side * side).reshape(batch, 3, side, side)
    pixels = pixels + 1.5 * uniform("rows", batch * 3 * side).reshape(batch, 3, side, 1)
    vocab, context = t["vocab_size"], t["context_length"]
    tokens = np.zeros((batch, context), np.int64)
    for i in range(batch):
        n = 3 + (5 * i + 2) % (context - 3)
        ids = ((uniform("tokens %d" % i, n) + 1) / 2 * (vocab - 2)).astype(np.int64)
        tokens[i, :n] = ids
        tokens[i, 0], tokens[i, n - 1] = vocab - 2, vocab - 1
    return pixels.astype(np.float32), tokens


def build(cfg, scale, dtype):
    model = CLIP(**cfg).to(dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(parameter(name, tuple(p.shape), scale)))
    return model


def optimiser(model):
    decay = [p for n, p in model.named_parameters() if p.ndim >= 2]
    plain = [p for n, p in model.named_parameters() if p.ndim < 2]
    return torch.optim.AdamW([dict(params=plain, weight_decay=0.0), dict(params=decay, weight_decay=DECAY)], lr=PEAK,
                             betas=(0.9, 0.98), eps=1e-6, foreach=False)


def run(cfg, scale, pixels, tokens, clip, dtype, want, steps=STEPS):
    model = build(cfg, scale, dtype)
    model.train()
    opt = optimiser(model)
    schedule = cosine_lr(opt, PEAK, WARMUP, TOTAL)
    loss_of = SigLipLoss() if model.logit_bias is not None else ClipLoss()
    x, t = torch.from_numpy(pixels).to(dtype), torch.from_numpy(tokens)
    losses = []
    for step in range(steps):
        schedule(step)
        opt.zero_grad()
        out = model(x, t)
        image, text = out[0], out[1]
        loss = loss_of(*out)
        loss.backward()
        losses.append(loss.item())
        if step == 0 and not clip:
            want["image_features"] = image.detach().numpy()
            want["text_features"] = text.detach().numpy()
            for name, p in model.named_parameters():
                want["grad/" + name] = digest(p.grad.numpy())
        if clip:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            assert step > 0 or norm > CLIP_NORM, norm
        opt.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if step + 1 in (1, STEPS):
            for name, p in model.named_parameters():
                want["%safter%d/%s" % ("clip/" if clip else "", step + 1, name)] = digest(p.detach().numpy())
    want["clip/loss" if clip else "loss"] = np.array(losses)


def values(name, batch, dtype, steps=STEPS):
    cfg, scale = MODELS[name], 0.5 if name in ("tiny", "quick", "sigmoid") else np.log(1 / 0.07)
    pixels, tokens = inputs(cfg, batch)
    want = {"tokens": tokens, "plan": np.array([TOTAL, batch, scale])}
    for clip in (False, True)[:2 if steps == STEPS else 1]:
        run(cfg, scale, pixels, tokens, clip, dtype, want, steps)
    return {k: np.ascontiguousarray(v, np.float32) for k, v in want.items()}


def fixture(name, path, batch, dtype, steps=STEPS):
    want = values(name, batch, dtype, steps)
    save_file(want, path)
    print("%s: %d values, %d bytes, first loss %.6f" % (path, len(want), os.path.getsize(path), want["loss"][0]))


def noise(name):
    """The table of check.c for torch's own f32."""
    true, single, worst = values(name, 4, torch.float64), values(name, 4, torch.float32), {}
    whole = np.sqrt(sum(float(v[0]) ** 2 for k, v in true.items() if k.startswith("grad/")))
    for k, v in true.items():
        kind = k.split("/")[0] if not k.startswith("clip/") else "/".join(k.split("/")[:2])
        delta = v.astype(np.float64) - single[k]
        error = np.abs(delta).max()
        if "/" in k and not k.endswith("loss"):
            error = max(np.sqrt(np.mean(delta[1:9] ** 2)), np.abs(delta[9:]).max(), abs(delta[0]))
            error /= max(v[0], 1e-3 * whole if kind == "grad" else 0)
        elif k.endswith("loss"):
            error /= max(1, v.max())
        if error >= worst.get(kind, (0, ""))[0]:
            worst[kind] = (error, k)
    for kind, (error, k) in worst.items():
        print("%-8s torch f32 against f64: %-16s %.2e  %s" % (name, kind, error, k))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--full", metavar="DIR", help="only ViT-B/16, into this folder")
    a.add_argument("--noise", action="store_true", help="write nothing; print how far torch's f32 is from its f64")
    a = a.parse_args()
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
    if a.full:
        fixture("vit_b16", os.path.join(a.full, "vit_b16.safetensors"), 8, torch.float32, steps=2)
        return
    for name in MODELS:
        if name != "vit_b16" and a.noise:
            noise(name)
        elif name != "vit_b16":
            fixture(name, os.path.join(folder, name + ".safetensors"), 4, torch.float64)


if __name__ == "__main__":
    main()
