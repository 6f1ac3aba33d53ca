import itertools

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from parts import augmentation
from parts.augmentation import adversarial, erased, interpolated, shifted, transformed, transformed_and_erased

SEED = tf.constant([5, 6])


def images(num=1, height=6, width=5, channels=2):
    return tf.random.stateless_uniform((num, height, width, channels), SEED, 0.5, 1.0)


def test_shifts_are_by_at_most_two_pixels():
    image = images()
    changed = shifted(tf.repeat(image, 300, axis=0), SEED).numpy()
    padded = np.pad(image[0], [(2, 2), (2, 2), (0, 0)])
    shifts = [padded[top : top + 6, left : left + 5] for top, left in itertools.product(range(5), repeat=2)]
    found = [next(i for i, shift in enumerate(shifts) if np.array_equal(shift, one)) for one in changed]
    assert len(set(found)) == 25


def test_interpolation_is_that_of_scipy_and_black_outside():
    x, y = (tf.random.stateless_uniform((3, 30), SEED + i, -3.0, 9.0) for i in (1, 2))
    originals = images(3)
    found = interpolated(originals, x, y)
    for number, channel in itertools.product(range(3), range(2)):
        expected = scipy.ndimage.map_coordinates(
            originals[number, :, :, channel].numpy(), [y[number], x[number]], order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(tf.reshape(found[number, :, :, channel], [-1]), expected, atol=1e-5)


def maps(monkeypatch, num, height=28, width=28):
    """The affine maps that `transformed` applies: (num, 2, 3), from (x, y, 1) from the centre to (x, y) from it."""
    seen = []
    monkeypatch.setattr(
        augmentation, "interpolated", lambda images, x, y: seen.extend((x.numpy(), y.numpy())) or images
    )
    transformed(images(num, height, width, 1), SEED)
    y, x = (
        axis.reshape(-1) - (size - 1) / 2
        for axis, size in zip(np.indices((height, width)), (height, width), strict=True)
    )
    places = np.stack([x, y, np.ones_like(x)], axis=1)
    centre = (width - 1) / 2, (height - 1) / 2
    return np.stack([np.linalg.lstsq(places, (part - c).T)[0].T for part, c in zip(seen, centre, strict=True)], axis=1)


def test_affine_changes_are_as_large_as_they_say(monkeypatch):
    """Each map is a turn times a shear times scales; these are found again by a QR decomposition."""
    found = maps(monkeypatch, 2000, height=20, width=28)
    turn, rest = np.linalg.qr(found[:, :, :2])
    signs = np.sign(np.diagonal(rest, axis1=1, axis2=2))
    turn, rest = turn * signs[:, None, :], rest * signs[:, :, None]
    angles = np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))
    draws = {
        15.0: angles,
        0.15: np.log(rest[:, 0, 0]),
        0.15 + 1e-9: np.log(rest[:, 1, 1]),
        0.2: rest[:, 0, 1] / rest[:, 1, 1],
        2.0: found[:, 0, 2],
        2.0 + 1e-9: found[:, 1, 2],
    }
    for most, values in draws.items():
        assert np.abs(values).max() <= most * 1.001
        np.testing.assert_allclose(np.quantile(values, [0.1, 0.5, 0.9]), [-0.8 * most, 0, 0.8 * most], atol=0.1 * most)
    assert np.abs(np.corrcoef(list(draws.values())) - np.eye(6)).max() < 0.1


@pytest.mark.parametrize("change", [shifted, transformed, erased, transformed_and_erased])
def test_changes_are_the_same_under_xla(change):
    compiled = tf.function(change, jit_compile=True)(images(4), SEED)
    np.testing.assert_allclose(compiled, change(images(4), SEED), atol=1e-5)
    assert not np.allclose(change(images(4), SEED), change(images(4), SEED + 1))


def test_a_rectangle_of_a_fifth_to_a_half_of_each_side_is_erased():
    originals = images(2000, height=20, width=28, channels=1)  # nowhere black
    changed = erased(originals, SEED).numpy()
    black = changed[..., 0] == 0
    np.testing.assert_array_equal(changed[~black], originals[~black])
    rows, columns = black.any(axis=2), black.any(axis=1)
    np.testing.assert_array_equal(black, rows[:, :, None] & columns[:, None, :])
    for sides in (rows, columns):
        length = sides.shape[1]
        assert np.all(np.abs(np.diff(sides.astype(int), prepend=0, append=0)).sum(axis=1) == 2)  # in one piece
        assert sides.sum(axis=1).min() == length // 5
        assert sides.sum(axis=1).max() == length // 2
        assert sides.mean(axis=0).min() > 0.01  # everywhere
    assert abs(np.corrcoef(rows.sum(axis=1), columns.sum(axis=1))[0, 1]) < 0.1


@pytest.mark.parametrize(("shape", "share"), [((40, 6, 5, 1), 0.04), ((40, 2), 0.25)])
def test_adversarial_changes_are_equally_long_and_go_where_the_loss_grows_most(shape, share):
    x = tf.random.stateless_normal(shape, SEED)
    slope = tf.random.stateless_normal(shape[1:], SEED + 1)

    def loss_of(examples):  # half of the examples want to go up, the others down
        heights = tf.reduce_sum(tf.reshape(examples * slope, (40, -1)), axis=1)
        return tf.reduce_mean(heights * tf.constant([1.0, -1.0] * 20))

    changes = tf.reshape(adversarial(x, SEED, loss_of) - x, (40, -1)).numpy()
    size = share * np.sqrt(np.var(x, axis=0).sum())
    np.testing.assert_allclose(np.linalg.norm(changes, axis=1), size, rtol=1e-4)
    steepest = tf.reshape(slope / tf.norm(slope), [-1]).numpy()
    np.testing.assert_allclose(changes @ steepest, size * np.array([1, -1] * 20), rtol=1e-4)


def test_adversarial_changes_leave_where_the_loss_is_smallest():
    """Where the gradient at the example itself is 0, it is taken at a random place nearby."""
    x = tf.random.stateless_normal((20, 2), SEED)
    steep = tf.constant([1.0, 100.0])
    changed = adversarial(x, SEED, lambda examples: tf.reduce_sum(steep * tf.square(examples - x)))
    shares = np.abs((changed - x).numpy())
    assert np.median(shares[:, 1] / shares[:, 0]) > 10


def test_examples_that_are_all_alike_are_not_changed():
    x = tf.ones((4, 6, 5, 1))
    np.testing.assert_array_equal(adversarial(x, SEED, tf.reduce_sum), x)
