"""What a replica computes within a step: the noise of its rows of the batch, and sums over all replicas.

Of n replicas, number r has the rows r, r + n, r + 2n, ... So the losses are those of one device, up to rounding.
"""

from collections.abc import Sequence

import tensorflow as tf

from parts import noise


def batch_normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """N(0, I) noise for the rows of the batch that this replica has: (rows, size)."""
    replica, num_replicas = place()
    return noise.normal(shape * [num_replicas, 1], seed)[replica::num_replicas]


def batch_mean(values: tf.Tensor) -> tf.Tensor:
    """The mean over the whole batch, of which this replica has some rows: (rows, ...) -> (...)."""
    if place()[1] == 1:
        return tf.reduce_mean(values, axis=0)
    sums = tf.reduce_sum(values, axis=0), tf.cast(tf.shape(values)[0], values.dtype)
    total, num = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
    return total / num


def share_of_replica(loss: tf.Tensor) -> tf.Tensor:
    """The loss that a replica differentiates: the mean over its rows, divided by the number of replicas. All have the
    same number of rows, so the sum of their gradients is the gradient of the whole batch's mean."""
    num_replicas = place()[1]
    return loss if num_replicas == 1 else loss / num_replicas


def sum_over_replicas(values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    if place()[1] == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def place() -> tuple[tf.Tensor | int, int]:
    """The index of this replica and the number of replicas; (0, 1) outside of a step."""
    context = tf.distribute.get_replica_context()
    return (context.replica_id_in_sync_group, context.num_replicas_in_sync) if context else (0, 1)
