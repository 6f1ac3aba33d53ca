"""The terms of the ELBO on held-out data, example by example."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trained.importance import Batches
from vae import VAE

MOST_DECODED = 1000  # images at once, of all classes


def elbo_terms(model: VAE, batches: Batches, terms: Callable | None = None) -> dict[str, np.ndarray]:
    """What the ELBO of every example is made of, at one posterior sample each.

    "elbo", "rate", "distortion": (examples,) in nats; "latent_rates", "mean", "logvar" of q(z|x): (examples, latent).

    `terms` is `compiled_terms(model)`, if it is there already.
    """
    terms = terms or compiled_terms(model)
    parts = zip(*(terms(*batch) for batch in batches), strict=True)
    distortion, latent_rates, mean, logvar = (np.concatenate(part) for part in parts)
    rate = latent_rates.sum(axis=1)
    return {
        "elbo": -(distortion + rate),
        "rate": rate,
        "distortion": distortion,
        "latent_rates": latent_rates,
        "mean": mean,
        "logvar": logvar,
    }


def compiled_terms(model: VAE) -> Callable:
    """A compiled function of a batch: its distortion, its latent rates, and mean and logvar of q(z|x)."""

    @tf.function(reduce_retracing=True, autograph=False)
    def terms(x, labels, seed):
        distortion, latent_rates = model.terms(x, labels, seed)
        return distortion, latent_rates, *model.encode(x, labels)

    return terms


def elbos_of_unlabelled(model: VAE, batches: Batches) -> np.ndarray:
    """The bound on log p(x) of every example by the sum over classes, of a model that infers labels: (examples,)."""

    @tf.function(reduce_retracing=True, autograph=False)
    def elbos(x, seed):
        distortion, latent_rates, class_rate = model.unlabelled_terms(x, seed)
        return -(distortion + tf.reduce_sum(latent_rates, axis=1) + class_rate)

    size, found = max(1, MOST_DECODED // model.arguments["num_classes"]), []
    for x, _, seed in batches:
        for start in range(0, len(x), size):
            found.append(elbos(x[start : start + size], tf.random.experimental.stateless_fold_in(seed, start)))
    return np.concatenate(found)
