#!/usr/bin/env python3
"""resume.py -- training handed over between ticc and OpenCLIP's own training code, in both directions.

    python tests/parity/resume.py TICC          e.g. build/release/ticc

Needs torch, open_clip_torch, and what its training code imports (webdataset, braceexpand, pandas). A set of eight pictures is one batch, the crop takes the whole
picture, and the contrastive loss does not mind the order of a batch: so both programs see the same step, whatever their
random numbers are. Three steps in one program, then the fourth in each of them; the two losses are compared.
"""
import io, json, os, re, subprocess, sys, tarfile, tempfile
import numpy as np
from PIL import Image

LIMIT = 1e-4
BATCH = 8
PROGRAM = """
use nn
use clip
use optim
model handed_over {
    fn encode_image(pixels[n, ch: 3, y: 32, x: 32]) =
        l2_normalize(vision_transformer(pixels, width = 64, layers = 2, heads = 2, patch = 8, out = 32) as visual)
    fn encode_text(tokens[n, t: 77]) =
        l2_normalize(text_transformer(tokens, vocab = 49408, width = 64, layers = 2, heads = 2, out = 32))
    param logit_scale = ln(1 / 0.07)
    fn loss(pixels, tokens) = clip_loss(encode_image(pixels), encode_text(tokens), exp(logit_scale))
}
data eight {
    shards   = "{data}/train/{year}/**/*.tar"
    image    = random_resized_crop(32, scale = 1..1, ratio = 1..1, filter = bicubic)
    text     = clip_bpe(context = 77)
    sampling = without_replacement
}
train {
    batch     = 8
    samples   = 8 * 20
    optimizer = adamw(lr = constant(peak = 1e-3, warmup = 0), beta1 = 0.9, beta2 = 0.98, eps = 1e-6,
                      weight_decay(p) = if rank(p) < 2 then 0 else 0.2)
    after { logit_scale = clamp(logit_scale, 0, ln(100)) }
}
"""
CONFIG = {"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
          "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}}


def draw(folder):
    """Eight pictures of noise on a colour, and captions: as a shard and as a table of files."""
    rng = np.random.default_rng(5)
    os.makedirs(folder)
    with tarfile.open(folder + "/00000000.tar", "w") as tar, open(folder + "/pairs.csv", "w") as table:
        table.write("filepath,title\n")
        for i in range(BATCH):
            base = rng.integers(0, 256, 3)
            pixels = np.clip(base + rng.integers(-60, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG")
            caption = "picture number %d of colour %d" % (i, base[0])
            with open("%s/%04d.png" % (folder, i), "wb") as f:
                f.write(png.getvalue())
            table.write("%s/%04d.png,%s\n" % (folder, i, caption))
            for name, data in (("%04d.png" % i, png.getvalue()), ("%04d.txt" % i, caption.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def ticc(program, work, name, steps, *more):
    run = subprocess.run([program, "--data", work + "/pool", "--out", work + "/ticc", "--name", name, "--steps", str(steps), "--start", "2016",
                          "--log-every", "1", "--vocab", vocabulary(), *more], capture_output=True, text=True)
    if run.returncode:
        sys.exit("ticc: " + run.stdout + run.stderr)
    with open("%s/ticc/%s/metrics.jsonl" % (work, name)) as f:
        return {j["step"]: j["loss"] for j in map(json.loads, f)}


def vocabulary():
    import open_clip
    return os.path.join(os.path.dirname(open_clip.__file__), "bpe_simple_vocab_16e6.txt.gz")


def open_clip_run(work, name, epochs, resume=None):
    """open_clip_train.main with one step an epoch; the losses by epoch."""
    script = ("import open_clip, sys; open_clip.add_model_config(%r); from open_clip_train.main import main; main(sys.argv[1:])" % (work + "/configs"))
    args = ["--model", "handed-over", "--train-data", work + "/pool/train/2016/pairs.csv", "--dataset-type", "csv", "--csv-separator", ",",
            "--batch-size", str(BATCH), "--workers", "1", "--epochs", str(epochs), "--precision", "fp32", "--lr", "1e-3", "--beta1", "0.9",
            "--beta2", "0.98", "--eps", "1e-6", "--wd", "0.2", "--warmup", "0", "--lr-scheduler", "const", "--logs", work + "/open_clip", "--name",
            name, "--save-frequency", "1", "--aug-cfg", "scale=(1.0, 1.0)", "ratio=(1.0, 1.0)", "--device", "cpu", "--log-every-n-steps", "1"]
    if resume:
        args += ["--resume", resume]
    run = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if run.returncode:
        sys.exit("open_clip: " + run.stdout[-2000:] + run.stderr[-3000:])
    return {int(e): float(l) for e, l in re.findall(r"Train Epoch: (\d+) .* Loss: ([0-9.e+-]+)", run.stdout + run.stderr)}


def exact_loss(work, checkpoint):
    """The loss of open_clip's model on the eight pairs with the weights of a file, to more digits than its log has."""
    import open_clip, torch
    open_clip.add_model_config(work + "/configs")
    model, _, preprocess = open_clip.create_model_and_transforms("handed-over")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state)
    tokenizer, images, texts = open_clip.get_tokenizer("handed-over"), [], []
    with tarfile.open(work + "/pool/train/2016/00000000.tar") as tar:
        for member in tar:
            data = tar.extractfile(member).read()
            if member.name.endswith("png"):
                images.append(preprocess(Image.open(io.BytesIO(data)).convert("RGB")))
            else:
                texts.append(data.decode())
    with torch.no_grad():
        return open_clip.loss.ClipLoss()(*model(torch.stack(images), tokenizer(texts))).item()


def old_form(source, target):
    """As 2.24 under DistributedDataParallel writes it: module. before every name, numpy's float as the learning rate."""
    import torch
    c = torch.load(source, map_location="cpu", weights_only=True)
    c["state_dict"] = {"module." + k: v for k, v in c["state_dict"].items()}
    for group in c["optimizer"]["param_groups"]:
        group["lr"] = np.float64(group["lr"])
    torch.save(c, target)


def main():
    compiler = sys.argv[1]
    worst = 0

    def compare(what, a, b):
        nonlocal worst
        worst = max(worst, abs(a - b))
        print("%-76s %.7f %.7f  %.1e" % (what, a, b, abs(a - b)))

    with tempfile.TemporaryDirectory() as work:
        draw(work + "/pool/train/2016")
        os.makedirs(work + "/configs")
        with open(work + "/configs/handed-over.json", "w") as f:
            json.dump(CONFIG, f)
        with open(work + "/model.tic", "w") as f:
            f.write(PROGRAM)
        program = work + "/model"
        subprocess.run([compiler, work + "/model.tic", "-o", program], check=True)

        # OpenCLIP first: three steps, the fourth in both
        open_clip_run(work, "first", 3)
        saved = work + "/open_clip/first/checkpoints/epoch_3.pt"
        theirs = open_clip_run(work, "fourth", 4, saved)[3]
        for name, make in (("as-3.3-writes", lambda to: os.link(saved, to)), ("as-2.24-writes", lambda to: old_form(saved, to))):
            folder = "%s/ticc/%s/checkpoints" % (work, name)
            os.makedirs(folder)
            make(folder + "/epoch_latest.pt")
            ours = ticc(program, work, name, 4, "--resume")
            compare("3 steps by open_clip (%s), step 4: ticc, open_clip" % name, ours[4], exact_loss(work, saved))
            compare("    and as open_clip's training code logs it", ours[4], theirs)
            ours = ticc(program, work, name, 5, "--resume")
            after = open_clip_run(work, "fifth-" + name, 5, work + "/open_clip/fourth/checkpoints/epoch_4.pt")
            compare("    step 5, which shows what the optimiser did in step 4", ours[5], after[4])

        # ticc first
        ticc(program, work, "first", 3)
        saved = work + "/ticc/first/checkpoints/epoch_latest.pt"
        theirs = open_clip_run(work, "after-ticc", 3, saved)
        ours = ticc(program, work, "first", 4, "--resume")
        compare("3 steps by ticc, step 4: ticc, open_clip", ours[4], theirs[min(theirs)])
        ours = ticc(program, work, "first", 5, "--resume")
        compare("    step 5, which shows what the optimiser did in step 4", ours[5], theirs[min(theirs) + 1])
    print("largest difference %.1e, limit %.0e" % (worst, LIMIT))
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
