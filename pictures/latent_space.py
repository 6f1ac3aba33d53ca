"""latent_space.png: where the codes of held-out examples lie."""

from collections.abc import Sequence

import numpy as np

import visualize
from data import Dataset, class_numbers
from pictures.album import Album
from pictures.batches import to_batch
from vae import VAE

MOST_CODES = 3000


def draw_latent_space(album: Album, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """Posterior means of held-out examples by class; with more than two latents, their two principal components."""
    examples = dataset.test.random_choice(MOST_CODES, seed)
    x, labels = to_batch(examples, binarize, seed)
    codes = np.concatenate([model.encode(x[i : i + 500], labels[i : i + 500])[0] for i in range(0, len(x), 500)])
    title = f"Posterior means of {len(codes):,} {dataset.split} examples"
    draw_codes(album, "latent_space.png", codes, examples.labels, dataset.class_names, title=title)


def draw_codes(
    album: Album, name: str, codes: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, title: str
) -> None:
    """Codes (n, latent) as points, coloured by their labels (n, classes), if these have classes."""
    axis_labels = ("z1", "z2")
    if codes.shape[1] == 1:
        codes = np.concatenate([codes, np.zeros_like(codes)], axis=1)
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        codes = centred @ directions[:, [-1, -2]]
        share = 100 * variances[[-1, -2]] / max(variances.sum(), 1e-12)
        axis_labels = tuple(f"principal component {i + 1} ({share[i]:.0f}% of variance)" for i in (0, 1))
        title += f", latent size {directions.shape[0]}"
    numbers, names = class_numbers(labels, class_names) if len(class_names) else (None, ())
    visualize.save_latent_space(
        album.path(name),
        codes,
        numbers,
        names,
        title=title,
        axis_labels=axis_labels,
        caption=album.caption,
    )
