"""What a run leaves in outputs/: figures of a trained model as files, pictures of it through visualize.py."""

import csv
import json
import math
import os
import pathlib
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

import visualize
from data import Dataset, Examples, prepare
from vae import VAE

RECONSTRUCTIONS = 10  # columns of reconstructions.png
PAIRS, STEPS = 8, 12  # rows and steps of interpolation.png
MANIFOLD_SIZE = 20
MOST_CODES = 10_000  # points in latent_space.png


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
    }


def machine() -> str:
    """What the run's speed was measured on."""
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} cores", *gpus])


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """history.csv: a row an epoch."""
    if history:
        with open_atomically(folder / "history.csv") as file:
            writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def write_metrics(folder: pathlib.Path, metrics: Mapping[str, Any]) -> None:
    """metrics.json"""
    with open_atomically(folder / "metrics.json") as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")


class open_atomically:
    """A text file that replaces an earlier one only when it is whole."""

    def __init__(self, path: pathlib.Path):
        self.path, self.partial = path, path.with_name(f".{path.name}.partial")

    def __enter__(self):
        self.file = open(self.partial, "w", encoding="utf-8", newline="")
        return self.file

    def __exit__(self, kind, *_):
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)


# Pictures


def draw_samples(
    folder: pathlib.Path,
    model: VAE,
    *,
    num: int,
    classes: Sequence[int] | None,
    seed: int,
    prefix: str = "",
    save_arrays: bool = False,
) -> None:
    """samples.png, and samples.npz if asked for: means of p(x|z) for z ~ p(z); if conditional, `num` of each class."""
    rows = [None] if classes is None else list(classes)
    total = num * len(rows)
    labels = None
    if classes is not None:
        labels = tf.one_hot(np.repeat(classes, num), model.arguments["num_classes"])
    images = model.sample(total, labels, seed).numpy()
    columns = min(num, max(10, math.isqrt(total - 1) + 1))
    lines = math.ceil(num / columns)
    grid = np.full((len(rows), lines * columns, *images.shape[1:]), np.nan, np.float32)
    grid[:, :num] = images.reshape(len(rows), num, *images.shape[1:])
    row_labels = None
    if classes is not None:
        row_labels = [str(label) if line == 0 else "" for label in classes for line in range(lines)]
    given = "p(x|z, y), z ~ p(z), a class y a row" if classes is not None else "p(x|z), z ~ p(z)"
    visualize.save_image_grid(
        folder / f"{prefix}samples.png",
        grid.reshape(-1, columns, *images.shape[1:]),
        title=f"Samples: mean of {given}",
        row_labels=row_labels,
    )
    if save_arrays:
        arrays = {"images": images.astype(np.float32)}
        if classes is not None:
            arrays["labels"] = np.repeat(classes, num)
        np.savez(folder / f"{prefix}samples.npz", **arrays)


def draw_reconstructions(
    folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int, prefix: str = ""
) -> None:
    """reconstructions.png: held-out originals above, their reconstructions below."""
    chosen = np.random.default_rng(seed).permutation(len(dataset.test))[:RECONSTRUCTIONS]
    x, labels = to_batch(dataset.test[chosen], binarize, seed)
    visualize.save_image_grid(
        folder / f"{prefix}reconstructions.png",
        np.stack([x, model.reconstruct(x, labels)]),
        title=f"Reconstructions of {dataset.split} examples",
        row_labels=["original", "model"],
    )


