"""Images to bits and back: exactly, at the price of the bound, and refused where a file is damaged."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import KINDS, P_Y, build, class_probs, images

import vae
from coding import bits_back, files, lossy
from coding.exact import CodingError
from coding.model import LosslessModel, LossyModel
from coding.stack import FIRST_WORDS, Stack, first_words


@pytest.fixture(scope="module")
def coders():
    models = {kind: build(kind) for kind in KINDS}
    return {kind: (model, LosslessModel(model, class_probs(model))) for kind, model in models.items()}


def same(decoded, x, classes):
    np.testing.assert_array_equal(decoded[0], x)
    assert decoded[1] is None if classes is None else decoded[1].tolist() == list(classes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", [0, 1, 2, 37])
def test_images_return_bit_for_bit(coders, kind, num):
    model, coder = coders[kind]
    x, classes = images(model, num, seed=num)
    same(bits_back.decompress(coder, bits_back.compress(coder, x, classes)), x, classes)


@given(num=st.integers(0, 5), seed=st.integers(0, 99), extreme=st.sampled_from([None, 0, 1]))
@settings(max_examples=20, deadline=None)
def test_any_images_return(coders, num, seed, extreme):
    for kind in ("vae", "vlae levels"):
        model, coder = coders[kind]
        x, classes = images(model, num, seed)
        if extreme is not None:
            x[:] = extreme * (coder.pixels.num_levels - 1)
        same(bits_back.decompress(coder, bits_back.compress(coder, x, classes)), x, classes)


def test_the_code_has_the_length_of_the_bound(coders):
    """Of images that the models draw: -ELBO - log p(y), and of bits in the beginning no more than some words."""
    for kind in ("vae", "cvae", "vlae"):
        model, coder = coders[kind]
        num = 600
        classes = np.random.default_rng(0).choice(3, num, p=P_Y) if model.is_conditional else None
        stack, parts = Stack(np.random.default_rng(1).integers(1, 2**32, 30_000, dtype=np.uint32)), []
        for rows in np.split(np.arange(num), 6):
            labels = None if classes is None else classes[rows]
            numbers = coder.prior.pop(stack, 100, labels)
            shape = (100, *coder.data_shape)
            parts.append(coder.likelihood.pop(stack, shape, coder.decoder_output(numbers, labels)))
        x = np.concatenate(parts)
        coded = bits_back.compress(coder, x, classes)
        one_hot = tf.zeros((num, 0)) if classes is None else tf.one_hot(classes, 3)
        terms = [
            model.terms(tf.constant(x / np.float32(coder.pixels.num_levels - 1)), one_hot, tf.constant([0, seed]))
            for seed in range(20)
        ]
        nats = np.mean([distortion + tf.reduce_sum(rates, axis=1) for distortion, rates in terms])
        if classes is not None:
            nats -= np.log(P_Y)[classes].mean()
        bits = 32 * len(coded.words)
        assert bits == pytest.approx(num * nats / np.log(2) + 128, rel=0.02, abs=64)
        assert FIRST_WORDS - coded.num_untouched < 10


def test_parts_are_appended_and_all_return(coders):
    model, coder = coders["vlae"]
    (x, classes), (more_x, more_classes) = images(model, 30, 0), images(model, 9, 1)
    first = bits_back.compress(coder, x, classes)
    both = bits_back.compress(coder, more_x, more_classes, earlier=first)
    assert both.counts == (30, 9)
    all_classes = np.concatenate([classes, more_classes])
    same(bits_back.decompress(coder, both), np.concatenate([x, more_x]), all_classes)
    # Little more than all at once: another checksum.
    at_once = bits_back.compress(coder, np.concatenate([x, more_x]), all_classes)
    assert 32 * (len(both.words) - len(at_once.words)) < 128 + 96


@pytest.mark.parametrize("latent_size", [1, 64, 400])
def test_codes_of_many_latents_cost_known_words_once(latent_size):
    """Only the first image has no bits before it. The later ones wait until there are enough."""
    built = vae.build_model("vae", data_shape=(4, 4, 1), latent_size=latent_size, hidden_dims=(6,))
    coder, x = LosslessModel(built), np.zeros((150, 4, 4, 1), np.uint8)
    coded = bits_back.compress(coder, x)
    same(bits_back.decompress(coder, coded), x, None)
    bits_of_one = 11 * latent_size  # an untrained posterior is as wide as the prior, 2^8 steps of the grid
    assert 32 * (FIRST_WORDS - coded.num_untouched) < max(0, bits_of_one - 128) + 128


def test_groups_of_large_images_are_small():
    built = vae.build_model("vae", data_shape=(120, 100, 1), latent_size=2, hidden_dims=(4,))
    sizes = []
    x = np.random.default_rng(0).integers(0, 2, (40, 120, 100, 1), dtype=np.uint8)
    coder = LosslessModel(built)
    coded = bits_back.compress(coder, x, progress=sizes.append)
    assert (sizes[0], max(sizes), sum(sizes)) == (1, 200 * 28 * 28 // 12_000, 40)
    same(bits_back.decompress(coder, coded), x, None)


def test_files_round_trip(coders, tmp_path):
    model, coder = coders["cvae"]
    x, classes = images(model, 5)
    coded = bits_back.compress(coder, x, classes, model_name="cvae/größen")
    num_bytes = files.write(tmp_path / "a.vz", coded)
    assert num_bytes == (tmp_path / "a.vz").stat().st_size < 4 * len(coded.words) + 70
    read = files.read(tmp_path / "a.vz")
    np.testing.assert_array_equal(read.words, coded.words)
    fields = [field.name for field in dataclasses.fields(read) if field.name not in ("words", "steps")]
    assert [getattr(read, name) for name in fields] == [getattr(coded, name) for name in fields]
    same(bits_back.decompress(coder, read), x, classes)


def test_every_flipped_byte_and_every_cut_is_refused(coders, tmp_path):
    model, coder = coders["vae"]
    path = tmp_path / "a.vz"
    files.write(path, bits_back.compress(coder, *images(model, 9), model_name="vae/a"))
    content, refused = path.read_bytes(), r"damaged|is not a file of --compress"
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(CodingError, match=refused):
            files.read(path)
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(CodingError, match=refused):
            files.read(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(CodingError, match="damaged"):
        files.read(path)
    with pytest.raises(CodingError, match=r"cannot read .*nothing"):
        files.read(tmp_path / "nothing.vz")


def test_wrong_bits_never_give_wrong_images(coders):
    """Also where the checksum of the file was made to agree."""
    model, coder = coders["vlae"]
    coded = bits_back.compress(coder, *images(model, 9))
    rng = np.random.default_rng(0)
    for _ in range(40):
        words = coded.words.copy()
        words[rng.integers(len(words))] ^= np.uint32(1 << rng.integers(31))
        with pytest.raises(CodingError):
            bits_back.decompress(coder, dataclasses.replace(coded, words=words))
    for changes in (
        {"counts": (8,)},
        {"counts": (10,)},
        {"counts": (4, 5)},
        {"num_untouched": coded.num_untouched - 1},
    ):
        with pytest.raises(CodingError):
            bits_back.decompress(coder, dataclasses.replace(coded, **changes))


def test_contents_that_contradict_one_another_are_refused(coders, tmp_path):
    """Files made by hand, whose checksum agrees."""
    model, coder = coders["vae"]
    lossless = bits_back.compress(coder, *images(model, 3))
    lossy_one = lossy.compress_codes(LossyModel(model), images(model, 3)[0])
    changed = [
        dataclasses.replace(lossless, **change)
        for change in ({"kind": 1}, {"kind": 7}, {"counts": ()}, {"steps": np.array([1])}, {"words": np.zeros(0)})
    ]
    changed += [
        dataclasses.replace(lossy_one, **change)
        for change in ({"kind": 0}, {"steps": np.zeros(0)}, {"steps": np.zeros(3)}, {"steps": np.full(3, 2**32 - 1)},
                       {"counts": (1, 2)})
    ]  # fmt: skip
    for coded in changed:
        files.write(tmp_path / "a.vz", coded)
        with pytest.raises(CodingError, match="damaged"):
            files.read(tmp_path / "a.vz")
    for change in ({"steps": lossy_one.steps[:2]}, {"counts": (2,)}, {"counts": (2**32 - 1,)}):
        with pytest.raises(CodingError):
            lossy.decompress_codes(LossyModel(model), dataclasses.replace(lossy_one, **change))
    files.write(tmp_path / "a.vz", dataclasses.replace(lossless, model_name="ü" * 200 + "\x1b"))
    assert files.read(tmp_path / "a.vz").model_name == "ü" * 127


def test_models_are_told_apart_by_all_that_they_compute_with():
    model = build("vlae")
    digest = LosslessModel(model, P_Y).digest
    assert LosslessModel(build("vlae"), P_Y).digest == digest
    assert LosslessModel(model, (0.3, 0.4, 0.3)).digest != digest
    weight = model.trainable_variables[3]
    weight.assign(np.nextafter(weight.numpy(), 9))
    assert LosslessModel(model, P_Y).digest != digest


DECODER = """
import pathlib, sys
sys.path[:0] = [{repository!r}, {tests!r}]
import numpy as np
from threadpoolctl import threadpool_limits
from small_models import build, class_probs
from coding import bits_back, files, model
model.BLOCK = 90
built = build({kind!r})
coder = model.LosslessModel(built, class_probs(built))
with threadpool_limits(1):
    x, classes = bits_back.decompress(coder, files.read(pathlib.Path({path!r})))
