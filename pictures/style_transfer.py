"""style_transfer.png: an example's code decoded as other classes."""

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset
from pictures.album import Album
from pictures.batches import to_batch
from vae import VAE

MOST_EXAMPLES, MOST_CLASSES = 10, 20  # rows and columns


def draw_style_transfer(album: Album, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """One row per class: the code of an example, decoded as each of the classes.

    If the prior knows classes, the noise behind the code is kept, not the code itself.
    """
    classes = dataset.test.labels.argmax(axis=1)
    order = np.random.default_rng(seed).permutation(len(classes))
    chosen = order[np.unique(classes[order], return_index=True)[1]][:MOST_EXAMPLES]
    x, labels = to_batch(dataset.test[chosen], binarize, seed)
    noise = model.prior.to_noise(model.encode(x, labels)[0], labels)
    columns = [x]
    for number in range(min(dataset.num_classes, MOST_CLASSES)):
        requested = tf.one_hot(np.full(len(chosen), number), dataset.num_classes)
        columns.append(model.decode(model.prior.from_noise(noise, requested), requested, seed))
    title = f"Style transfer: the code of a {dataset.split} example, decoded as every class"
    if model.prior.num_classes:
        title = f"Style transfer: the noise behind a {dataset.split} example's code, through the prior of every class"
    visualize.save_image_grid(
        album.path("style_transfer.png"),
        np.stack(columns, axis=1),
        title=title,
        column_labels=["original", *dataset.names_in_model[: len(columns) - 1]],
        caption=album.caption,
    )
