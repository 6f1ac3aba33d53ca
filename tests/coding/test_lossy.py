"""Codes to bits and back: rounded to steps of the posterior's width, and cheap."""

import dataclasses

import numpy as np
import pytest
from small_models import KINDS, build, class_probs, images

from coding import lossy
from coding.exact import ONE, CodingError
from coding.model import LossyModel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [0.3, 1.0, 20.0])
def test_codes_return_within_half_a_step(kind, levels):
    model = build(kind)
    coder = LossyModel(model, class_probs(model))
    x, classes = images(model, 25)
    coded = lossy.compress_codes(coder, x, classes, levels=levels)
    z, decoded_classes = lossy.decompress_codes(coder, coded)
    mean, inverse_std = coder.moments(x, classes)
    steps = coded.steps / ONE
    assert (np.abs(z - mean / ONE) <= steps / 2 + 1e-4).all()
    widths = np.exp(-np.log(inverse_std / ONE).mean(axis=0))
    np.testing.assert_allclose(steps, 2 * widths / levels, atol=1e-3)
    assert decoded_classes is None if classes is None else (decoded_classes == classes).all()


def test_more_levels_cost_more_bits():
    model = build("vae")
    coder = LossyModel(model)
    x, _ = images(model, 200)
    bits = [32 * len(lossy.compress_codes(coder, x, levels=levels).words) / 200 for levels in (1, 2, 4, 8)]
    np.testing.assert_allclose(np.diff(bits), 3, atol=0.5)  # one for each of three latents


def test_no_images_and_one():
    model = build("vlae")
    coder = LossyModel(model, (0.2, 0.5, 0.3))
    for num in (0, 1):
        x, classes = images(model, num)
        z, decoded = lossy.decompress_codes(coder, lossy.compress_codes(coder, x, classes))
        assert z.shape == (num, 3)
        assert decoded.tolist() == classes.tolist()


def test_wrong_bits_are_refused():
    model = build("vlae")
    coder = LossyModel(model, (0.2, 0.5, 0.3))
    coded = lossy.compress_codes(coder, *images(model, 20))
    for place in range(len(coded.words)):
        words = coded.words.copy()
        words[place] ^= np.uint32(2)
        with pytest.raises(CodingError):
            lossy.decompress_codes(coder, dataclasses.replace(coded, words=words))