np.savez({path!r} + ".npz", x=x, classes=classes)
"""


@pytest.mark.slow
def test_another_process_with_other_threads_and_batches_reads_the_file(coders, tmp_path):
    model, coder = coders["vlae"]
    x, classes = images(model, 40)
    path = tmp_path / "a.vz"
    files.write(path, bits_back.compress(coder, x, classes))
    places = {"repository": str(REPOSITORY), "tests": str(REPOSITORY / "tests/coding"), "kind": "vlae"}
    code = DECODER.format(**places, path=str(path))
    xla = {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **xla}, timeout=300)
    decoded = np.load(f"{path}.npz")
    same((decoded["x"], decoded["classes"]), x, classes)


class Reference:
    """The stack as docs/compression.md describes it, in whole numbers of Python."""

    def __init__(self, words):
        self.words = [int(word) for word in words]
        self.state = (self.words.pop() << 32) | self.words.pop()

    def pop(self, probability):
        zero = (2**24 - probability) * (2**24 - 2) // 2**24 + 1
        rest, decision = self.state % 2**24, 0
        mass, below = zero, 0
        if rest >= zero:
            mass, below, decision = 2**24 - zero, zero, 1
        self.state = mass * (self.state >> 24) + rest - below
        if self.state < 2**32 and self.words:
            self.state = (self.state << 32) | self.words.pop()
        return decision


def test_the_stack_is_the_one_that_the_page_describes():
    rng = np.random.default_rng(0)
    probabilities = rng.choice([0, 1, 2**23, 2**24 - 1, 2**24, *rng.integers(0, 2**24, 20)], 3000)
    decided = rng.random(3000) < probabilities / 2**24
    stack = Stack()
    stack.push(decided, probabilities)
    words, num_untouched = stack.changed()
    reference = Reference([*first_words()[:num_untouched], *words])
    assert [reference.pop(int(probability)) for probability in probabilities] == decided.astype(int).tolist()
    assert reference.words == first_words()[:-2].tolist()


def test_a_file_never_changes(coders):
    """The bytes of a format that others may read. A change here makes earlier files unreadable."""
    model, coder = coders["cvae"]
    coded = bits_back.compress(coder, *images(model, 20), model_name="a")
    found = hashlib.sha256(dataclasses.replace(coded, digest=bytes(16)).to_bytes()).hexdigest()
    assert found == "ac49948726764abe4860b886a1639acd87eec01de5b5ecfd45b06718b3768d26"
