"""Adam and Muon that also keep a running average of the weights."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from parts.replicas import sum_over_replicas


@dataclasses.dataclass(frozen=True)
class Slots:
    """A weight and the optimizer's variables for it. (Keras would take weights in a plain list for its own.)"""

    weight: keras.Variable
    momentum: keras.Variable
    velocity: keras.Variable
    average: keras.Variable


class AveragedAdam(keras.optimizers.Optimizer):
    """Adam (Kingma and Ba 2015) that also keeps a running average of the weights (Polyak and Juditsky 1992).

    The average is as good as weights at the end of a decaying learning rate, but the end need not be known: a run of 4
    epochs is the first part of a run of 10. After t steps its momentum is min(`averaging`, t / (t + 9)).
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        epsilon: float = 1e-7,
        averaging: float = 0.997,
        name: str = "adam",
        **kwargs,
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.averaging = averaging

    def build(self, variables):
        """Make the slots. Checkpoints store them in this order."""
        if self.built:
            return
        super().build(variables)
        names = ("momentum", "velocity")
        moments = [[self.add_variable_from_reference(weight, name) for name in names] for weight in variables]
        averages = [self.add_variable_from_reference(weight, "average") for weight in variables]
        self.slots = [
            Slots(weight, *pair, average) for weight, pair, average in zip(variables, moments, averages, strict=True)
        ]
        self.start_averages()

    def start_averages(self) -> None:
        """Have the averages start at the weights, also after these were loaded alone."""
        for slot in self.slots:
            slot.average.assign(slot.weight)

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Do one step. As in Keras, the gradients of the replicas are summed."""
        if not self.built:
            self.build(trainable_variables)
        if trainable_variables is not None and any(
            slot.weight is not variable for slot, variable in zip(self.slots, trainable_variables, strict=True)
        ):
            raise ValueError("the optimizer was built with other variables")
        gradients = sum_over_replicas(grads)
        if self.global_clipnorm:
            gradients = clipped(gradients, self.global_clipnorm)
        updates = [
            (slot.weight.value, (gradient, slot.momentum.value, slot.velocity.value, slot.average.value))
            for slot, gradient in zip(self.slots, gradients, strict=True)
        ]
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync == 1:
            for weight, arguments in updates:
                self.update(weight, *arguments)
        else:
            replicas.merge_call(self.update_on_every_device, args=(updates,))
        self.iterations.assign_add(1)

    def update_on_every_device(self, strategy: tf.distribute.Strategy, updates: Sequence[tuple]) -> None:
        for weight, arguments in updates:
            strategy.extended.update(weight, self.update, args=arguments, group=False)

    def update(self, weight, gradient, momentum, velocity, average) -> None:
        """Update one weight and its average, on one device."""
        self.move(weight, gradient, momentum, velocity, tf.cast(self.learning_rate, weight.dtype))
        step = tf.cast(self.iterations, tf.float32)
        decay = tf.minimum(self.averaging, step / (step + 9.0))
        average.assign(decay * average + (1.0 - decay) * weight)

    def move(self, weight, gradient, momentum, velocity, learning_rate) -> None:
        """Update one weight by Adam's rule."""
        step = tf.cast(self.iterations + 1, weight.dtype)
        beta_1_power, beta_2_power = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        alpha = learning_rate * tf.sqrt(1 - beta_2_power) / (1 - beta_1_power)
        momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        velocity.assign_add((tf.square(gradient) - velocity) * (1 - self.beta_2))
        weight.assign_sub(momentum * alpha / (tf.sqrt(velocity) + self.epsilon))

    def averages_of(self, weights: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """The averages of some of the weights."""
        averages = {id(slot.weight): slot.average.value for slot in self.slots}
        return [averages[id(weight)] for weight in weights]

    def exchange_weights(self) -> None:
        """Exchange the model's weights and their averages, exactly (Keras's SwapEMAWeights rounds)."""
        for slot in self.slots:
            held = tf.identity(slot.weight.value)
            slot.weight.assign(slot.average)
            slot.average.assign(held)


class AveragedMuon(AveragedAdam):
    """Muon for the kernels of dense and convolutional layers (Jordan et al. 2024), AveragedAdam for all else.

    A kernel moves along its orthogonalized momentum, so directions that are rare in the gradients are learned as fast
    as others. The root mean square of the step is fixed (Liu et al. 2025, eq. 4), so one learning rate serves both. At
    step t it is learning_rate / (1 + t / lr_decay_steps), since large steps keep information out of the codes. This
    decay does not depend on the last epoch, so 2 + 2 epochs are the same as 4. The kernels also shrink by that rate
    times `weight_decay` (Loshchilov and Hutter 2019).
    """

    MOMENTUM = 0.95
    ROOT_MEAN_SQUARE = 0.6  # of a kernel's step, in learning rates

    def __init__(
        self,
        learning_rate: float = 2e-3,
        *,
        averaging: float = 0.9995,
        global_clipnorm: float = 200.0,
        lr_decay_steps: int = 2000,
        weight_decay: float = 0.0,
        **kwargs,
    ):
        # Gradients of a VLAE have norms of 15 to 60 on MNIST, and rare large ones.
        super().__init__(
            learning_rate, averaging=averaging, global_clipnorm=global_clipnorm, weight_decay=weight_decay, **kwargs
        )
        self.lr_decay_steps = lr_decay_steps

    def move(self, weight, gradient, momentum, velocity, learning_rate):
        learning_rate = learning_rate / (1.0 + tf.cast(self.iterations, tf.float32) / self.lr_decay_steps)
        if len(weight.shape) not in (2, 4):
            super().move(weight, gradient, momentum, velocity, learning_rate)
            return
        momentum.assign(self.MOMENTUM * momentum + gradient)
        direction = tf.reshape(gradient + self.MOMENTUM * momentum, (-1, weight.shape[-1]))
        scale = self.ROOT_MEAN_SQUARE * math.sqrt(max(direction.shape))
        step = learning_rate * scale * orthogonalized(direction)
        weight.assign_sub(tf.reshape(step, weight.shape) + learning_rate * self.weight_decay * weight)


OPTIMIZERS = {"adam": AveragedAdam, "muon": AveragedMuon}


def clipped(gradients: Sequence[tf.Tensor], largest_norm: float) -> list[tf.Tensor]:
    """The gradients, scaled together to this norm if theirs is larger; not finite if one of them is not."""
    norm = tf.sqrt(tf.reduce_sum(tf.stack([tf.reduce_sum(tf.square(gradient)) for gradient in gradients])))
    scale = largest_norm * tf.minimum(1.0 / norm, 1.0 / largest_norm) + (norm - norm)
    return [gradient * scale for gradient in gradients]


def orthogonalized(matrix: tf.Tensor, num_iterations: int = 5) -> tf.Tensor:
    """The matrix X with singular values brought to about 1, by the Newton-Schulz iteration of Jordan et al. (2024):
    X <- P X with P = 3.4445 I - 4.7750 G + 2.0315 G G and G = X X^T.

    All P are polynomials of the first G, so the iteration runs on G <- P G P, and X is multiplied once, by the product
    of the P. For a long X this is a third of the work.
    """
    x = matrix / (tf.norm(matrix) + 1e-7)
    is_tall = x.shape[0] > x.shape[1]
    gram = tf.matmul(x, x, transpose_a=is_tall, transpose_b=not is_tall)
    product = identity = tf.eye(gram.shape[0])
    for _ in range(num_iterations):
        polynomial = 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    return x @ product if is_tall else product @ x
