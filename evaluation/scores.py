"""Scores of every example under a trained model, part by part, as many as there are."""

import io
import math
from collections.abc import Mapping

import numpy as np
from PIL import Image

from evaluation.elbo import compiled_terms, elbo_terms
from evaluation.measurement import bits_per_dim, has_bits
from evaluation.separation import separation
from trained.conditions import Conditioner
from trained.importance import log_likelihoods
from trained.model import TrainedModel

LIKELIHOODS = ("log_p_x", "log_p_x_given_y", "elbo")  # the best one that there is says what is likely
HIGH_IS_ODD = ("rate", "distortion")  # of the other scores low values are odd


class Scorer:
    """The scores of examples: those of equal seed, number and place are the same as `--evaluate` computes.

    Args:
        conditioner: gives a conditional model its labels.
        num_samples: importance samples of each example; 0 for the ELBO only.
    """

    def __init__(self, trained: TrainedModel, conditioner: Conditioner, *, num_samples: int, seed: int):
        self.trained, self.conditioner, self.num_samples, self.seed = trained, conditioner, num_samples, seed
        self.terms = compiled_terms(trained.model)

    def score(self, x: np.ndarray, labels: np.ndarray, first: int) -> dict[str, np.ndarray]:
        """Scores of examples (n, ...) with labels (n, classes) of the data, by name: (n,) each, in nats.

        "elbo", "rate", "distortion"; with importance samples "log_p_x" and, where a conditional model knows the data's
        classes, "log_p_x_given_y" (NaN for an example without one class); "bits_per_dim", which is the ELBO's, where
        p(x|z) is a probability of pixels. Of images "ratio_to_png": log p(x), or what there is in its place, less that
        of PNG's code, log 2^-bits. Plain images have high likelihoods under any model, and PNG says which are plain
        (Serrà et al. 2020, eq. 2, with the sign changed: low values are odd).
        Where a conditional model chose an example's label itself, "most_probable_class" is its number, else -1.
        """
        trained = self.trained
        given = self.conditioner.condition(x, labels, first)
        terms = elbo_terms(trained.model, given.batches, self.terms)
        scores = {name: terms[name] for name in ("elbo", "rate", "distortion")}
        if self.num_samples:
            found = log_likelihoods(
                trained.weighter,
                given.batches,
                num_samples=self.num_samples,
                seed=self.seed,
                class_probs=trained.class_probs if trained.is_conditional else None,
                first=first,
                pilot=given.log_p_xy,
            )
            scores |= {name: found[name] for name in ("log_p_x", "log_p_x_given_y") if name in found}
            if "log_p_x_given_y" in scores:
                scores["log_p_x_given_y"] = np.where(given.chosen, np.nan, scores["log_p_x_given_y"])
            if not self.conditioner.of_model:
                scores.pop("log_p_x_given_y", None)
        if has_bits(trained.model, trained.binarize):
            scores["bits_per_dim"] = bits_per_dim(scores["elbo"], trained.data_shape)
        if x.ndim == 4:
            likelihood = next(name for name in LIKELIHOODS if name in scores)
            scores["ratio_to_png"] = scores[likelihood] + png_bits(x) * math.log(2)
        if trained.is_conditional:
            scores["most_probable_class"] = given.chosen_classes
        return scores


def png_bits(images: np.ndarray) -> np.ndarray:
    """The size of each image (n, height, width, channels) as a PNG file: (n,), in bits."""
    sizes = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "png", optimize=True)
        sizes.append(8 * file.tell())
    return np.array(sizes)


def separations(scores: Mapping[str, np.ndarray], inside: np.ndarray) -> dict[str, float]:
    """The AUROC of each score: the probability that an example outside is odder than one inside.

    Args:
        inside: (n,) which examples are usual. If all are, or none, the result is empty.
    """
    if inside.all() or not inside.any():
        return {}
    usual = {name: -values if name in HIGH_IS_ODD else values for name, values in scores.items()}
    usual.pop("bits_per_dim", None)  # it ranks like the ELBO
    return {
        name: separation(values[inside], values[~inside])["auroc"]
        for name, values in usual.items()
        if not np.isnan(values).any()
    }
