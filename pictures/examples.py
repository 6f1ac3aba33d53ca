"""Which pictures are drawn of a model: what is decoded, encoded and compared. visualize.py draws it."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset, Examples, class_numbers
from sources.batches import prepare
from storage.files import replacing
from vae import CVAE, VAE, VLAE

RECONSTRUCTIONS = 10  # columns of reconstructions.png
LINKED_POINTS = 300  # points in reconstructions.png
MOST_PIXELS = 20_000_000  # of samples.png; samples.npz has all


def draw_samples(
    folder: pathlib.Path,
    model: VAE,
    *,
    num: int,
    classes: Sequence[int] | None,
    class_names: Sequence[str],
    seed: int,
    dataset: Dataset | None = None,
    prefix: str = "",
    save_arrays: bool = False,
) -> None:
    """samples.png, and samples.npz if asked for: what p(x|z) gives for z ~ p(z); if conditional, `num` of each class.

    Images are means of p(x|z), or draws where it has none. Points stand beside those of `dataset`, and are draws if the
    scale of p(x|z) is learned.
    """
    asked = None if classes is None else np.repeat(classes, num)
    total = num if asked is None else len(asked)
    labels = None if asked is None else tf.one_hot(asked, model.arguments["num_classes"])
    is_points = len(model.arguments["data_shape"]) == 1
    show_mean = not (is_points and model.likelihood.has_learned_scale)
    x = model.sample(total, labels, seed, show_mean=show_mean).numpy().astype(np.float32)
    p_x = "p(x|z, y)" if isinstance(model, CVAE) else "p(x|z)"
    p_z = "p(z|y)" if isinstance(model, VLAE) and model.is_conditional else "p(z)"
    shown = f"{'mean of' if show_mean and model.likelihood.has_mean else 'x ~'} {p_x}, z ~ {p_z}"
    path = folder / f"{prefix}samples.png"
    if is_points:
        numbers, names = class_numbers(dataset.test.labels, class_names)
        panels = {f"{dataset.split} data": (dataset.test.x, numbers)}
        panels[f"model: {shown}"] = (x, asked)
        visualize.save_points(path, panels, names, title=f"{dataset.name}: data and samples")
    else:
        x = np.clip(x, 0.0, 1.0)
        rows = [""] if classes is None else [class_names[number] for number in classes]
        drawn = min(num, max(1, MOST_PIXELS // (len(rows) * x.shape[1] * x.shape[2])))
        columns = min(drawn, max(10, math.isqrt(len(rows) * drawn - 1) + 1))
        lines = math.ceil(drawn / columns)
        grid = np.full((len(rows), lines * columns, *x.shape[1:]), np.nan, np.float32)
        grid[:, :drawn] = x.reshape(len(rows), num, *x.shape[1:])[:, :drawn]
        visualize.save_image_grid(
            path,
            grid.reshape(-1, columns, *x.shape[1:]),
            title=f"Samples: {shown}{'' if asked is None else ', a class y a row'}"
            + (f" (the first {drawn:,} of {num:,})" if drawn < num else ""),
            row_labels=[name if line == 0 else "" for name in rows for line in range(lines)],
        )
    if save_arrays:
        arrays = {"points" if is_points else "images": x}
        with replacing(folder / f"{prefix}samples.npz") as path:
            np.savez(path, **arrays, **({} if asked is None else {"labels": asked}))


def draw_reconstructions(
    folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int, prefix: str = ""
) -> None:
    """reconstructions.png: held-out originals above, their reconstructions below; points linked with theirs.

    Where p(x|z) has no mean, two draws from it show what the code keeps of an image and what it leaves to be redrawn.
    """
    num = LINKED_POINTS if dataset.is_points else RECONSTRUCTIONS
    examples = dataset.test[np.random.default_rng(seed).permutation(len(dataset.test))[:num]]
    x, labels = to_batch(examples, binarize, seed)
    path = folder / f"{prefix}reconstructions.png"
    title, row_labels = f"Reconstructions of {dataset.split} examples", ["original", "model"]
    if dataset.is_points:
        numbers, names = class_numbers(examples.labels, dataset.class_names)
        visualize.save_links(path, x.numpy(), model.reconstruct(x, labels).numpy(), numbers, names, title=title)
        return
    images = [x, model.reconstruct(x, labels, seed)]
    if not model.likelihood.has_mean:
        title = (
            f"{dataset.split.capitalize()} examples decompressed: x ~ p(x|z) at the posterior mean of z, drawn twice"
        )
        row_labels = ["original", "decompressed", "again"]
        images.append(model.reconstruct(x, labels, seed + 1))
    visualize.save_image_grid(path, np.stack(images), title=title, row_labels=row_labels)


def draw_history(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """history.png"""
    visualize.save_history(folder / "history.png", history, title="Training")


def draw_separation(
    folder: pathlib.Path, name: str, scores: Mapping[str, np.ndarray], auroc: float, num_samples: int
) -> None:
    """ood_<name>.png: the bounds on log p(x) of the test set and of other data."""
    visualize.save_histograms(
        folder / f"ood_{name}.png",
        scores,
        title=f"Scores of {' and '.join(scores)}: AUROC {auroc:.3f}",
        axis_label=f"bound on log p(x) with {num_samples:,} importance samples, nats",
    )


def to_batch(examples: Examples, binarize: str, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A few examples as the model is given them: (x, labels)."""
    x, labels, _ = prepare(tf.constant(examples.x), examples.labels, tf.constant([seed, 0]), binarize)
    return x, labels
