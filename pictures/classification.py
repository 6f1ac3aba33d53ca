"""Pictures of what q(y|x) says about held-out examples: confusion.png, calibration.png, most_wrong.png."""

from collections.abc import Sequence

import numpy as np

import visualize
from pictures.album import Album

NUM_SHOWN = 20


def draw_classification(
    album: Album,
    x: np.ndarray,
    probs: np.ndarray,
    classes: np.ndarray,
    confusion: Sequence[Sequence[int]],
    bins: Sequence[tuple[int, float, float]],
    class_names: Sequence[str],
    *,
    of_clusters: bool = False,
) -> None:
    """Draw the three pictures; the third only of images.

    Args:
        x: the examples, images (0 to 255) or points.
        probs, classes: q(y|x), (n, classes), and the right classes, (n,).
        confusion, bins: as evaluation/classification.py gives them.
        of_clusters: whether the classes are clusters that were matched to the right ones.
    """
    is_wrong = probs.argmax(axis=1) != classes
    error = 100 * np.mean(is_wrong)
    visualize.save_confusion(
        album.path("confusion.png"),
        np.array(confusion),
        class_names,
        title=f"Right classes and those by q(y|x), error {error:.2f}% of {len(classes):,}"
        + ("; clusters matched to them" if of_clusters else ""),
        caption=album.caption,
    )
    visualize.save_calibration(
        album.path("calibration.png"), bins, title="How often q(y|x) is right", caption=album.caption
    )
    if x.ndim == 2:
        return
    order = np.argsort(probs[np.arange(len(classes)), classes], kind="stable")
    wrong = order[is_wrong[order]]
    shown, manner = (wrong, "most wrong") if len(wrong) else (order, "least sure: none is wrong")
    worst = shown[:NUM_SHOWN]
    labels = [f"{class_names[probs[row].argmax()]} {probs[row].max():.2f}" for row in worst]
    names = [f"is {class_names[classes[row]]}" for row in worst]
    groups = {"its guess with its probability; below, the right class": (x[worst] / np.float32(255), labels, names)}
    title = f"Held-out images about which q(y|x) is {manner}"
    visualize.save_labelled_images(album.path("most_wrong.png"), groups, title=title, caption=album.caption)
