"""Attention in plain NumPy, cell by cell, from the papers' formulas. Parameters are stored as in the modules."""

import itertools
import math

import numpy as np


def linear(x, layer):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0))


def layer_norm(x, layer):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * np.asarray(layer["scale"]) + np.asarray(layer["bias"])


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def encoder_layer(x, p, heads=4):
    """[n, c] → [n, c]: every token attends to all, head by head."""
    y = layer_norm(x, p["norm"])
    q, k, v = (linear(linear(y, p[name]), p["inward"][i]) for i, name in enumerate(("query", "key", "value")))
    width = x.shape[1] // heads
    out = np.zeros_like(x)
    for head, i in itertools.product(range(heads), range(len(x))):
        part = slice(head * width, (head + 1) * width)
        weights = softmax(np.array([q[i, part] @ k[j, part] for j in range(len(x))]) / math.sqrt(width))
        out[i, part] = weights @ v[:, part]
    x = x + linear(out, p["outward"])
    return x + linear(np.maximum(linear(layer_norm(x, p["norm2"]), p["widen"]), 0), p["narrow"])


def window_layer(x, p, shift, heads, window=8):
    """[h, w, c] → the same: cells attend to those in their window, whose edges are moved by `shift`; no other."""
    h, w, c = x.shape
    y = layer_norm(x, p["norm"])
    table, width = np.asarray(p["offset_bias"]).reshape(2 * window - 1, 2 * window - 1, heads), c // heads
    q, k, v = np.split(y @ np.asarray(p["inward"]["kernel"]), 3, axis=-1)
    block = lambda cell: tuple((side - shift) // window for side in cell)  # noqa: E731
    cells, out = list(itertools.product(range(h), range(w))), np.zeros_like(x)
    for at in cells:
        others = [other for other in cells if block(other) == block(at)]
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = [
                q[at][part] @ k[o][part] / math.sqrt(width)
                + table[at[0] - o[0] + window - 1, at[1] - o[1] + window - 1, head]
                for o in others
            ]
            out[at][part] = softmax(np.array(logits)) @ np.stack([v[o][part] for o in others])
    x = x + linear(out, p["outward"])
    return x + linear(gelu(linear(layer_norm(x, p["norm2"]), p["widen"])), p["narrow"])


def seen_pairs(side, rows_as_published=False, window=8, shift=4):
    """[windows, cells, cells]: cells of a square map, rolled by `shift`, that see each other; those of one band do.

    Along each axis there are three bands: all but the last window, and the two pieces of that one. A cell's number is
    that of its bands, the later written over the earlier, in a map of zeros. The published mistake is that the first
    band of rows is not a range but its two ends, taken as an index: row 0, and the first row of the last window.
    """
    ends = [(0, side - window), (side - window, side - shift), (side - shift, side)]
    rows = [list(range(*band)) for band in ends]
    if rows_as_published:
        rows[0] = list(ends[0])
    number = np.zeros((side, side), int)
    for i, (down, (low, high)) in enumerate(itertools.product(rows, ends)):
        number[down, low:high] = i
    starts = range(0, side, window)
    cut = [number[y : y + window, x : x + window].ravel() for y, x in itertools.product(starts, starts)]
    return np.stack([numbers[:, None] == numbers for numbers in cut])


def cbam(x, p):
    """[h, w, c] → the same."""
    h, w, _ = x.shape
    shared = lambda pooled: linear(np.maximum(linear(pooled, p["squeeze"]), 0), p["excite"])  # noqa: E731
    x = x * sigmoid(shared(x.mean((0, 1))) + shared(x.max((0, 1))))
    maps = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), ((3, 3), (3, 3), (0, 0)))
    kernel, gate = np.asarray(p["where"]["kernel"])[..., 0], np.zeros((h, w, 1))
    for row, column in itertools.product(range(h), range(w)):
        gate[row, column] = np.sum(maps[row : row + 7, column : column + 7] * kernel) + np.asarray(p["where"]["bias"])
    return x * sigmoid(gate)


def clla(fine, coarse, p):
    """[2h, 2w, ·] and [h, w, ·] → [h, w, channels]."""
    fine, coarse = linear(fine, p["fine"]), linear(coarse, p["coarse"])
    q, k, v = linear(coarse, p["query"]), linear(fine, p["key"]), linear(fine, p["value"])
    out = np.zeros_like(coarse)
    for row, column in itertools.product(*map(range, coarse.shape[:2])):
        below = [(2 * row + i, 2 * column + j) for i, j in itertools.product(range(2), range(2))]
        d = np.array([q[row, column] @ k[cell] / 2 for cell in below])
        out[row, column] = softmax(2 * d.mean() - d) @ np.stack([v[cell] for cell in below])
    return (out + coarse) / 2
