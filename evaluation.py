"""Bounds on log p(x) that are tighter than the ELBO."""

import functools
import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tqdm

from vae import VAE

PILOT_SAMPLES = 8  # with which it is decided which classes matter to log p(x)
NEGLIGIBLE = math.log(1e-4)  # share of p(x), below which the pilot's estimate of p(x, y) is good enough
PAIRS = 500  # examples, each with a class, that are scored at once


def importance_weighted(
    model: VAE, x: tf.Tensor, labels: tf.Tensor | None, seed: tf.Tensor, num_samples: int
) -> tf.Tensor:
    """An estimate of log p(x), or log p(x|y) for a conditional model, with `num_samples` draws: (batch,) in nats.

    log of the mean of p(x, z) / q(z|x) over z ~ q(z|x) (Burda et al. 2016, eq. 8). On average it lies below log p(x)
    and, but for noise, above the ELBO.
    """
    condition = model.condition(labels)
    mean, logvar = model.encoder(x, condition)
    total = tf.fill(tf.shape(x)[:1], -np.inf)
    for k in tf.range(num_samples):
        tf.autograph.experimental.set_loop_options(parallel_iterations=1)  # memory for one draw at a time
        log_weight = model.log_weight(x, condition, mean, logvar, tf.random.experimental.stateless_fold_in(seed, k))
        total = tf.reduce_logsumexp(tf.stack([total, log_weight]), axis=0)
    return total - tf.math.log(tf.cast(num_samples, tf.float32))


def log_likelihoods(
    model: VAE,
    batches: Iterable[tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    *,
    num_samples: int,
    seed: int,
    class_probs: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Importance-weighted estimates for every example of `batches`, in nats: (num_examples,) each.

    "log_p_x" for a model without labels; for a conditional one "log_p_x_given_y" with the true label y and, where
    `class_probs` gives p(y), the marginal "log_p_x" = log sum_y p(y) p(x|y).

    For the marginal a pilot of a few draws scores every class. Those that matter are scored again with `num_samples`
    fresh draws, as the true class always is; so each summand is right on average, or too low, and log_p_x a bound.
    """
    score = tf.function(functools.partial(importance_weighted, model), reduce_retracing=True)
    x, labels = (np.concatenate(parts) for parts in zip(*((x, labels) for x, labels, _ in batches), strict=True))
    if class_probs is None or not model.is_conditional:
        own = np.arange(len(x))
        log_p = score_pairs(score, x, labels, own, own, num_samples, seed, "log p(x)")
        return {"log_p_x_given_y" if model.is_conditional else "log_p_x": log_p}

    one_hot = np.eye(len(class_probs), dtype=np.float32)
    truth = labels.argmax(axis=1)
    every_pair = (axis.reshape(-1) for axis in np.indices((len(x), len(class_probs))))
    with np.errstate(divide="ignore"):
        log_p_y = np.log(class_probs)  # -inf for a class that training never saw
    pilot = score_pairs(score, x, one_hot, *every_pair, PILOT_SAMPLES, seed, "every class")
    log_p_xy = pilot.reshape(len(x), -1) + log_p_y
    matters = log_p_xy > NEGLIGIBLE + np.logaddexp.reduce(log_p_xy, axis=1, keepdims=True)
    matters[np.arange(len(x)), truth] = True
    examples, classes = np.nonzero(matters)
    log_p = score_pairs(score, x, one_hot, examples, classes, num_samples, seed + 1, "log p(x)")
    log_p_xy[examples, classes] = log_p + log_p_y[classes]
    return {"log_p_x_given_y": log_p[classes == truth[examples]], "log_p_x": np.logaddexp.reduce(log_p_xy, axis=1)}


def score_pairs(score, x, conditions, examples, chosen, num_samples, seed, title) -> np.ndarray:
    """`score` for each pair of an example x[examples[i]] and its labels conditions[chosen[i]]: (pairs,)."""
    results = []
    for start in tqdm.trange(0, len(examples), PAIRS, desc=title, disable=None, leave=False):
        rows = slice(start, start + PAIRS)
        pairs = tf.constant(x[examples[rows]]), tf.constant(conditions[chosen[rows]])
        results.append(score(*pairs, tf.constant([seed, start]), tf.constant(num_samples)))
    return np.concatenate(results)
