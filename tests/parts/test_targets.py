import numpy as np
import pytest
import tensorflow as tf

from parts.targets import balanced, sharpened


def test_targets_are_weighted_so_that_the_classes_are_as_frequent_as_in_the_prior():
    probs, uniform = np.repeat([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.45, 0.55, 0.0]], [59, 19, 20], axis=0), [1 / 3] * 3
    found = balanced(tf.constant(probs), np.array(uniform)).numpy()
    np.testing.assert_array_equal(found[:78], probs[:78])  # who is certain stays so
    frequencies = probs.sum(axis=0) + 1
    assert found[-1, 1] / found[-1, 0] == pytest.approx(0.55 / 0.45 * frequencies[0] / frequencies[1])
    assert np.ptp(found.sum(axis=0)[:2]) < np.ptp(probs.sum(axis=0)[:2])
    np.testing.assert_allclose(balanced(tf.fill((7, 4), 0.25), np.full(4, 0.25)), 0.25)


def test_targets_that_are_as_frequent_as_in_an_unequal_prior_stay_as_they_are():
    probs = np.repeat([[0.98, 0.02], [0.9, 0.1]], [75, 25], axis=0)
    np.testing.assert_allclose(balanced(tf.constant(probs), probs.mean(axis=0)), probs)


def test_a_class_that_a_small_batch_lacks_does_not_gain_much():
    found = balanced(tf.constant([[0.98, 0.01, 0.01], [0.97, 0.02, 0.01]]), np.full(3, 1 / 3)).numpy()
    assert found[:, 0].min() > 0.9


def test_sharpened_targets_have_larger_log_odds():
    probs = np.array([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.99, 0.01, 0.0]], np.float32)
    found = sharpened(tf.constant(probs)).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[:, 0] / found[:, 1], (probs[:, 0] / probs[:, 1]) ** (4 / 3), rtol=1e-5)
