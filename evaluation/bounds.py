"""What a model is worth on held-out data: the ELBO, tighter bounds on log p(x), the use it makes of its latents."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from vae import VAE

PILOT_SAMPLES = 8  # with which it is decided which classes matter to log p(x)
NEGLIGIBLE = math.log(1e-4)  # share of p(x), below which the pilot's estimate of p(x, y) is good enough
BLOCK = 50  # draws of an example that are made at once
MOST_PAIRS, MOST_VALUES = 500, 500 * 28 * 28  # examples, each with a class, scored at once; and their pixels
ACTIVE = 0.01  # variance over the data of a latent's posterior mean, above which it is in use (Burda et al. 2016)
FINAL_STREAM, PILOT_STREAM = range(2)

Batches = Iterable[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


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


def log_likelihoods(
    model: VAE, batches: Batches, *, num_samples: int, seed: int, class_probs: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Importance-weighted estimates for every example of `batches`, in nats: (examples,) each.

    "log_p_x" for a model without labels; for a conditional one "log_p_x_given_y" with the true labels y, if the
    batches have them, and, where `class_probs` gives p(y), the marginal "log_p_x" = log sum_y p(y) p(x|y).

    For the marginal a pilot of a few draws scores every class. Those that matter are scored again with `num_samples`
    fresh draws, as the true class always is; so each summand is right on average, or too low, and log_p_x a bound.
    """
    x, labels = (np.concatenate(part) for part in zip(*((x, labels) for x, labels, _ in batches), strict=True))
    examples = np.arange(len(x))
    if not model.is_conditional or class_probs is None:
        log_p = importance_weighted(model, x, labels, examples, num_samples=num_samples, seed=seed)
        return {"log_p_x_given_y" if model.is_conditional else "log_p_x": log_p}

    one_hot = np.eye(len(class_probs), dtype=np.float32)
    every_example, every_class = (axis.reshape(-1) for axis in np.indices((len(x), len(class_probs))))
    with np.errstate(divide="ignore"):
        log_p_y = np.log(class_probs)  # -inf for a class that training never saw
    pilot = importance_weighted(
        model, x, one_hot[every_class], every_example, num_samples=PILOT_SAMPLES, seed=seed, stream=PILOT_STREAM
    )
    log_p_xy = pilot.reshape(len(x), -1) + log_p_y
    matters = log_p_xy > NEGLIGIBLE + np.logaddexp.reduce(log_p_xy, axis=1, keepdims=True)
    matters |= labels > 0
    examples, classes = np.nonzero(matters)
    log_p = importance_weighted(model, x, one_hot[classes], examples, num_samples=num_samples, seed=seed)
    log_p_xy[examples, classes] = log_p + log_p_y[classes]
    marginal = {"log_p_x": np.logaddexp.reduce(log_p_xy, axis=1)}
    return {"log_p_x_given_y": log_p[labels[examples, classes] > 0]} | marginal if labels.any() else marginal


def importance_weighted(
    model: VAE,
    x: np.ndarray,
    labels: np.ndarray,
    examples: np.ndarray,
    *,
    num_samples: int,
    seed: int,
    stream: int = FINAL_STREAM,
) -> np.ndarray:
    """Estimates of log p(x), or log p(x|y), for each pair of x[examples[i]] and labels[i]: (pairs,) in nats.

    log of the mean of p(x, z) / q(z|x) over z ~ q(z|x) (Burda et al. 2016, eq. 8). On average it lies below log p(x)
    and, but for noise, above the ELBO. The noise of an example depends on `seed` and its number alone, and the first
    draws of many are those of few.
    """
    add_draws = weight_adder(model, x.shape[1:], labels.shape[1])
    at_once = max(1, min(MOST_PAIRS, MOST_VALUES // math.prod(x.shape[1:])))
    results = []
    title = "every class" if stream == PILOT_STREAM else f"log p(x), K = {num_samples:,}"
    with tqdm.tqdm(total=len(examples) * num_samples, desc=title, unit="draw", unit_scale=True, disable=None) as bar:
        for start in range(0, len(examples), at_once):
            rows = slice(start, start + at_once)
            batch, conditions = tf.constant(x[examples[rows]]), tf.constant(labels[rows])
            mean, logvar = model.encode(batch, conditions)
            log_sum = tf.fill([len(batch)], -np.inf)
            for first in range(0, num_samples, BLOCK):
                block_seed = tf.random.experimental.stateless_fold_in([seed, stream], first // BLOCK)
                noise = block_of_noise(block_seed, tf.constant(examples[rows], tf.int32), model.prior.latent_size)
                num = min(BLOCK, num_samples - first)
                log_sum = add_draws(batch, conditions, mean, logvar, noise, tf.constant(num), log_sum)
                bar.update(num * len(batch))
            results.append(log_sum.numpy() - math.log(num_samples))
    return np.concatenate(results)


@functools.lru_cache(maxsize=1)  # compiled once for all passes over a model
def weight_adder(model: VAE, data_shape: Sequence[int], num_classes: int) -> Callable[..., tf.Tensor]:
    """A compiled function that adds the importance weights of `num` draws to a running sum, in logs: (batch,)."""

    def floats(*shape):
        return tf.TensorSpec((None, *shape), tf.float32)

    codes, noise = floats(model.prior.latent_size), floats(None, model.prior.latent_size)

    @tf.function(
        input_signature=[
            floats(*data_shape),
            floats(num_classes),
            codes,
            codes,
            noise,
            tf.TensorSpec((), tf.int32),
            floats(),
        ]
    )
    def add_draws(x, labels, mean, logvar, noise, num, log_sum):
        for k in tf.range(num):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)  # memory for one draw at a time
            z = mean + tf.exp(0.5 * logvar) * noise[k]
            log_weight = model.log_weight(x, z, mean, logvar, model.condition(labels))
            log_sum = tf.reduce_logsumexp(tf.stack([log_sum, log_weight]), axis=0)
        return log_sum

    return add_draws


@tf.function(reduce_retracing=True)
def block_of_noise(seed: tf.Tensor, numbers: tf.Tensor, latent_size: int) -> tf.Tensor:
    """Standard normal noise for BLOCK codes of each numbered example: (BLOCK, batch, latent). An example's is the same
    in whatever company."""

    def of_example(number):
        return tf.random.stateless_normal((BLOCK, latent_size), seed + tf.stack([0, number]), alg="philox")

    return tf.transpose(tf.map_fn(of_example, numbers, fn_output_signature=tf.float32), (1, 0, 2))


def use_of_latents(model: VAE, terms: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> dict:
    """How the latents are used, from `elbo_terms` and the labels of the same examples.

    "active_units": how many have a posterior mean of a variance above 0.01 over the data (Burda et al. 2016, section
    5.2). "rate_per_latent": their mean rates in nats. "aggregate_posterior_kl": the distance in nats of the aggregate
    posterior, q(z|x) averaged over the data, from the prior: KL(q || p) of two Gaussians with the moments of draws from
    each; left out where there are too few examples. For the prior N(0, I) the KL itself is at least as large.
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