def draw_history(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """history.png"""
    visualize.save_history(folder / "history.png", history, title="Training")


def draw_interpolation(folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """interpolation.png: from one held-out example to another on a great circle between their codes.

    For a conditional model both ends are of one class, since the class is given and not in the code.
    """
    starts, ends = choose_pairs(dataset.test, same_class=model.is_conditional, seed=seed)
    x, labels = to_batch(dataset.test[np.concatenate([starts, ends])], binarize, seed)
    pairs = len(starts)
    codes = model.encode(x, labels)[0].numpy()
    path = slerp(
        codes[:pairs, None], codes[pairs:, None], np.linspace(0, 1, STEPS)[None, :, None]
    )  # (pairs, steps, latent)
    decoded = model.decode(
        tf.constant(path.reshape(pairs * STEPS, -1), tf.float32), tf.repeat(labels[:pairs], STEPS, axis=0)
    ).numpy()
    x = x.numpy()
    images = np.concatenate([x[:pairs, None], decoded.reshape(pairs, STEPS, *x.shape[1:]), x[pairs:, None]], axis=1)
    visualize.save_image_grid(
        folder / "interpolation.png",
        images,
        title=f"Interpolation in {STEPS} steps between two held-out examples (first and last column)",
    )


def choose_pairs(examples: Examples, *, same_class: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of up to PAIRS pairs of examples, of the same or of different classes."""
    order = np.random.default_rng(seed).permutation(len(examples))
    classes = examples.labels.argmax(axis=1) if examples.labels.shape[1] else np.arange(len(examples))
    starts, ends, used = [], [], set()
    for start in order:
        if len(starts) == PAIRS:
            break
        fits = (classes[order] == classes[start]) == same_class
        partners = [end for end in order[fits] if end != start and end not in used]
        if start not in used and partners:
            starts.append(start)
            ends.append(partners[0])
            used |= {start, partners[0]}
    if not starts:  # a held-out set too small to choose from
        starts, ends = [order[0]], [order[-1]]
    return np.array(starts), np.array(ends)


def slerp(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Spherical interpolation over the last axis (White 2016): codes stay where the prior has its mass."""
    lengths = np.linalg.norm(start, axis=-1, keepdims=True), np.linalg.norm(end, axis=-1, keepdims=True)
    cosine = np.sum(start * end, axis=-1, keepdims=True) / np.maximum(lengths[0] * lengths[1], 1e-12)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    straight = np.sin(angle) < 1e-3  # nearly the same or opposite directions: the circle is not defined
    sine = np.where(straight, 1.0, np.sin(angle))
    on_circle = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / sine
    return np.where(straight, (1 - share) * start + share * end, on_circle)


def draw_manifold(folder: pathlib.Path, model: VAE) -> None:
    """manifold.png: a grid over the two latents, equally spaced in probability (Kingma and Welling 2014, figure 4).

    A conditional model has one manifold for each class.
    """
    n = MANIFOLD_SIZE
    normal = statistics.NormalDist()
    values = [normal.inv_cdf((i + 0.5) / n) for i in range(n)]
    codes = np.array([[across, -down] for down in values for across in values], np.float32)
    num_classes = model.arguments["num_classes"] if model.is_conditional else 1
    manifolds = []
    for label in range(num_classes):
        labels = tf.one_hot(np.full(n * n, label), num_classes) if model.is_conditional else None
        tiles = model.decode(codes, labels).numpy()
        height, width, channels = tiles.shape[1:]
        tiles = tiles.reshape(n, n, height, width, channels).transpose(0, 2, 1, 3, 4)
        manifolds.append(tiles.reshape(n * height, n * width, channels))
    columns = math.ceil(math.sqrt(num_classes))
    rows = math.ceil(num_classes / columns)
    grid = np.full((rows * columns, *manifolds[0].shape), np.nan, np.float32)
    grid[:num_classes] = manifolds
    what = f"for classes 0 to {num_classes - 1}, row by row" if model.is_conditional else "the plane of the two latents"
    visualize.save_image_grid(
        folder / "manifold.png",
        grid.reshape(rows, columns, *manifolds[0].shape),
        title=f"Manifold: {what}, in equal steps of probability",
    )


def draw_latent_space(folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """latent_space.png: posterior means of held-out examples by class; their two main directions if more than 2-D."""
    examples = dataset.test[:MOST_CODES]
    x, labels = to_batch(examples, binarize, seed)
    codes = np.concatenate([model.encode(x[i : i + 500], labels[i : i + 500])[0] for i in range(0, len(x), 500)])
    title, axis_labels = f"Posterior means of {len(codes):,} held-out examples", ("z1", "z2")
    if codes.shape[1] == 1:
        codes = np.concatenate([codes, np.zeros_like(codes)], axis=1)
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        codes = centred @ directions[:, [-1, -2]]
        share = 100 * variances[[-1, -2]] / variances.sum()
        axis_labels = tuple(f"principal component {i + 1} ({share[i]:.0f}% of variance)" for i in (0, 1))
        title += f", {directions.shape[0]} latents"
    classes = examples.labels.argmax(axis=1) if dataset.num_classes else None
    visualize.save_latent_space(folder / "latent_space.png", codes, classes, title=title, axis_labels=axis_labels)


def to_batch(examples: Examples, binarize: str, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A few examples as the model is given them: (x, labels)."""
    x, labels, _ = prepare(examples.images, examples.labels, tf.constant([seed, 0]), binarize)
    return x, labels
