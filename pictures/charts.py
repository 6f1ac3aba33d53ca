"""Pictures of figures: the history of a training, the scores of two datasets."""

from collections.abc import Mapping, Sequence

import numpy as np

import visualize
from pictures.album import Album


def draw_history(album: Album, history: Sequence[Mapping[str, float]]) -> None:
    """Draw history.png."""
    visualize.save_history(album.path("history.png"), history, title="Training", caption=album.caption)


def draw_separation(album: Album, name: str, scores: Mapping[str, np.ndarray], auroc: float, num_samples: int) -> None:
    """ood_<name>.png: the bounds on log p(x) of the held-out examples and of another dataset, by their names."""
    visualize.save_histograms(
        album.path(f"ood_{name}.png"),
        scores,
        title=f"Scores of {' and '.join(scores)}: AUROC {auroc:.3f}",
        axis_label=f"bound on log p(x) with {num_samples:,} importance samples, nats",
        caption=album.caption,
    )
