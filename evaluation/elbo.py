"""The terms of the ELBO on held-out data, example by example."""

import numpy as np
import tensorflow as tf

from trained.importance import Batches
from vae import VAE


def elbo_terms(model: VAE, batches: Batches) -> dict[str, np.ndarray]:
    """What the ELBO of every example is made of, at one posterior sample each.

    "elbo", "rate", "distortion": (examples,) in nats; "latent_rates", "mean", "logvar" of q(z|x): (examples, latent).
    """

    @tf.function(reduce_retracing=True)
    def terms(x, labels, seed):
        distortion, latent_rates = model.terms(x, labels, seed)
        return distortion, latent_rates, *model.encode(x, labels)

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
