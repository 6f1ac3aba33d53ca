import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from parts import noise


@pytest.mark.parametrize("shape", [(128, 15), (7, 3), (1, 1)])
def test_noise_is_the_same_with_and_without_xla(shape):
    """So that one device, compiled, draws what several do, which are not."""
    seed = tf.constant([3, 4])
    compiled = tf.function(noise.normal, jit_compile=True)(tf.constant(shape), seed)
    np.testing.assert_allclose(compiled, noise.normal(tf.constant(shape), seed), atol=1e-5)
    np.testing.assert_allclose(compiled, tf.random.stateless_normal(shape, seed, alg="philox"), atol=1e-5)


def test_noise_is_standard_normal_and_another_for_another_seed():
    draws = [noise.normal(tf.constant((4000, 5)), tf.constant([0, number])).numpy() for number in (1, 2)]
    assert scipy.stats.kstest(np.ravel(draws), "norm").pvalue > 0.01
    correlations = np.corrcoef(np.concatenate(draws, axis=1), rowvar=False) - np.eye(10)
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
