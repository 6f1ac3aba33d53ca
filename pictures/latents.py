"""Pictures of the latent space: what lies between codes, on their plane, along a latent, behind a label."""

import math
import pathlib
import statistics
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset, Examples, class_numbers
from parts.priors import FlowPrior
from pictures.examples import to_batch
from vae import CVAE, VAE

PAIRS, STEPS = 8, 12  # rows and steps of interpolation.png
MANIFOLD_SIZE, MANIFOLD_PIXELS = 20, 5000  # codes a side of manifold.png, fewer if it would have more pixels a side
MOST_MANIFOLDS = 16  # panels of manifold.png for a conditional model
MOST_CODES = 3000  # points in latent_space.png
TRAVERSED, TRAVERSAL_STEPS = 10, 11  # rows and columns of traversals.png
MOST_STYLES, MOST_TRANSFERS = 10, 20  # rows and columns of style_transfer.png


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
    shown = "" if model.likelihood.has_mean else ", x ~ p(x|z), one noise a row"
    title = f"Interpolation by {STEPS} codes between two {dataset.split} examples (at the ends){shown}"
    if dataset.is_points:
        colours = {f"C{pair}": images[pair : pair + 1] for pair in range(pairs)}
        visualize.save_curves(folder / "interpolation.png", {title: (dataset.test.x, colours)})
    else:
        visualize.save_image_grid(folder / "interpolation.png", images, title=title)


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
    """From start to end, (..., latent), by `share` in [0, 1]: along the great circle between their directions, the
    length going evenly from one's to the other's; the codes stay where N(0, I) has its mass (White 2016)."""
    lengths = [np.linalg.norm(code, axis=-1, keepdims=True) for code in (start, end)]
    directions = [code / np.maximum(length, 1e-12) for code, length in zip((start, end), lengths, strict=True)]
    angle = np.arccos(np.clip(np.sum(directions[0] * directions[1], axis=-1, keepdims=True), -1, 1))
    is_straight = np.sin(angle) < 1e-3  # there is no circle, or no telling which
    sine = np.where(is_straight, 1.0, np.sin(angle))
    weights = np.sin((1 - share) * angle) / sine, np.sin(share * angle) / sine
    on_circle = weights[0] * directions[0] + weights[1] * directions[1]
    length = (1 - share) * lengths[0] + share * lengths[1]
    return np.where(is_straight, (1 - share) * start + share * end, length * on_circle)


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
    examples = dataset.test[np.random.default_rng(seed).permutation(len(dataset.test))[:MOST_CODES]]
    x, labels = to_batch(examples, binarize, seed)
    codes = np.concatenate([model.encode(x[i : i + 500], labels[i : i + 500])[0] for i in range(0, len(x), 500)])
    title, axis_labels = f"Posterior means of {len(codes):,} {dataset.split} examples", ("z1", "z2")
    if codes.shape[1] == 1:
        codes = np.concatenate([codes, np.zeros_like(codes)], axis=1)
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        codes = centred @ directions[:, [-1, -2]]
        share = 100 * variances[[-1, -2]] / max(variances.sum(), 1e-12)
        axis_labels = tuple(f"principal component {i + 1} ({share[i]:.0f}% of variance)" for i in (0, 1))
        title += f", latent size {directions.shape[0]}"
    numbers, names = class_numbers(examples.labels, dataset.class_names) if dataset.num_classes else (None, ())
    visualize.save_latent_space(
        folder / "latent_space.png", codes, numbers, names, title=title, axis_labels=axis_labels
    )


def draw_traversals(
    folder: pathlib.Path, model: VAE, dataset: Dataset, terms: dict[str, np.ndarray], binarize: str, seed: int
) -> None:
    """traversals.png: one held-out example's code, each of the latents of the highest rate moved on its own.

    `terms` are those of evaluation.elbo_terms.
    """
    rates, means = terms["latent_rates"].mean(axis=0), terms["mean"]
    what = "summand of the rate" if isinstance(model.prior, FlowPrior) else "rate"
    latents = np.argsort(-rates)[:TRAVERSED]
    chosen = np.random.default_rng(seed).permutation(len(dataset.test))[:1]
    x, labels = to_batch(dataset.test[chosen], binarize, seed)
    code = model.encode(x, labels)[0].numpy()
    codes = np.tile(code, (len(latents), TRAVERSAL_STEPS, 1))
    for row, latent in enumerate(latents):
        codes[row, :, latent] = np.linspace(*np.percentile(means[:, latent], [1, 99]), TRAVERSAL_STEPS)
    labels = tf.repeat(labels, len(latents), axis=0)
    # Step by step: where p(x|z) has no mean, all of a row are drawn with the same noise.
    images = [model.decode(tf.constant(codes[:, step]), labels, seed) for step in range(TRAVERSAL_STEPS)]
    visualize.save_image_grid(
        folder / "traversals.png",
        np.stack(images, axis=1),
        title=f"Traversals: one latent of a {dataset.split} example's code, 1st to 99th percentile of posterior means",
        row_labels=[f"z{latent + 1}: {what} {rates[latent]:.2f} nats" for latent in latents],
    )


def draw_style_transfer(folder: pathlib.Path, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """style_transfer.png: a row an example of another class; its code, decoded as each of the classes.

    Where the label speaks through the prior, what is kept of the code is the noise that it stands for.
    """
    classes = dataset.test.labels.argmax(axis=1)
    order = np.random.default_rng(seed).permutation(len(classes))
    firsts = order[np.unique(classes[order], return_index=True)[1]][:MOST_STYLES]
    x, labels = to_batch(dataset.test[firsts], binarize, seed)
    noise = model.prior.to_noise(model.encode(x, labels)[0], labels)
    columns = [x]
    for number in range(min(dataset.num_classes, MOST_TRANSFERS)):
        asked = tf.one_hot(np.full(len(firsts), number), dataset.num_classes)
        columns.append(model.decode(model.prior.from_noise(noise, asked), asked, seed))
    title = f"Style transfer: the code of a {dataset.split} example, decoded as every class"
    if not isinstance(model, CVAE):
        title = f"Style transfer: the noise behind a {dataset.split} example's code, through the prior of every class"
    visualize.save_image_grid(
        folder / "style_transfer.png",
        np.stack(columns, axis=1),
        title=title,
        column_labels=["original", *dataset.class_names[: len(columns) - 1]],
    )
