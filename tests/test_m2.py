"""M2: a class that is latent where no label is known."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_refused, assert_same_tensors, metrics
from test_vae import SEED, batch, build, make_trainable, snapshot

import vae
from app.records import read_history
from app.run import resolve
from data import DataError, Dataset, load_dataset
from evaluation.classification import calibration, classification, matched_to_classes
from parts import augmentation
from parts.augmentation import shifted
from parts.targets import balanced, sharpened
from sources.batches import steps_per_epoch, training_batches
from sources.examples import Examples
from trained.conditions import Conditioner
from trained.model import TrainedModel
from training.loop import compile_model

M2 = "--model", "m2", "--num_labels", "20", "--classifier", "mlp", "--prior", "gaussian"


def pair(**kwargs):
    """An M2, and a CVAE with the same weights."""
    m2, cvae = build("m2", **kwargs), build("cvae", **kwargs)
    for own, other in ((m2.encoder, cvae.encoder), (m2.decoder, cvae.decoder)):
        other.set_weights(own.get_weights())
    return m2, cvae


def random_classifier(m2, x):
    """q(y|x) of its own for every example, neither certain nor uniform."""
    logits = tf.random.stateless_normal((len(x), 3), SEED + 7)
    m2.classifier = type("Fixed", (keras.layers.Layer,), {"call": lambda self, x: logits[: tf.shape(x)[0]]})()
    return tf.nn.softmax(logits).numpy()


# The bound


@pytest.mark.parametrize("prior", ["standard", "gaussian"])
def test_with_labels_the_terms_are_the_cvaes(prior):
    m2, cvae = pair(prior=prior)
    cvae.prior.set_weights(m2.prior.get_weights())
    for own, others in zip(m2.terms(*batch()), cvae.terms(*batch()), strict=True):
        np.testing.assert_array_equal(own, others)


def test_without_labels_the_terms_are_averages_over_the_classes():
    m2, cvae = pair()
    x, _, seed = batch()
    probs = random_classifier(m2, x)
    distortion, latent_rates, class_rate = m2.unlabelled_terms(x, seed)
    of_classes = [cvae.terms(x, tf.one_hot([number] * len(x), 3), seed) for number in range(3)]
    expected = sum(probs[:, number] * of_classes[number][0] for number in range(3))
    np.testing.assert_allclose(distortion, expected, rtol=1e-5)
    expected = sum(probs[:, number, None] * of_classes[number][1] for number in range(3))
    np.testing.assert_allclose(latent_rates, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(class_rate, np.sum(probs * np.log(3 * probs), axis=1), atol=1e-5)


@pytest.mark.parametrize("class_prior", [[1 / 3, 1 / 3, 1 / 3], [0.9, 0.02, 0.08]])
def test_the_bound_without_labels_is_tightest_where_the_classifier_is_the_posterior(class_prior):
    """-U(x) is log sum_y p(y) exp ELBO(x, y) there, and lower for any other q(y|x)."""
    m2, cvae = pair(class_prior=class_prior)
    x, _, seed = batch()
    terms = [cvae.terms(x, tf.one_hot([number] * len(x), 3), seed) for number in range(3)]
    elbos = np.stack([-(distortion + tf.reduce_sum(rates, axis=1)) for distortion, rates in terms], axis=1)
    elbos += np.log(class_prior, dtype=np.float32)  # of x and y together
    best = tf.reduce_logsumexp(elbos, axis=1)

    def bound(logits):
        m2.classifier = type("Fixed", (keras.layers.Layer,), {"call": lambda self, x: logits})()
        distortion, latent_rates, class_rate = m2.unlabelled_terms(x, seed)
        return -(distortion + tf.reduce_sum(latent_rates, axis=1) + class_rate)

    np.testing.assert_allclose(bound(tf.constant(elbos)), best, rtol=1e-5)
    assert np.all(bound(tf.constant(elbos) + tf.random.stateless_normal(elbos.shape, SEED)) < best)


def test_the_loss_of_a_mixed_batch_is_that_of_its_parts():
    m2, _ = pair()
    m2.classification_weight = 0.7
    x, labels, seed = batch(num=8)
    loss, distortion, rates = m2.loss_and_terms(x, labels[:3], seed)
    seed_of_labelled = tf.random.experimental.stateless_fold_in(seed, vae.STREAMS[1])
    known, unknown = m2.terms(x[:3], labels[:3], seed_of_labelled), m2.unlabelled_terms(x[3:], seed)
    expected = sum(float(tf.reduce_sum(part)) for part in (*known, *unknown)) / 8
    np.testing.assert_allclose(np.mean(distortion + tf.reduce_sum(rates, axis=1)), expected, rtol=1e-5)
    expected += 0.7 * float(m2.classification_loss(x[:3], labels[:3]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_bound_of_training_is_that_of_its_examples():
    """Where the label is hidden it contains KL(q(y|x) || p(y)), which beta does not weigh."""
    m2, _ = pair(beta=3.0)
    x, labels, seed = batch(num=8)
    figures = m2.track(*m2.loss_and_terms(x, labels[:0], seed))
    distortion, latent_rates, class_rate = m2.unlabelled_terms(x, seed)
    rates = tf.reduce_sum(latent_rates, axis=1)
    assert float(figures["elbo"]) == pytest.approx(-float(np.mean(distortion + rates + class_rate)), rel=1e-5)
    assert float(figures["loss"]) == pytest.approx(float(np.mean(distortion + 3 * rates + class_rate)), rel=1e-5)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (10, 0.0), (15, 0.5), (20, 1.0), (99, 1.0)])
def test_the_sum_over_classes_teaches_the_classifier_after_its_warmup(step, expected):
    m2 = make_trainable(build("m2", classifier_warmup_steps=10))
    m2.optimizer.iterations.assign(step)
    x, _, seed = batch()

    def gradients(scale):
        with tf.GradientTape() as tape:
            terms = m2.unlabelled_terms(x, seed, scale)
            loss = sum(map(tf.reduce_sum, terms))
        return tape.gradient(loss, [m2.classifier.head.kernel, m2.decoder.offset])

    scale = m2.classifier_gradient_scale()
    assert float(scale) == pytest.approx(expected)
    scaled, whole = gradients(scale), gradients(None)
    np.testing.assert_allclose(scaled[0], expected * whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaled[1], whole[1], rtol=1e-4, atol=1e-5)


def test_mixed_precision_has_the_same_terms_but_for_rounding():
    x, labels, seed = batch(num=8)
    losses = []
    for mixed in (False, True):
        losses.append(float(build("m2", mixed_precision=mixed).loss_and_terms(x, labels[:3], seed)[0]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_with_all_labels_it_trains_as_a_cvae():
    m2, cvae = pair()
    m2.classification_weight = 0.0
    for model in (m2, cvae):
        make_trainable(model)
        model.train_step(batch())
    shared = len(cvae.trainable_variables)
    assert shared >= 8
    for own, others in zip(snapshot(m2), snapshot(cvae), strict=False):
        np.testing.assert_allclose(own, others, atol=1e-6)


def test_an_example_without_a_label_gets_the_most_probable_class():
    model = build("m2")
    x, labels, _ = (part.numpy() for part in batch())
    probs = random_classifier(model, x)
    labels[0], labels[1:] = np.roll(np.eye(3)[probs[0].argmax()], 1), 0
    conditioner = Conditioner(TrainedModel(model, tuple("abc"), class_probs=[1 / 3] * 3), tuple("abc"), seed=0)
    given = conditioner.condition(x, labels, 0)
    ((_, conditions, _),) = given.batches
    np.testing.assert_array_equal(conditions[0], labels[0])
    np.testing.assert_array_equal(given.chosen_classes, [-1, *probs[1:].argmax(axis=1)])


# Consistency


def test_consistency_teaches_the_classifier_alone_and_follows_the_averages():
    m2 = build("m2", num_classes=3, classifier="mlp")
    compile_model(m2)
    x, _, seed = batch()
    for slot in m2.optimizer.slots:  # the teacher now gives every image class 0
        is_last_bias = slot.weight is m2.classifier.head.bias
        slot.average.assign(tf.one_hot(0, 3) * 50.0 if is_last_bias else tf.zeros_like(slot.average))
    with tf.GradientTape() as tape:
        loss = m2.inconsistency(x, seed)
    expected = -tf.reduce_mean(tf.nn.log_softmax(m2.classifier(shifted(x, seed)))[:, 0])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    gradients = tape.gradient(loss, m2.trainable_variables)
    learning = {id(weight) for weight, gradient in zip(m2.trainable_variables, gradients, strict=True)
                if gradient is not None}  # fmt: skip
    assert learning == {id(weight) for weight in m2.classifier.trainable_variables}


@pytest.mark.parametrize(("model", "shape"), [("m2", (2,)), ("m1m2", (6, 5, 1))])
def test_adversarial_changes_mislead_the_classifier_and_teach_it_alone(model, shape, monkeypatch):
    m2 = build(model, data_shape=shape, classifier="mlp", augmentation="adversarial", consistency=1.0, prior="gaussian",
               likelihood="gaussian")  # fmt: skip
    compile_model(m2)
    for slot in m2.optimizer.slots:  # they have no part in it
        slot.average.assign(tf.ones_like(slot.average))
    x, labels, seed = batch(40, shape)
    seen = []
    monkeypatch.setattr(vae, "adversarial", lambda *args: seen.append(augmentation.adversarial(*args)) or seen[-1])
    with tf.GradientTape() as tape:
        m2.loss_and_terms(x, labels[:10], seed)
        loss = m2.inconsistency(x[10:], seed)
    targets = sharpened(balanced(m2.classify(x[10:]), m2.class_prior))
    assert all(len(changed) == 30 for changed in seen), "the labelled ones stay as they are"
    change = seen[-1] - x[10:]
    for number in range(5):
        noise = augmentation.of_unit_length(tf.random.stateless_normal(change.shape, SEED + number))
        other = x[10:] + noise * tf.norm(change[0])
        assert float(loss) > float(m2.classification_loss(other, targets))
    gradients = tape.gradient(loss, m2.trainable_variables)
    learning = {id(weight) for weight, gradient in zip(m2.trainable_variables, gradients, strict=True)
                if gradient is not None}  # fmt: skip
    assert learning == {id(weight) for weight in m2.classifier.trainable_variables}


# Hidden labels


def dataset(num=60, num_classes=3):
    labels = np.eye(num_classes, dtype=np.uint8)[np.arange(num) % num_classes]
    x = np.arange(num, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    part = Examples(x, labels)
    return Dataset("numbers", "here", part, part, tuple("abc"[:num_classes]))


@pytest.mark.parametrize("num", [3, 7, 30, 60, 0])
def test_hidden_labels_leave_as_many_as_asked_for_of_every_class(num):
    hidden, whole = dataset().hide_labels(num, seed=1), dataset()
    kept = hidden.train.labels.any(axis=1)
    assert kept.sum() == num
    assert np.ptp(hidden.train.labels.sum(axis=0)) <= 1
    np.testing.assert_array_equal(hidden.train.labels[kept], whole.train.labels[kept])
    np.testing.assert_array_equal(hidden.test.labels, whole.test.labels)
    assert hidden.is_partly_labelled == (num < 60)
    assert not hidden.has_several_labels()
    np.testing.assert_allclose(hidden.class_probs().sum(), 1)


def test_the_seed_chooses_which_labels_are_known():
    first, again, other = (set(dataset().hide_labels(9, seed).labelled) for seed in (1, 1, 2))
    assert first == again != other


def test_a_class_with_few_labels_leaves_its_share_to_the_others():
    few = dataset().hide_labels(15, seed=0)
    labels = few.train.labels.copy()
    labels[np.flatnonzero(labels[:, 0])[1:]] = 0
    part = Examples(few.train.x, labels)
    kept = Dataset("few", "here", part, dataset().test, tuple("abc"), is_partly_labelled=True).hide_labels(9, seed=0)
    assert kept.train.labels.sum(axis=0).tolist() == [1, 4, 4]


@pytest.mark.parametrize(
    ("num", "message"), [(61, "only 60 labelled training examples"), (2, "fewer than one for each of 3 classes")]
)
def test_impossible_numbers_of_labels_are_refused(num, message):
    with pytest.raises(DataError, match=message):
        dataset().hide_labels(num, seed=0)


def test_a_hold_out_of_partly_labelled_data_is_labelled():
    held_out = dataset().hide_labels(12, seed=0).hold_out(5)
    assert held_out.test.labels.any(axis=1).all()
    assert len(held_out.test) == 5
    assert len(held_out.train) == 55


@pytest.mark.parametrize("num_labels", [0, 1, 100, 5_000, 59_000, 59_999, 60_000])
def test_an_epoch_never_has_fewer_steps_than_there_are_examples(num_labels):
    known = None if num_labels == 60_000 else num_labels
    assert 600 <= steps_per_epoch(60_000, 100, known) <= 800


def test_a_few_examples_without_label_come_again_in_an_epoch():
    hidden = dataset().hide_labels(58, seed=0)
    batches = training_batches(hidden.train, 12, seed=0, binarize="none", labelled=hidden.labelled)
    rows = [int(row) for x, _, _ in batches(0) for row in np.rint(255 * x[11:, 0, 0, 0])]
    assert len(rows) == 5
    assert {*rows} == {*range(60)} - {*hidden.labelled}


def test_batches_begin_with_labelled_examples_and_an_epoch_has_the_others_once():
    hidden = dataset().hide_labels(9, seed=0)
    batches = training_batches(hidden.train, 12, seed=0, binarize="none", labelled=hidden.labelled)
    known, others = set(hidden.labelled), []
    for x, labels, _ in batches(0):
        rows = np.rint(255 * x[:, 0, 0, 0]).astype(int)
        assert labels.shape == (3, 3)
        assert known.issuperset(rows[:3])
        np.testing.assert_array_equal(labels, hidden.train.labels[rows[:3]])
        others += rows[3:].tolist()
    assert len(others) == len(set(others)) == 45  # of 51, in whole batches
    assert known.isdisjoint(others)
    again = [labels.numpy() for _, labels, _ in batches(0, first=2)]
    np.testing.assert_array_equal(again, [labels.numpy() for _, labels, _ in batches(0)][2:])


# Own data


def test_minus_one_in_an_npz_is_an_example_without_label(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (50, 4, 4), dtype=np.uint8)
    labels = np.where(np.arange(50) < 30, np.arange(50) % 2, -1)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    loaded = load_dataset(str(tmp_path / "own.npz"))
    assert loaded.is_partly_labelled
    assert loaded.class_names == ("0", "1")
    assert loaded.test.labels.any(axis=1).all()
    assert len(loaded.labelled) + len(loaded.test) == 30
    np.savez(tmp_path / "own.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with pytest.raises(DataError, match="test images without a label"):
        load_dataset(str(tmp_path / "own.npz"))


def test_names_of_classes_and_a_small_test_set_of_an_npz_with_a_split_are_told(tmp_path):
    images, labels = np.zeros((60, 4, 4), np.uint8), np.where(np.arange(60) < 20, np.arange(60) % 2, -1)
    arrays = {"train_images": images, "train_labels": labels, "class_names": np.array(["cat", "dog"])}
    for num in (49, 50):
        np.savez(tmp_path / "own.npz", **arrays, test_images=images[:num], test_labels=np.arange(num) % 2)
        loaded = load_dataset(str(tmp_path / "own.npz"))
        assert loaded.class_names == loaded.names_in_model == ("cat", "dog")
        assert any("only 49 images for testing" in note for note in loaded.notes) == (num == 49)
        assert loaded.hide_labels(0, seed=0).names_in_model == ("cluster 0", "cluster 1")
    del arrays["class_names"]
    np.savez(tmp_path / "own.npz", **arrays, labels=labels, test_images=images[:50], test_labels=np.arange(50) % 2)
    assert load_dataset(str(tmp_path / "own.npz")).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "outcome"), [([-1] * 9, "no classes"), ([0, 1] + [-1] * 7, "no class with two labelled images")]
)
def test_labels_of_which_none_can_be_tested_are_no_labels_or_too_few(tmp_path, labels, outcome):
    np.savez(tmp_path / "own.npz", images=np.zeros((9, 4, 4), np.uint8), labels=np.array(labels))
    if outcome == "no classes":
        assert load_dataset(str(tmp_path / "own.npz")).num_classes == 0
        return
    with pytest.raises(DataError, match=outcome):
        load_dataset(str(tmp_path / "own.npz"))


def test_a_folder_called_unlabelled_is_no_class(tmp_path):
    from PIL import Image

    for name in ("cat", "dog", "Unlabelled"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.fromarray(np.full((5, 5), 40 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    loaded = load_dataset(str(tmp_path))
    assert loaded.class_names == ("cat", "dog")
    assert loaded.train.labels.any(axis=1).sum() == len(loaded.train) - 4


# Figures


def test_the_figures_of_classification():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.95, 0.05]])
    figures = classification(probs, np.array([0, 1, 1, 0]))
    assert figures["error"] == 0.25
    assert figures["error_standard_error"] == pytest.approx(0.25)
    assert figures["confusion"] == [[2, 0], [1, 1]]
    assert figures["largest_share"] == 0.75
    # Four bins of one, but 0.95 is in the next one to 0.9: gaps 0.1, 0.8, 0.3, 0.05.
    assert figures["expected_calibration_error"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.05) / 4)


@pytest.mark.parametrize(("given", "collapsed"), [([0] * 20, True), ([0] * 19 + [1], False), ([0, 1] * 10, False)])
def test_only_more_examples_of_a_class_than_there_are_show_a_collapse(given, collapsed):
    assert classification(np.eye(2)[given], np.array([0] * 19 + [1]))["collapsed"] == collapsed


def test_a_calibrated_classifier_has_no_calibration_error():
    rng = np.random.default_rng(0)
    first = rng.uniform(size=200_000)
    classes = (rng.uniform(size=first.size) > first).astype(int)
    probs = np.stack([first, 1 - first], axis=1)
    assert classification(probs, classes)["expected_calibration_error"] < 0.005
    assert sum(num for num, _, _ in calibration(probs, classes)) == first.size


def test_clusters_are_matched_to_the_classes_that_most_of_their_examples_have():
    classes = np.array([0, 0, 1, 1, 2, 2])
    clusters = np.eye(3)[[2, 2, 0, 0, 1, 0]]
    assert (matched_to_classes(clusters, classes).argmax(axis=1) == classes).sum() == 5


# The script


@pytest.mark.parametrize("flags", [M2, pytest.param(("--model", "m2", "--num_labels", "20"), marks=pytest.mark.slow)])
def test_a_run_with_few_labels_has_an_error_and_its_pictures(script, capsys, drawn, idx_folder, flags):
    assert script(*flags) == 0
    printed, figures = capsys.readouterr().out, metrics("outputs/m2/mnist")
    assert "labels of 20 training examples" in printed
    assert "trained with 20 labels" in printed
    test, trained = figures["test"], vae.load("model_ckpts/m2/mnist/m2.weights.h5")
    loaded = load_dataset("mnist", str(idx_folder))
    given, right = trained.classify(loaded.test.x).argmax(axis=1), loaded.test.labels.argmax(axis=1)
    assert test["error"] == pytest.approx(np.mean(given != right))
    history = read_history(pathlib.Path("outputs/m2/mnist"))
    assert float(history[-1]["test_error"]) == pytest.approx(test["error"])
    assert f"error {100 * test['error']:.2f}% |" in printed
    assert "error, % of examples" in pathlib.Path("outputs/m2/mnist/report.html").read_text("utf-8")
    assert np.sum(test["confusion"]) == 60
    assert trained.class_probs.tolist() == [0.1] * 10
    assert figures["num_labels"] == 20
    assert {"confusion.png", "calibration.png", "most_wrong.png", "style_transfer.png"} <= {*drawn}
    assert script("--compare", "m2/mnist", only=True) == 0
    columns, row = capsys.readouterr().out.splitlines()[:2]
    assert "error, %" in columns
    assert f"{100 * test['error']:.2f}" in row.split()


@pytest.mark.slow
def test_with_few_labels_training_resumes_bit_for_bit(script, tmp_path):
    flags = *M2, "--classifier_warmup_epochs", "0.5"
    assert script(*flags) == 0
    whole = tmp_path / "whole.h5"
    (tmp_path / "model_ckpts/m2/mnist/m2.weights.h5").rename(whole)
    assert script(*flags, "--num_epochs", "1") == 0
    assert script("--model", "m2", "--load_weights", "--num_epochs", "2") == 0
    assert_same_tensors(whole, "model_ckpts/m2/mnist/m2.weights.h5")


@pytest.mark.slow
def test_evaluation_needs_the_checkpoint_alone(script, start):
    start(*M2)
    before = metrics("outputs/m2/mnist")["test"]
    assert script("--evaluate", "--checkpoint", "model_ckpts/m2/mnist/m2.weights.h5", "--num_importance_samples", "2",
                  only=True) == 0  # fmt: skip
    after = metrics("outputs/m2/mnist")["test"]
    assert after["error"] == before["error"]
    assert after["elbo_of_unlabelled"] == pytest.approx(before["elbo_of_unlabelled"], rel=1e-6)
    assert after["log_p_x"] > after["elbo_of_unlabelled"]


@pytest.mark.slow
def test_without_labels_the_classes_are_clusters(script, capsys):
    assert script("--model", "m2", "--num_labels", "0", "--classifier", "mlp") == 0
    printed, figures = capsys.readouterr().out, metrics("outputs/m2/mnist")["test"]
    assert "NOTE: no label is known" in printed
    assert "classes matched to clusters" in printed
    assert "the cluster that was matched" in pathlib.Path("outputs/m2/mnist/report.html").read_text("utf-8")
    assert "test_error" not in read_history(pathlib.Path("outputs/m2/mnist"))[-1]  # clusters have no names
    confusion = np.array(figures["confusion"])
    best = max(np.trace(confusion[:, np.roll(range(10), shift)]) for shift in range(10))
    assert np.trace(confusion) >= best
    trained = vae.load("model_ckpts/m2/mnist/m2.weights.h5")
    assert trained.class_names == tuple(f"cluster {number}" for number in range(10))  # no class of the data by name


def test_a_classifier_that_gives_all_the_same_class_is_told(script, capsys, monkeypatch):
    from evaluation.measurement import Measurement

    monkeypatch.setattr(Measurement, "class_probs_of_held_out", lambda self: np.eye(10)[[4] * len(self.held_out)])
    assert script(*M2) == 0
    assert "WARNING: q(y|x) has collapsed: it gives 100% of the examples the class 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--model", "m2", "--num_labels", "201"), 1, "mnist has only 200 labelled training examples"),
        (("--model", "m2", "--label_seed", "5"), 1, "--label_seed goes with --num_labels"),
        (("--model", "m2", "--num_labels", "5"), 1, "fewer than one for each of 10 classes"),
        (("--num_labels", "20"), 2, "--num_labels needs --model m2 or m1m2"),
        (("--model", "cvae", "--num_labels", "20"), 2, "--num_labels needs --model m2"),
        (("--model", "m2", "--num_labels", "20", "--batch_size", "1"), 1, "--batch_size 1"),
        (
            ("--model", "m2", "--dataset", "moons", "--augmentation", "affine"),
            1,
            "--augmentation affine changes images",
        ),
        (("--model", "m2", "--consistency", "2"), 1, "--consistency needs examples without a label"),
        ((*M2, "--strategy", "mirrored", "--num_replicas", "2"), 1, "one device"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(script, capsys, flags, code, message):
    assert_refused(script, capsys, flags, code, message)


@pytest.mark.slow
def test_data_with_several_labels_or_models_that_need_all_are_refused(script, capsys, tmp_path):
    images, rng = np.zeros((40, 4, 4), np.uint8), np.random.default_rng(0)
    np.savez("several.npz", images=images, labels=rng.integers(0, 2, (40, 3)))
    assert script("--model", "m2", "--dataset", "several.npz") == 1
    assert "has several labels" in capsys.readouterr().err
    np.savez("partly.npz", images=images, labels=np.where(np.arange(40) < 20, np.arange(40) % 2, -1))
    assert script("--model", "cvae", "--dataset", "partly.npz") == 1
    assert "use --model m2" in capsys.readouterr().err
    assert script("--model", "m2", "--dataset", "partly.npz", *M2[-4:], "--num_epochs", "1") == 0


def test_the_prior_of_the_classes_is_that_of_the_labels_that_came_with_the_data():
    labels = np.repeat(np.eye(2, dtype=np.uint8)[[0, 1]], [20, 5], axis=0)
    labels = np.concatenate([labels, np.zeros((35, 2), np.uint8)])
    own = Dataset("own", "here", Examples(np.zeros((60, 4, 4, 1), np.uint8), labels), dataset(num_classes=2).test,
                  tuple("ab"), is_partly_labelled=True)  # fmt: skip
    given = {"model": "m2", "classifier": "mlp"}
    model = vae.build_model(**resolve(given, None, None, own).model_arguments)
    np.testing.assert_allclose(model.class_probs(own.class_probs()), [21 / 27, 6 / 27])  # each counted once more
    chosen = resolve(given | {"num_labels": 10}, None, None, own.hide_labels(10, seed=0))
    assert vae.build_model(**chosen.model_arguments).class_probs(None).tolist() == [0.5, 0.5]


def test_a_model_in_python_classifies(start):
    start(*M2)
    trained, x = vae.load("model_ckpts/m2/mnist/m2.weights.h5"), np.random.default_rng(0).random((3, 12, 12, 1))
    np.testing.assert_allclose(trained.classify(x), trained.model.classify(tf.constant(x, tf.float32)), rtol=1e-4)
    start()
    with pytest.raises(ValueError, match="this vae has no"):
        vae.load("model_ckpts/vae/mnist/vae.weights.h5").classify(x)
