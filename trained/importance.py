"""Importance-weighted bounds on log p(x), tighter than the ELBO."""

import math
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
import tqdm

Batches = Iterable[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]  # (x, labels, seed), as sources.batches makes them

PILOT_SAMPLES = 8  # draws that decide which classes matter to log p(x)
NEGLIGIBLE = math.log(1e-4)  # share of p(x), below which the pilot's estimate of p(x, y) is good enough
BLOCK = 50  # draws of an example that are made at once
MOST_PAIRS, MOST_VALUES = 500, 500 * 28 * 28  # examples, each with a class, scored at once; and their pixels
FINAL_STREAM, PILOT_STREAM = range(2)


class ImportanceWeighter:
    """Importance-weighted estimates under one model. Compiled at the first use; the compiled function and the model
    live as long as this object."""

    def __init__(self, model: keras.Model):
        self.model = model
        self.add_draws = None

    def log_p(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        examples: np.ndarray,
        *,
        num_samples: int,
        seed: int,
        stream: int = FINAL_STREAM,
        first: int = 0,
    ) -> np.ndarray:
        """Estimates of log p(x), or log p(x|y), for each pair of x[examples[i]] and labels[i]: (pairs,) in nats.

        log of the mean of p(x, z) / q(z|x) over z ~ q(z|x) (Burda et al. 2016, eq. 8). On average it lies below
        log p(x) and, but for noise, above the ELBO. The noise of an example depends only on `seed` and its number,
        which is `first` more than its place in x, and with more samples the first draws stay the same.
        """
        if self.add_draws is None:
            self.add_draws = self.compile(x.shape[1:], labels.shape[1])
        latent_size = self.model.prior.latent_size
        at_once = max(1, min(MOST_PAIRS, MOST_VALUES // math.prod(x.shape[1:])))
        results = []
        title = "every class" if stream == PILOT_STREAM else f"log p(x), K = {num_samples:,}"
        with tqdm.tqdm(
            total=len(examples) * num_samples, desc=title, unit="draw", unit_scale=True, disable=None, leave=None
        ) as bar:
            for start in range(0, len(examples), at_once):
                rows = slice(start, start + at_once)
                batch, conditions = tf.constant(x[examples[rows]]), tf.constant(labels[rows])
                mean, logvar = self.model.encode(batch, conditions)
                log_sum = tf.fill([len(batch)], -np.inf)
                for done in range(0, num_samples, BLOCK):
                    block_seed = tf.random.experimental.stateless_fold_in([seed, stream], done // BLOCK)
                    noise = block_of_noise(block_seed, tf.constant(first + examples[rows], tf.int32), latent_size)
                    num = min(BLOCK, num_samples - done)
                    log_sum = self.add_draws(batch, conditions, mean, logvar, noise, tf.constant(num), log_sum)
                    bar.update(num * len(batch))
                results.append(log_sum.numpy() - math.log(num_samples))
        return np.concatenate(results)

    def compile(self, data_shape, num_classes: int):
        """A function that adds the importance weights of `num` draws to a running sum, in logs: (batch,)."""

        def floats(*shape):
            return tf.TensorSpec((None, *shape), tf.float32)

        model = self.model
        codes, noise = floats(model.prior.latent_size), floats(None, model.prior.latent_size)
        num = tf.TensorSpec((), tf.int32)

        @tf.function(input_signature=[floats(*data_shape), floats(num_classes), codes, codes, noise, num, floats()])
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
    """Standard normal noise for BLOCK codes of each numbered example: (BLOCK, batch, latent).

    The noise of an example does not depend on the rest of the batch.
    """

    def of_example(number):
        return tf.random.stateless_normal((BLOCK, latent_size), seed + tf.stack([0, number]), alg="philox")

    return tf.transpose(tf.map_fn(of_example, numbers, fn_output_signature=tf.float32), (1, 0, 2))


def log_likelihoods(
    weighter: ImportanceWeighter,
    batches: Batches,
    *,
    num_samples: int,
    seed: int,
    class_probs: np.ndarray | None = None,
    first: int = 0,
    pilot: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Importance-weighted estimates for every example of `batches`, in nats: (examples,) each.

    "log_p_x" for a model without labels; for a conditional one "log_p_x_given_y" with the true labels y, if the
    batches have them, and, where `class_probs` gives p(y), the marginal "log_p_x" = log sum_y p(y) p(x|y).

    For the marginal a pilot of a few draws scores every class. Each class that matters is scored again with
    `num_samples` fresh draws. So on average each summand is right or too low, and log_p_x is a bound.

    `first` is the number of the first example, where many are scored in several calls; `pilot` the result of
    `pilot_log_p_xy`, if it is known.
    """
    is_conditional = weighter.model.is_conditional
    x, labels = (np.concatenate(part) for part in zip(*((x, labels) for x, labels, _ in batches), strict=True))
    examples = np.arange(len(x))
    if not is_conditional or class_probs is None:
        log_p = weighter.log_p(x, labels, examples, num_samples=num_samples, seed=seed, first=first)
        return {"log_p_x_given_y" if is_conditional else "log_p_x": log_p}

    log_p_xy = pilot_log_p_xy(weighter, x, class_probs, seed=seed, first=first) if pilot is None else pilot.copy()
    matters = log_p_xy > NEGLIGIBLE + np.logaddexp.reduce(log_p_xy, axis=1, keepdims=True)
    matters[np.arange(len(x)), log_p_xy.argmax(axis=1)] = True  # also where all are too low for that comparison
    examples, classes = np.nonzero(matters | (labels > 0))
    one_hot = np.eye(len(class_probs), dtype=np.float32)
    log_p = weighter.log_p(x, one_hot[classes], examples, num_samples=num_samples, seed=seed, first=first)
    # The marginal is the same with labels and without: a true class that does not matter keeps the pilot's score.
    log_p_xy[matters] = (log_p + log_of(class_probs)[classes])[matters[examples, classes]]
    marginal = {"log_p_x": np.logaddexp.reduce(log_p_xy, axis=1)}
    return {"log_p_x_given_y": log_p[labels[examples, classes] > 0]} | marginal if labels.any() else marginal


def pilot_log_p_xy(
    weighter: ImportanceWeighter, x: np.ndarray, class_probs: np.ndarray, *, seed: int, first: int = 0
) -> np.ndarray:
    """Estimates of log p(x, y) = log p(y) p(x|y) by a few draws: (examples, classes) in nats."""
    one_hot = np.eye(len(class_probs), dtype=np.float32)
    examples, classes = (axis.reshape(-1) for axis in np.indices((len(x), len(class_probs))))
    log_p = weighter.log_p(
        x, one_hot[classes], examples, num_samples=PILOT_SAMPLES, seed=seed, stream=PILOT_STREAM, first=first
    )
    return log_p.reshape(len(x), -1) + log_of(class_probs)


def log_of(class_probs: np.ndarray) -> np.ndarray:
    """log p(y): -inf for a class that training never saw."""
    with np.errstate(divide="ignore"):
        return np.log(class_probs)
