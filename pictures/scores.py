"""scores.png: the least and the most likely examples of some data."""

import numpy as np

import visualize
from pictures.album import Album
from sources.streams import Block

NUM_SHOWN = 20  # at either end
MOST_POINTS = 3000


class Extremes:
    """Keeps the least and the most likely of many examples; of points it keeps all.

    Attributes:
        x, scores, names: of the examples kept, in the order of their scores.
    """

    def __init__(self):
        self.x, self.scores, self.names, self.num = None, np.zeros(0), np.zeros(0, object), 0

    def add(self, block: Block, scores: np.ndarray) -> None:
        """Add examples with their scores (n,)."""
        self.num += len(scores)
        x = block.x if self.x is None else np.concatenate([self.x, block.x])
        scores = np.concatenate([self.scores, scores])
        names = np.concatenate([self.names, np.array(block.names, object)])
        order = np.argsort(scores, kind="stable")
        if x.ndim > 2 and len(order) > 2 * NUM_SHOWN:
            order = np.concatenate([order[:NUM_SHOWN], order[-NUM_SHOWN:]])
        self.x, self.scores, self.names = x[order], scores[order], names[order]


def draw_extremes(album: Album, extremes: Extremes, *, title: str, seed: int) -> None:
    """Draw scores.png: images with their scores and names, or all points with those at both ends marked."""
    path, num = album.path("scores.png"), min(NUM_SHOWN, max(1, len(extremes.scores) // 2))
    if extremes.x.ndim == 2:
        rows = np.random.default_rng(seed).permutation(len(extremes.x))[:MOST_POINTS]
        marked = {f"the {num} least likely": extremes.x[:num], f"the {num} most likely": extremes.x[-num:]}
        visualize.save_marked_points(path, extremes.x[rows], marked, title=title, caption=album.caption)
        return
    labels = [f"{score:.1f}" for score in extremes.scores]
    images, names = extremes.x / np.float32(255.0), list(extremes.names)
    if extremes.num > 2 * NUM_SHOWN:
        headings = {f"the {num} least likely": slice(num), f"the {num} most likely": slice(None, num - 1, -1)}
    else:
        headings = {"from the least to the most likely": slice(None)}
    groups = {heading: (images[rows], labels[rows], names[rows]) for heading, rows in headings.items()}
    visualize.save_labelled_images(path, groups, title=title, caption=album.caption)
