"""Adam and Muon that also keep a running average of the weights."""

import math

import keras
import tensorflow as tf

from parts.replicas import mean_over_replicas


class AveragedAdam(keras.optimizers.Adam):
    """Adam that also keeps a running average of the weights (Polyak and Juditsky 1992).

    The average does as well as the weights at the end of a decaying learning rate, but no end has to be known: a run of
    4 epochs is the first part of one of 10. After t steps its momentum is min(`averaging`, t / (t + 9)).
    """

    def __init__(self, learning_rate: float = 1e-3, beta_2: float = 0.99, averaging: float = 0.997, **kwargs):
        super().__init__(learning_rate, beta_2=beta_2, **kwargs)
        self.averaging = averaging

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.averages = [self.add_variable_from_reference(variable, name="average") for variable in variables]
            for variable, average in zip(variables, self.averages, strict=True):
                average.assign(variable)

    def apply(self, grads, trainable_variables=None):
        super().apply(mean_over_replicas(grads), trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # Keras would reduce them here, when they have been clipped

    def update_step(self, gradient, variable, learning_rate):
        self.move(gradient, variable, learning_rate)
        step = tf.cast(self.iterations, tf.float32)
        momentum = tf.minimum(self.averaging, step / (step + 9.0))
        average = self.averages[self._get_variable_index(variable)]
        average.assign(momentum * average + (1.0 - momentum) * variable)

    def move(self, gradient, variable, learning_rate) -> None:
        """Update one weight; here as Adam does."""
        super().update_step(gradient, variable, learning_rate)

    def exchange_weights(self) -> None:
        """Exchange the model's weights and their averages, exactly (Keras's SwapEMAWeights rounds)."""
        for weight, average in zip(self._trainable_variables, self.averages, strict=True):
            held = tf.identity(weight.value)
            weight.assign(average)
            average.assign(held)


class AveragedMuon(AveragedAdam):
    """Muon for the kernels of dense and convolutional layers (Jordan et al. 2024), AveragedAdam for all else.

    A kernel steps along its momentum made orthogonal, so that no direction is learnt more slowly for being seldom in
    the gradients. Its root mean square is fixed (Liu et al. 2025, eq. 4), so that one learning rate serves both. At
    step t that is learning_rate / (1 + t / DECAY_STEPS): large steps keep information out of the codes, and, unlike a
    decay towards a last epoch, this one leaves 2 + 2 epochs the same as 4.
    """

    MOMENTUM = 0.95
    ROOT_MEAN_SQUARE = 0.6  # of a kernel's step, in learning rates
    DECAY_STEPS = 2000

    def __init__(
        self, learning_rate: float = 2e-3, averaging: float = 0.9995, global_clipnorm: float = 200.0, **kwargs
    ):
        # Gradients of a VLAE have norms of 15 to 60 on MNIST, and rare large ones.
        super().__init__(learning_rate, averaging=averaging, global_clipnorm=global_clipnorm, **kwargs)

    def move(self, gradient, variable, learning_rate):
        learning_rate = learning_rate / (1.0 + tf.cast(self.iterations, tf.float32) / self.DECAY_STEPS)
        if len(variable.shape) not in (2, 4):
            super().move(gradient, variable, learning_rate)
            return
        momentum = self._momentums[self._get_variable_index(variable)]
        momentum.assign(self.MOMENTUM * momentum + gradient)
        direction = tf.reshape(gradient + self.MOMENTUM * momentum, (-1, variable.shape[-1]))
        scale = self.ROOT_MEAN_SQUARE * math.sqrt(max(direction.shape))
        step = learning_rate * scale * orthogonalized(direction)
        variable.assign_sub(tf.reshape(step, variable.shape))


def orthogonalized(matrix: tf.Tensor, num_iterations: int = 5) -> tf.Tensor:
    """The matrix with singular values brought to about 1, by the Newton-Schulz iteration of Jordan et al. (2024)."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(matrix) if is_tall else matrix
    x /= tf.norm(x) + 1e-7
    for _ in range(num_iterations):
        gram = tf.matmul(x, x, transpose_b=True)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return tf.transpose(x) if is_tall else x


OPTIMIZERS = {"adam": AveragedAdam, "muon": AveragedMuon}
