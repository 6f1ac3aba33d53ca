import numpy as np
import pytest
import tensorflow as tf

from sources import batches
from sources.batches import as_tensor, evaluation_batches, training_batches
from sources.examples import Examples
from sources.readers import aligned_empty


def examples(num=50, side=3):
    """Image i is filled with the value i, its label is one-hot of i modulo 5."""
    images = np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None, None], (num, side, side, 1))
    return Examples(np.ascontiguousarray(images), np.eye(5, dtype=np.uint8)[np.arange(num) % 5])


def epoch_order(batches):
    return [round(float(image[0, 0, 0]) * 255) for x, _, _ in batches for image in x]


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    epochs = training_batches(examples(), 10, seed=0, binarize="none")
    first, second = epoch_order(epochs(0)), epoch_order(epochs(1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))
    again = training_batches(examples(), 10, seed=0, binarize="none")
    assert epoch_order(again(1)) == second
    assert epoch_order(training_batches(examples(), 10, seed=1, binarize="none")(0)) != first


def test_every_training_batch_is_whole_and_images_keep_their_labels():
    whole = list(training_batches(examples(), 16, seed=0, binarize="none")(0))
    assert [x.shape[0] for x, _, _ in whole] == [16, 16, 16]
    for x, labels, _ in whole:
        assert x.dtype == labels.dtype == tf.float32
        values = np.round(x.numpy()[:, 0, 0, 0] * 255).astype(int)
        assert np.array_equal(labels.numpy().argmax(axis=1), values % 5)


def test_no_two_steps_share_their_seed():
    epochs = training_batches(examples(), 10, seed=0, binarize="none")
    seeds = {tuple(seed.numpy()) for epoch in (0, 1) for _, _, seed in epochs(epoch)}
    seeds |= {tuple(seed.numpy()) for _, _, seed in evaluation_batches(examples(), seed=0, binarize="none")}
    assert len(seeds) == 11


def test_evaluation_sees_every_example_once_in_order_and_the_same_at_every_pass(monkeypatch):
    monkeypatch.setattr(batches, "TEST_BATCH_SIZE", 20)
    pipeline = evaluation_batches(examples(), seed=0, binarize="dynamic")
    passes = [[tuple(part.numpy().tobytes() for part in batch) for batch in pipeline] for _ in range(2)]
    assert passes[0] == passes[1]
    assert epoch_order(evaluation_batches(examples(), seed=0, binarize="none")) == list(range(50))


def test_flip_mirrors_about_half_of_the_images_left_to_right_and_does_so_anew_in_every_epoch():
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 6, 3), dtype=np.uint8)
    data = Examples(images, np.eye(200, dtype=np.uint8))
    plain = dict.fromkeys(range(200), 0)
    counts = []
    for epoch in (0, 1, 0):
        mirrored = plain.copy()
        for x, labels, _ in training_batches(data, 50, seed=0, binarize="none", flip=True)(epoch):
            for image, label in zip(np.round(x.numpy() * 255), labels.numpy().argmax(axis=1), strict=True):
                mirrored[label] = int(np.array_equal(image, images[label][:, ::-1]))
                assert mirrored[label] or np.array_equal(image, images[label])
        counts.append(list(mirrored.values()))
    assert all(70 < sum(count) < 130 for count in counts)
    assert counts[0] == counts[2] != counts[1]


def grey(value, num=400):
    return Examples(np.full((num, 5, 5, 1), value, np.uint8), np.zeros((num, 0), np.uint8))


def test_binarize_none_scales_to_the_unit_interval():
    x = next(iter(training_batches(grey(51), 400, seed=0, binarize="none")(0)))[0]
    np.testing.assert_allclose(x, 0.2)


def test_threshold_binarization_cuts_at_one_half():
    for value, expected in ((127, 0), (128, 1)):
        x = next(iter(training_batches(grey(value), 400, seed=0, binarize="threshold")(0)))[0]
        assert np.unique(x).tolist() == [expected]


def test_dynamic_binarization_draws_each_pixel_anew_with_its_grey_value_as_probability():
    epochs = training_batches(grey(64), 400, seed=0, binarize="dynamic")
    first, second = (next(iter(epochs(epoch)))[0].numpy() for epoch in (0, 1))
    assert np.unique(first).tolist() == [0, 1]
    assert first.mean() == pytest.approx(64 / 255, abs=0.02)
    assert not np.array_equal(first, second)
    again = next(iter(training_batches(grey(64), 400, seed=0, binarize="dynamic")(1)))[0]
    assert np.array_equal(again, second)


def test_points_pass_through_as_they_are():
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    pipeline = evaluation_batches(Examples(points, np.zeros((20, 0), np.uint8)), seed=0, binarize="none")
    assert np.array_equal(np.concatenate([x for x, _, _ in pipeline]), points)


def test_a_tensor_shares_aligned_memory_and_copies_other_memory():
    """The first is what keeps a dataset in memory once; the second is what keeps TensorFlow from crashing."""
    aligned = aligned_empty((100, 5))
    aligned[:] = 1
    tensor = as_tensor(aligned)
    aligned[:] = 2
    assert tf.reduce_max(tensor) == tf.reduce_min(tensor) == 2
    for other in (aligned[1:], aligned[:, ::2], np.frombuffer(bytes(500), np.uint8).reshape(100, 5), aligned[:0]):
        tensor = as_tensor(other)
        assert np.array_equal(tensor, other)
        assert tf.reduce_sum(tf.cast(tensor, tf.int32)) == other.sum()
