"""How much a model uses its latents."""

import numpy as np
import tensorflow as tf

from vae import VAE

ACTIVE = 0.01  # variance over the data of a latent's posterior mean, above which it is in use (Burda et al. 2016)


def use_of_latents(model: VAE, terms: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> dict:
    """How the latents are used, from `elbo_terms` and the labels of the same examples.

    "active_units": number of latents whose posterior mean has a variance above 0.01 over the data (Burda et al. 2016,
    section 5.2). "rate_per_latent": their mean rates in nats. "aggregate_posterior_kl": the distance in nats of the
    aggregate posterior, q(z|x) averaged over the data, from the prior: KL(q || p) of two Gaussians with the moments of
    draws from each; left out if there are too few examples. For the prior N(0, I) the KL itself is at least as large.
    """
    mean, logvar = terms["mean"], terms["logvar"]
    used = {
        "active_units": int(np.sum(mean.var(axis=0) > ACTIVE)),
        "rate_per_latent": [float(rate) for rate in terms["latent_rates"].mean(axis=0)],
    }
    if len(mean) <= 2 * mean.shape[1]:  # too few to have a covariance
        return used
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    condition = model.condition(tf.constant(labels, tf.float32))
    prior = model.prior.sample(len(mean), tf.constant([seed, 1]), condition).numpy()
    return used | {"aggregate_posterior_kl": gaussian_kl(mean + np.exp(0.5 * logvar) * noise, prior)}


def gaussian_kl(draws: np.ndarray, reference: np.ndarray) -> float:
    """KL(N(m, S) || N(n, T)) in nats, with mean and covariance of `draws` and of `reference`, (num, size) each."""
    mean, reference_mean = draws.mean(axis=0, dtype=np.float64), reference.mean(axis=0, dtype=np.float64)
    jitter = 1e-9 * np.eye(draws.shape[1])
    covariance = np.atleast_2d(np.cov(draws, rowvar=False)) + jitter
    reference_covariance = np.atleast_2d(np.cov(reference, rowvar=False)) + jitter
    solved = np.linalg.solve(reference_covariance, np.column_stack([covariance, mean - reference_mean]))
    distance = np.trace(solved[:, :-1]) + (mean - reference_mean) @ solved[:, -1] - len(mean)
    log_volumes = np.linalg.slogdet(reference_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return float(0.5 * (distance + log_volumes))
