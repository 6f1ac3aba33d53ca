"""How well scores tell the examples of one set from those of another."""

import numpy as np


def separation(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """How well a higher score tells examples of the test set from others: {"auroc", "average_precision"}.

    AUROC is the chance that an example inside scores above one outside; the examples inside are the positive class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    is_inside = np.repeat([1, 0], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    return {
        "auroc": float(roc_auc_score(is_inside, scores)),
        "average_precision": float(average_precision_score(is_inside, scores)),
    }
