"""recipe.py -- numbers that tests/parity/check.c computes too, so that fixtures need not hold them; and digests of tensors.

Element i of the tensor called NAME is u in [-1, 1): the top 24 bits of splitmix64(fnv1a(NAME) + i * golden), so every
value is a float exactly. Parameters are scaled by their role. A digest is what a fixture keeps of a tensor: its norm,
eight sums with random signs (each sees every element), sixteen elements.
"""
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
PROJECTIONS, SAMPLES = 8, 16


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv(name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return np.uint64(h)


def uniform(name, n):
    """n numbers in [-1, 1), f64."""
    with np.errstate(over="ignore"):
        z = mix(fnv(name) + np.arange(n, dtype=np.uint64) * GOLDEN)
    return (z >> np.uint64(40)).astype(np.float64) / 2 ** 23 - 1


def parameter(name, shape, logit_scale):
    """The first value of a parameter, f32: near what training begins with, but nowhere 0 or 1."""
    if name == "logit_scale":
        return np.full(shape, logit_scale, np.float32)
    if name == "logit_bias":
        return np.full(shape, -10, np.float32)
    u = uniform(name, int(np.prod(shape)))
    if len(shape) < 2:
        v = (1 if name.endswith("weight") else 0) + 0.2 * u
    elif "embedding" in name:
        v = 0.3 * u
    else:
        fan = shape[0] if name.endswith("proj") or name.endswith("projection") else np.prod(shape[1:])
        v = np.sqrt(3 / fan) * u
    return v.astype(np.float32).reshape(shape)


def digest(tensor):
    """f64 [1 + 8 + 16]"""
    x = np.asarray(tensor, np.float64).reshape(-1)
    with np.errstate(over="ignore"):
        bits = mix(np.arange(x.size, dtype=np.uint64) * GOLDEN)
    out = [np.sqrt(np.dot(x, x))]
    for j in range(PROJECTIONS):
        out.append(np.dot(x, 1 - 2 * ((bits >> np.uint64(j)) & np.uint64(1)).astype(np.float64)))
    for k in range(SAMPLES):
        out.append(x[(x.size - 1) * k // (SAMPLES - 1)])
    return np.array(out)
