"""samples.png and samples.npz: p(x|z) for codes z drawn from the prior."""

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset, class_numbers
from pictures.album import Album
from storage.files import replacing
from vae import VAE

MOST_PIXELS = 20_000_000  # of samples.png; samples.npz has all


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images in [0, 1] or points, in rows: x (rows, num, ...) float32.

    Each row is of one of the `classes`; without classes there is one row. `notation` says what is shown, such as
    "x ~ p(x|z), z ~ p(z)".
    """

    x: np.ndarray
    classes: tuple[int, ...] | None
    notation: str

    @property
    def is_points(self) -> bool:
        return self.x.ndim == 3

    def flat(self) -> tuple[np.ndarray, np.ndarray | None]:
        """x (n, ...) and the class of each, or None."""
        x = self.x.reshape(-1, *self.x.shape[2:])
        return x, None if self.classes is None else np.repeat(self.classes, self.x.shape[1])


def make_samples(model: VAE, *, num: int, classes: Sequence[int] | None, seed: int) -> Samples:
    """`num` samples; of a conditional model, `num` of each of the classes.

    They are means of p(x|z), or draws where it has none; points are draws if the scale of p(x|z) is learned.
    """
    numbers = [None] if classes is None else classes
    labels = None if classes is None else tf.one_hot(np.repeat(classes, num), model.arguments["num_classes"])
    is_points = len(model.arguments["data_shape"]) == 1
    show_mean = not (is_points and model.likelihood.has_learned_scale)
    x = model.sample(len(numbers) * num, labels, seed, show_mean=show_mean).numpy().astype(np.float32)
    if not is_points:
        x = np.clip(x, 0.0, 1.0)
    shown = "mean of" if show_mean and model.likelihood.has_mean else "x ~"
    return Samples(
        x.reshape(len(numbers), num, *x.shape[1:]),
        None if classes is None else tuple(classes),
        f"{shown} {model.p_x_notation}, z ~ {model.p_z_notation}",
    )


def save_samples(path: str | os.PathLike, samples: Samples) -> None:
    """An npz file of all samples: `images` or `points` and, where they are of classes, `labels`."""
    x, classes = samples.flat()
    arrays = {"points" if samples.is_points else "images": x}
    with replacing(path) as partial:
        np.savez(partial, **arrays, **({} if classes is None else {"labels": classes}))


def draw_samples(
    album: Album, samples: Samples, class_names: Sequence[str], dataset: Dataset | None = None, *, name: str = "samples"
) -> None:
    """Draw <name>.png: images, each class in its own rows, or points beside those of `dataset` (images need none).

    If there are very many images, only the first are drawn.
    """
    path = album.path(f"{name}.png")
    if samples.is_points:
        numbers, names = class_numbers(dataset.test.labels, class_names)
        panels = {f"{dataset.split} data": (dataset.test.x, numbers), f"model: {samples.notation}": samples.flat()}
        title = f"{dataset.name}: data and samples"
        visualize.save_points(path, panels, names, title=title, caption=album.caption)
        return
    rows, num, *image_shape = samples.x.shape
    drawn = min(num, max(1, MOST_PIXELS // (rows * image_shape[0] * image_shape[1])))
    columns = min(drawn, max(10, math.isqrt(rows * drawn - 1) + 1))
    lines = math.ceil(drawn / columns)
    grid = np.full((rows, lines * columns, *image_shape), np.nan, np.float32)
    grid[:, :drawn] = samples.x[:, :drawn]
    names = [""] if samples.classes is None else [class_names[number] for number in samples.classes]
    title = f"Samples: {samples.notation}{'' if samples.classes is None else ', rows by class y'}"
    if drawn < num:
        title += f" (the first {drawn:,} of {num:,})"
    visualize.save_image_grid(
        path,
        grid.reshape(-1, columns, *image_shape),
        title=title,
        row_labels=[name if line == 0 else "" for name in names for line in range(lines)],
        caption=album.caption,
    )
