#!/usr/bin/env python3
"""card.py DIR IMAGE LABEL... -- the example of CLIP's model cards with random weights: DIR/random.pt is written as
OpenCLIP's training code does (module. before every name, an epoch, numpy's floats), DIR/bare.safetensors holds the same
weights; the probabilities are printed one a line. --model NAME (default ViT-B-16), --vocab is open_clip's own.
"""
import argparse
import numpy as np, torch, open_clip
from PIL import Image
from safetensors.torch import save_file

a = argparse.ArgumentParser()
a.add_argument("dir")
a.add_argument("image")
a.add_argument("label", nargs="+")
a.add_argument("--model", default="ViT-B-16")
a = a.parse_args()
torch.manual_seed(1)
model, _, preprocess = open_clip.create_model_and_transforms(a.model)
model.eval()
state = model.state_dict()
torch.save({"epoch": 1, "name": "random", "state_dict": {"module." + k: v for k, v in state.items()}, "lr": np.float64(5e-4)}, a.dir + "/random.pt")
torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, a.dir + "/half.pt")
save_file({k: v.contiguous() for k, v in state.items()}, a.dir + "/bare.safetensors")
image = preprocess(Image.open(a.image)).unsqueeze(0)
text = open_clip.get_tokenizer(a.model)(a.label)
with torch.no_grad():
    u, v = model.encode_image(image), model.encode_text(text)
    u /= u.norm(dim=-1, keepdim=True)
    v /= v.norm(dim=-1, keepdim=True)
    p = (100.0 * u @ v.T).softmax(dim=-1)
np.save(a.dir + "/image.npy", u.numpy())
np.save(a.dir + "/text.npy", v.numpy())
for x in p[0].tolist():
    print("%.9f" % x)
