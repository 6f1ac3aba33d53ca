"""What a classifier is taught about examples without a label: its own probabilities of classes, (batch, classes), after
the two changes of section 3.1 of Berthelot et al. (2020), "ReMixMatch"."""

import numpy as np
import tensorflow as tf

TEMPERATURE = 0.75  # on MNIST all classes become equally probable at 1, and early mistakes stay at 1/2


def balanced(probs: tf.Tensor, class_prior: np.ndarray) -> tf.Tensor:
    """Multiplied by p(y), (classes,), over how frequent the class is in the batch, and normalized. To what the batch
    holds are added as many examples of p(y) as there are classes, so that a class which a small batch lacks does not
    gain much."""
    weighted = probs * class_prior / (tf.reduce_sum(probs, axis=0) + len(class_prior) * class_prior)
    return weighted / tf.reduce_sum(weighted, axis=1, keepdims=True)


def sharpened(probs: tf.Tensor) -> tf.Tensor:
    """Made surer by a temperature. Adversarial changes alone teach a classifier to be unsure of every example."""
    sharper = tf.pow(probs, 1.0 / TEMPERATURE)
    return sharper / tf.reduce_sum(sharper, axis=1, keepdims=True)
