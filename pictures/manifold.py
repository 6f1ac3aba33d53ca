"""manifold.png: the plane of two latents, decoded."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset
from pictures.album import Album
from vae import VAE

SIZE, MOST_PIXELS = 20, 5000  # codes a side, fewer if the picture would have more pixels a side
MOST_PANELS = 16  # classes of a conditional model


def draw_manifold(
    album: Album, model: VAE, class_names: Sequence[str], seed: int, dataset: Dataset | None = None
) -> None:
    """A grid over the two latents, equally spaced in probability (Kingma and Welling 2014, figure 4).

    The grid is of noise, which the prior turns into codes. A conditional model has one manifold per class. For points
    it is drawn as a net over the points of `dataset`.
    """
    num_panels = min(len(class_names), MOST_PANELS) if model.is_conditional else 1
    columns = math.ceil(math.sqrt(num_panels))
    is_points = len(model.arguments["data_shape"]) == 1
    side = 1 if is_points else max(model.arguments["data_shape"][:2])
    n = min(SIZE, max(2, MOST_PIXELS // (columns * side)))
    one_hots = np.eye(len(class_names), dtype=np.float32)[:num_panels] if model.is_conditional else [None]
    manifolds = [decode_plane(model, n, one_hot, seed) for one_hot in one_hots]
    path, title = album.path("manifold.png"), "Manifold: the plane of the two latents, in equal steps of probability"
    if not model.likelihood.has_mean:
        title += f", x ~ {model.p_x_notation}"
    if is_points:
        panels = {}
        for number, net in enumerate(manifolds):
            name = f"Manifold of class {class_names[number]}" if model.is_conditional else title
            panels[name] = (dataset.test.x, {"C0": net, "C1": net.swapaxes(0, 1)})
        visualize.save_curves(path, panels, caption=album.caption)
        return
    height, width, channels = manifolds[0].shape[2:]
    tiles = [net.transpose(0, 2, 1, 3, 4).reshape(n * height, n * width, channels) for net in manifolds]
    rows = math.ceil(num_panels / columns)
    grid = np.full((rows * columns, *tiles[0].shape), np.nan, np.float32)
    grid[:num_panels] = tiles
    if model.is_conditional:
        title = f"Manifolds, row by row: {', '.join(class_names[:num_panels])}"
    visualize.save_image_grid(path, grid.reshape(rows, columns, *tiles[0].shape), title=title, caption=album.caption)


def decode_plane(model: VAE, n: int, one_hot: np.ndarray | None, seed: int) -> np.ndarray:
    """Decode an n x n grid of noise in equal steps of probability, with a label if conditional: (n, n, ...)."""
    normal = statistics.NormalDist()
    values = [normal.inv_cdf((i + 0.5) / n) for i in range(n)]
    noise = np.array([[across, -down] for down in values for across in values], np.float32)
    labels = None if one_hot is None else tf.constant(np.tile(one_hot, (n * n, 1)))
    x = model.decode(model.prior.from_noise(noise, model.condition(labels)), labels, seed).numpy()
    return x.reshape(n, n, *x.shape[1:])
