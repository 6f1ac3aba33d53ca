"""fill_in.png: images, what was shown of them, and how a model completes them."""

from collections.abc import Sequence

import numpy as np

import visualize
from pictures.album import Album

MOST_IMAGES, MOST_COMPLETIONS = 20, 10  # rows and columns
LONGEST_NAME = 16  # letters
MISSING = (0.45, 0.65, 0.95)  # a blue, unlike any grey


def draw_completions(
    album: Album,
    name: str,
    images: np.ndarray | None,
    known: np.ndarray,
    completions: np.ndarray,
    names: Sequence[str],
) -> None:
    """A row for each image, with its name: the image, what was shown of it, and its completions.

    Args:
        images: (n, height, width, channels) uint8; None if nothing is known of what is missing.
        known: (n, height, width) bool.
        completions: (n, num, height, width, channels) in [0, 1], with the known pixels as they were shown.
    """
    num = min(completions.shape[1], MOST_COMPLETIONS)
    completions, known = completions[:MOST_IMAGES, :num], known[:MOST_IMAGES, ..., None]
    columns = [completions[:, number] for number in range(num)]
    columns = [np.where(known, columns[0], MISSING), *columns]
    labels = ["shown", *(str(number + 1) for number in range(num))]
    if images is not None:
        columns, labels = [images[:MOST_IMAGES] / 255.0, *columns], ["original", *labels]
    images = np.stack([np.broadcast_to(column, columns[labels.index("shown")].shape) for column in columns], axis=1)
    visualize.save_image_grid(
        album.path(name),
        images,
        title="Images completed: what is blue was missing",
        row_labels=[visualize.end_of(name, LONGEST_NAME) for name in names],
        column_labels=labels,
        caption=album.caption,
    )
