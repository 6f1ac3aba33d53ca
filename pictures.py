"""Which pictures are drawn of a model: what is decoded, encoded and compared. visualize.py draws it."""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

import visualize
from batches import prepare
from examples import Dataset, Examples, class_numbers
from vae import CVAE, VAE, VLAE

RECONSTRUCTIONS = 10  # columns of reconstructions.png
LINKED_POINTS = 300  # points in reconstructions.png
PAIRS, STEPS = 8, 12  # rows and steps of interpolation.png
MANIFOLD_SIZE, MANIFOLD_PIXELS = 20, 5000  # codes a side of manifold.png, fewer if it would have more pixels a side
MOST_MANIFOLDS = 16  # panels of manifold.png for a conditional model
MOST_CODES = 10_000  # points in latent_space.png


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
        columns = min(num, max(10, math.isqrt(total - 1) + 1))
        lines = math.ceil(num / columns)
        grid = np.full((len(rows), lines * columns, *x.shape[1:]), np.nan, np.float32)
        grid[:, :num] = x.reshape(len(rows), num, *x.shape[1:])
        visualize.save_image_grid(
            path,
            grid.reshape(-1, columns, *x.shape[1:]),
            title=f"Samples: {shown}{'' if asked is None else ', a class y a row'}",
            row_labels=[name if line == 0 else "" for name in rows for line in range(lines)],
        )
    if save_arrays:
        arrays = {"points" if is_points else "images": x}
        np.savez(folder / f"{prefix}samples.npz", **arrays, **({} if asked is None else {"labels": asked}))


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


def draw_interpolation(folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """interpolation.png: from one held-out example to another on a great circle between their codes.

    For a CVAE both ends are of one class, since the class is given and not in the code.
    """
    starts, ends = choose_pairs(dataset.test, same_class=isinstance(model, CVAE), seed=seed)
    x, labels = to_batch(dataset.test[np.concatenate([starts, ends])], binarize, seed)
    pairs = len(starts)
    codes = model.encode(x, labels)[0].numpy()
    path = slerp(
        codes[:pairs, None], codes[pairs:, None], np.linspace(0, 1, STEPS)[None, :, None]
    )  # (pairs, steps, latent)
    # Step by step: where p(x|z) has no mean, all of a row are drawn with the same noise.
    steps = [model.decode(tf.constant(path[:, i], tf.float32), labels[:pairs], seed) for i in range(STEPS)]
    decoded = np.stack(steps, axis=1)
    x = x.numpy()
    images = np.concatenate([x[:pairs, None], decoded, x[pairs:, None]], axis=1)
    shown = "" if model.likelihood.has_mean else ", x ~ p(x|z) with one noise a row"
    title = f"Interpolation in {STEPS} steps between two held-out examples{shown}"
    if dataset.is_points:
        colours = {f"C{pair}": images[pair : pair + 1] for pair in range(pairs)}
        visualize.save_curves(folder / "interpolation.png", {title: (dataset.test.x, colours)})
    else:
        visualize.save_image_grid(folder / "interpolation.png", images, title=f"{title} (first and last column)")


def choose_pairs(examples: Examples, *, same_class: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of up to PAIRS pairs of examples, with the same or with different labels."""
    order = np.random.default_rng(seed).permutation(len(examples))
    classes = np.arange(len(examples))
    if examples.labels.shape[1]:
        classes = np.unique(examples.labels, axis=0, return_inverse=True)[1].reshape(-1)
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


def draw_manifold(
    folder: pathlib.Path, model: VAE, class_names: Sequence[str], seed: int, dataset: Dataset | None = None
) -> None:
    """manifold.png: a grid over the two latents, equally spaced in probability (Kingma and Welling 2014, figure 4).

    The steps are of noise, which the prior turns into codes. A conditional model has one manifold for each class. For
    points it is the net that the grid becomes, over the data.
    """
    num_classes = min(len(class_names), MOST_MANIFOLDS) if model.is_conditional else 1
    columns = math.ceil(math.sqrt(num_classes))
    is_points = len(model.arguments["data_shape"]) == 1
    side = 1 if is_points else max(model.arguments["data_shape"][:2])
    n = min(MANIFOLD_SIZE, max(2, MANIFOLD_PIXELS // (columns * side)))
    normal = statistics.NormalDist()
    values = [normal.inv_cdf((i + 0.5) / n) for i in range(n)]
    noise = np.array([[across, -down] for down in values for across in values], np.float32)
    manifolds = []
    for number in range(num_classes):
        labels = tf.one_hot(np.full(n * n, number), len(class_names)) if model.is_conditional else None
        x = model.decode(model.prior.from_noise(noise, model.condition(labels)), labels, seed).numpy()
        manifolds.append(x.reshape(n, n, *x.shape[1:]))
    path, title = folder / "manifold.png", "Manifold: the plane of the two latents, in equal steps of probability"
    if not model.likelihood.has_mean:
        title += ", x ~ p(x|z)"
    if is_points:
        panels = {}
        for number, net in enumerate(manifolds):
            name = f"Manifold of class {class_names[number]}" if model.is_conditional else title
            panels[name] = (dataset.test.x, {"C0": net, "C1": net.swapaxes(0, 1)})
        visualize.save_curves(path, panels)
        return
    height, width, channels = manifolds[0].shape[2:]
    tiles = [net.transpose(0, 2, 1, 3, 4).reshape(n * height, n * width, channels) for net in manifolds]
    rows = math.ceil(num_classes / columns)
    grid = np.full((rows * columns, *tiles[0].shape), np.nan, np.float32)
    grid[:num_classes] = tiles
    if model.is_conditional:
        title = f"Manifolds, row by row: {', '.join(class_names[:num_classes])}"
    visualize.save_image_grid(path, grid.reshape(rows, columns, *tiles[0].shape), title=title)


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
        share = 100 * variances[[-1, -2]] / max(variances.sum(), 1e-12)
        axis_labels = tuple(f"principal component {i + 1} ({share[i]:.0f}% of variance)" for i in (0, 1))
        title += f", {directions.shape[0]} latents"
    numbers, names = class_numbers(examples.labels, dataset.class_names) if dataset.num_classes else (None, ())
    visualize.save_latent_space(
        folder / "latent_space.png", codes, numbers, names, title=title, axis_labels=axis_labels
    )


def to_batch(examples: Examples, binarize: str, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A few examples as the model is given them: (x, labels)."""
    x, labels, _ = prepare(tf.constant(examples.x), examples.labels, tf.constant([seed, 0]), binarize)
    return x, labels
