"""How well scores separate the examples of one set from those of another."""

import numpy as np


def separation(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """How well scores separate the test set (higher) from other examples: {"auroc", "average_precision"}.

    AUROC is the probability that an inside example scores above an outside one; inside is the positive class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    is_inside = np.repeat([1, 0], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    return {
        "auroc": float(roc_auc_score(is_inside, scores)),
        "average_precision": float(average_precision_score(is_inside, scores)),
    }
