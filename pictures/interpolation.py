"""interpolation.png: what lies between the codes of two examples."""

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset
from pictures.album import Album
from pictures.batches import to_batch
from sources.examples import Examples
from vae import VAE

PAIRS, STEPS = 8, 12  # rows and steps


def draw_interpolation(album: Album, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """From one held-out example to another on a great circle between the noise behind their codes, which is where a
    learned prior has its mass. Under N(0, I) the noise is the code.

    With a conditional model both ends are of one class.
    """
    starts, ends = choose_pairs(dataset.test, same_class=model.is_conditional, seed=seed)
    x, labels = to_batch(dataset.test[np.concatenate([starts, ends])], binarize, seed)
    pairs = len(starts)
    noise = model.prior.to_noise(model.encode(x, labels)[0], model.condition(labels)).numpy()
    share = np.linspace(0, 1, STEPS)[None, :, None]
    between = slerp(noise[:pairs, None], noise[pairs:, None], share)  # (pairs, steps, latent)
    condition = model.condition(labels[:pairs])
    # Step by step: where p(x|z) has no mean, all of a row are drawn with the same noise.
    codes = [model.prior.from_noise(tf.constant(between[:, i], tf.float32), condition) for i in range(STEPS)]
    decoded = np.stack([model.decode(code, labels[:pairs], seed) for code in codes], axis=1)
    x = x.numpy()
    images = np.concatenate([x[:pairs, None], decoded, x[pairs:, None]], axis=1)
    is_one_class = model.is_conditional and np.array_equal(*dataset.test.labels[np.stack([starts, ends])])
    examples = f"two {dataset.split} examples{' of one class' if is_one_class else ''}"
    title = f"Interpolation: {examples} at both ends, {STEPS} decoded codes between them"
    if not model.likelihood.has_mean:
        title += f", x ~ {model.p_x_notation}, one noise a row"
    path = album.path("interpolation.png")
    if dataset.is_points:
        colours = {f"C{pair}": images[pair : pair + 1] for pair in range(pairs)}
        visualize.save_curves(path, {title: (dataset.test.x, colours)}, caption=album.caption)
    else:
        visualize.save_image_grid(path, images, title=title, caption=album.caption)


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
    """Spherical interpolation from start to end, (..., latent), by `share` in [0, 1] (White 2016). The direction
    follows the great circle and the length changes linearly, so the path stays where N(0, I) has its mass."""
    lengths = [np.linalg.norm(code, axis=-1, keepdims=True) for code in (start, end)]
    directions = [code / np.maximum(length, 1e-12) for code, length in zip((start, end), lengths, strict=True)]
    angle = np.arccos(np.clip(np.sum(directions[0] * directions[1], axis=-1, keepdims=True), -1, 1))
    is_straight = np.sin(angle) < 1e-3  # the same direction, or opposite ones: no circle, or many
    sine = np.where(is_straight, 1.0, np.sin(angle))
    weights = np.sin((1 - share) * angle) / sine, np.sin(share * angle) / sine
    on_circle = weights[0] * directions[0] + weights[1] * directions[1]
    length = (1 - share) * lengths[0] + share * lengths[1]
    return np.where(is_straight, (1 - share) * start + share * end, length * on_circle)
