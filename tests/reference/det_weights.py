"""Deterministic weights and inputs: the same numbers on any machine, from the key names alone."""

import hashlib

import numpy as np
import torch


def fill(key, t):
    if not t.is_floating_point():
        return t.clone()
    g = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little"))
    shape = tuple(t.shape)
    if key.endswith("running_var"):
        a = g.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        a = g.normal(0, 0.1, shape)
    elif "gaussians" in key:
        a = np.stack([g.uniform(0.2, 0.8, shape[:2]), g.uniform(-2, 0, shape[:2])], axis=-1)
    elif key.startswith("smoothing"):
        a = g.uniform(0, 1, shape)
        a /= a.sum()
    elif t.ndim == 4:
        a = g.normal(0, (2.0 / (shape[1] * shape[2] * shape[3])) ** 0.5, shape)
    elif key.endswith("weight"):
        a = g.uniform(0.8, 1.2, shape)
    else:
        a = g.normal(0, 0.05, shape)
    return torch.from_numpy(np.asarray(a, dtype=np.float32))


def fill_model(net):
    net.load_state_dict({k: fill(k, v) for k, v in net.state_dict().items()})
    return net


def frames(seed, b, t, h, w):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(0, 1, (b, t, 3, h, w)).astype(np.float32)
    )


def targets(seed, b, t, h, w, n_fix=20):
    """A ground-truth density (sums to 1 per frame) and a fixation mask, both [b, t, 1, h, w]."""
    g = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:h, 0:w]
    sal = np.zeros((b, t, 1, h, w), np.float32)
    fix = np.zeros((b, t, 1, h, w), bool)
    for i in range(b):
        for j in range(t):
            ys, xs = g.integers(0, h, n_fix), g.integers(0, w, n_fix)
            fix[i, j, 0, ys, xs] = True
            m = sum(
                np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * (h / 12) ** 2))
                for y, x in zip(ys, xs, strict=True)
            )
            sal[i, j, 0] = m / m.sum()
    return torch.from_numpy(sal), torch.from_numpy(fix)
