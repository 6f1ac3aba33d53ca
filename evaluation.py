"""Bounds on log p(x) that are tighter than the ELBO."""

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
    score = tf.function(lambda *arguments: importance_weighted(model, *arguments), reduce_retracing=True)
    x, labels = (np.concatenate(parts) for parts in zip(*((x, labels) for x, labels, _ in batches), strict=True))
    num_examples, num_classes = labels.shape
    marginal = model.is_conditional and class_probs is not None
    examples, classes, log_p_xy = np.arange(num_examples), np.zeros(num_examples, int), None
    if marginal:
        every_pair = np.repeat(np.arange(num_examples), num_classes), np.tile(np.arange(num_classes), num_examples)
        pilot = score_pairs(score, x, np.eye(num_classes, dtype=np.float32), *every_pair, PILOT_SAMPLES, seed, "pilot")
        log_p_xy = pilot.reshape(num_examples, num_classes) + np.log(class_probs)
        matters = log_p_xy - np.logaddexp.reduce(log_p_xy, axis=1, keepdims=True) > NEGLIGIBLE
        examples, classes = np.nonzero(matters | (labels > 0))
        rows = np.eye(num_classes, dtype=np.float32)
    else:
        rows, classes = labels, examples
    log_p = score_pairs(score, x, rows, examples, classes, num_samples, seed + 1, "log p(x)")
    if not marginal:
        return {"log_p_x_given_y" if model.is_conditional else "log_p_x": log_p}
    log_p_xy[examples, classes] = log_p + np.log(class_probs[classes])
    true_class = labels[examples, classes] > 0
    return {"log_p_x_given_y": log_p[true_class], "log_p_x": np.logaddexp.reduce(log_p_xy, axis=1)}


def score_pairs(score, x, label_rows, examples, labels, num_samples, seed, title) -> np.ndarray:
    """`score` for each pair of an example x[examples[i]] and a label label_rows[labels[i]]: (pairs,)."""
    results = []
    for start in tqdm.trange(0, len(examples), PAIRS, desc=title, disable=None, leave=False):
        rows = slice(start, start + PAIRS)
        pair_seed = tf.constant([seed, start])
        pairs = tf.constant(x[examples[rows]]), tf.constant(label_rows[labels[rows]])
        results.append(score(*pairs, pair_seed, tf.constant(num_samples)))
    return np.concatenate(results)
