"""How well q(y|x) tells the classes of held-out examples."""

from typing import Any

import numpy as np

NUM_BINS = 15  # of confidence
COLLAPSED_SHARE = 0.9  # of examples that are given one class, and well more than have one


def classification(probs: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """Figures of probabilities (n, classes) where `classes` (n,) are right.

    "error": the share of examples whose most probable class is another, and its standard error.
    "expected_calibration_error": the mean distance of confidence and accuracy, over bins of equal width (Guo et al.
    2017, eq. 3). "confusion": examples by right class, in rows, and most probable one, in columns. "largest_share": of
    all examples, of those that are given the same class. "collapsed": whether these are nearly all, and more than are
    of one class.
    """
    num, predicted = len(classes), probs.argmax(axis=1)
    error = float(np.mean(predicted != classes))
    confusion = np.zeros((probs.shape[1],) * 2, int)
    np.add.at(confusion, (classes, predicted), 1)
    figures = {"error": error}
    if num > 1:
        figures["error_standard_error"] = float(np.sqrt(error * (1 - error) / (num - 1)))
    share = confusion.sum(axis=0).max() / num
    gaps = [count * abs(accuracy - confidence) for count, confidence, accuracy in calibration(probs, classes)]
    return figures | {
        "expected_calibration_error": float(sum(gaps) / num),
        "largest_share": float(share),
        "collapsed": bool(num > 1 and share > max(COLLAPSED_SHARE, 1.05 * confusion.sum(axis=1).max() / num)),
        "confusion": confusion.tolist(),
    }


def calibration(probs: np.ndarray, classes: np.ndarray) -> list[tuple[int, float, float]]:
    """Number of examples, mean confidence and accuracy of each bin that is not empty; the confidence is the
    probability of the most probable class."""
    confidence, is_right = probs.max(axis=1), probs.argmax(axis=1) == classes
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        (int(inside.sum()), float(confidence[inside].mean()), float(is_right[inside].mean()))
        for inside in (bins == number for number in range(NUM_BINS))
        if inside.any()
    ]


def matched_to_classes(probs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The columns of `probs` in the order in which most examples are given their class. For a model that has seen no
    labels, and so cannot know which cluster has which name."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((probs.shape[1],) * 2, int)
    np.add.at(counts, (classes, probs.argmax(axis=1)), 1)
    _, columns = linear_sum_assignment(counts, maximize=True)
    return probs[:, columns]
