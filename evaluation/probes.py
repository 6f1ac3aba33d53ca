"""How well classifiers read classes from codes and images: scikit-learn's, tested on held-out examples."""

import warnings

import numpy as np

NEIGHBOURS = 10
MOST_ITERATIONS = 200


def linear_probe(codes: np.ndarray, classes: np.ndarray, held_out: np.ndarray, held_out_classes: np.ndarray) -> float:
    """Accuracy on held-out codes, (n, latent), of logistic regression on standardized ones (Alain and Bengio 2016)."""
    return float(np.mean(train_linear(codes, classes).predict(held_out) == held_out_classes))


def nearest_neighbours(
    codes: np.ndarray, classes: np.ndarray, held_out: np.ndarray, held_out_classes: np.ndarray
) -> float:
    """Accuracy on held-out codes of the vote of the nearest NEIGHBOURS of `codes`, by Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(codes))).fit(codes, classes)
    return float(np.mean(classifier.predict(held_out) == held_out_classes))


def train_linear(x: np.ndarray, classes: np.ndarray):
    """Multinomial logistic regression on standardized features; a constant feature is left as it is."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the figure is for what MOST_ITERATIONS reach
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS)).fit(x, classes)
