"""Test error with few labels of MNIST over several splits: M2 and M1+M2 beside classifiers on pixels and on codes.

    python benchmarks/few_labels.py CHECKPOINT --data_dir DIR [--num_labels 100] [--splits 10] [--models NAME ...]

CHECKPOINT is a VAE trained on MNIST without labels; its posterior means are the codes, and M1+M2 is built on it. Split
S has the labels that `--num_labels N --label_seed S` leaves. No label of the test set, and no other label of the
training set, is used for anything but these errors. "Labels alone" is the classifier of M2, trained on the labelled
digits, changed as by `--augmentation erase`. "Propagation" is label spreading among the codes of all training digits
and the test digits (Zhou et al. 2004). Each model is one command, whose seconds are printed; its pixels are
grey or binary as in CHECKPOINT. Those of the classifiers on pixels are grey.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from data import load_dataset
from parts.augmentation import transformed_and_erased
from parts.catalogue import NETWORKS as ENTRIES
from parts.networks import NETWORKS, Classifier
from storage.checkpoints import read_header
from training.optimizers import AveragedAdam
from vae import load

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "assignment.py"
STEPS, BATCH = 1000, 32  # of the classifier on labels alone
M1M2 = "--model", "m1m2", "--features", "CHECKPOINT"
M2_STANDARD = "--model", "m2", "--prior", "standard"
AFFINE = "--augmentation", "affine"
MODELS = {
    "m2": ("--model", "m2"),
    "m1m2": M1M2,
    "m2_adversarial": ("--model", "m2", "--classifier", "mlp", "--augmentation", "adversarial"),
    "m2_mlp_alone": ("--model", "m2", "--classifier", "mlp", "--consistency", "0"),
    "m2_alone": ("--model", "m2", "--consistency", "0"),
    "m2_standard_alone": (*M2_STANDARD, "--consistency", "0"),
    "m2_shift": (*M2_STANDARD, "--augmentation", "shift"),
    "m2_affine": ("--model", "m2", *AFFINE),
    "m2_standard": (*M2_STANDARD, *AFFINE),
    "m2_standard_15": (*M2_STANDARD, *AFFINE, "--num_epochs", "15"),
    "m1m2_alone": (*M1M2, "--consistency", "0"),
    "m1m2_conv": (*M1M2, "--classifier", "conv"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--num_labels", type=int, nargs="+", default=[20, 50, 100, 1000])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first_split", type=int, default=0)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=["m2", "m1m2"])
    parser.add_argument("--without_baselines", action="store_true")
    options = parser.parse_args()
    dataset, codes = load_dataset("mnist", options.data_dir, offline=True), None
    if not options.without_baselines:
        vae = load(options.checkpoint)
        codes = StandardScaler().fit(vae.encode(dataset.train.x)[0])
        codes = [codes.transform(vae.encode(part.x)[0]) for part in (dataset.train, dataset.test)]
    for num_labels in options.num_labels:
        errors = {}
        for split in range(options.first_split, options.first_split + options.splits):
            hidden, seconds = dataset.hide_labels(num_labels, split), {}
            found = {} if options.without_baselines else baselines(hidden, codes)
            for name in options.models:
                found[name], seconds[name] = run(name, num_labels, split, options)
            for name, error in found.items():
                errors.setdefault(name, []).append(error)
            shown = ", ".join(
                f"{name} {100 * error:.2f}" + (f" ({seconds[name]:.0f} s)" if name in seconds else "")
                for name, error in found.items()
            )
            print(f"{num_labels} labels, split {split}: {shown} %", flush=True)
        print(f"{num_labels} labels, {options.splits} splits: mean and standard deviation of the test error, %")
        for name, values in errors.items():
            deviation = np.std(values, ddof=1 if len(values) > 1 else 0)
            print(f"  {name:32s}{100 * np.mean(values):6.2f} ± {100 * deviation:.2f}")


def run(name: str, num_labels: int, split: int, options: argparse.Namespace) -> tuple[float, float]:
    """The error of a model and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [options.checkpoint if flag == "CHECKPOINT" else flag for flag in MODELS[name]]
        flags += ["--num_labels", num_labels, "--label_seed", split, "--seed", split, "--run_name", "few"]
        flags += ["--binarize", read_header(options.checkpoint)["config"]["binarize"], "--data_dir", options.data_dir]
        flags += ["--checkpoint_dir", f"{folder}/checkpoints", "--output_dir", f"{folder}/outputs"]
        started = time.perf_counter()
        done = subprocess.run([sys.executable, SCRIPT, *map(str, flags)], capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stderr)
        (metrics,) = pathlib.Path(folder, "outputs").glob("*/few/metrics.json")
        return json.loads(metrics.read_text())["test"]["error"], seconds


def baselines(dataset, codes: list[np.ndarray]) -> dict[str, float]:
    """The errors of classifiers that know the labels of this dataset."""
    rows, classes = dataset.labelled, dataset.test.labels.argmax(axis=1)
    known = dataset.train.labels[rows].argmax(axis=1)
    pixels = [part.x.reshape(len(part), -1) / np.float32(255) for part in (dataset.train, dataset.test)]
    errors = {}
    for name, (x, test_x) in {"pixels": pixels, "codes": codes}.items():
        for kind, classifier in (
            ("logistic regression", LogisticRegression(max_iter=1000)),
            ("nearest neighbour", KNeighborsClassifier(1)),
        ):
            predicted = classifier.fit(x[rows], known).predict(test_x)
            errors[f"{kind}, {name}"] = float(np.mean(predicted != classes))
    labels = np.full(len(dataset.train) + len(dataset.test), -1)
    labels[rows] = known
    spread = LabelSpreading(kernel="knn", n_neighbors=10).fit(np.concatenate(codes), labels)
    errors["propagation, codes"] = float(np.mean(spread.transduction_[len(dataset.train) :] != classes))
    logits = labels_alone(dataset)
    errors["labels alone, convolutions"] = float(np.mean(logits.argmax(axis=1) != classes))
    return errors


def labels_alone(dataset) -> np.ndarray:
    """Logits of the test digits by M2's classifier, trained on the labelled ones: (n, classes)."""
    keras.utils.set_random_seed(0)
    encoder = NETWORKS["conv"]["encoder"](ENTRIES["conv"].hidden_dims, 1, "gelu")
    classifier, optimizer = Classifier(encoder, dataset.num_classes), AveragedAdam(2e-3)
    classifier(tf.zeros((1, *dataset.data_shape)))
    x = tf.constant(dataset.train.x[dataset.labelled] / np.float32(255))
    labels = tf.constant(dataset.train.labels[dataset.labelled], tf.float32)

    @tf.function(autograph=False)
    def step(number):
        rows = tf.random.stateless_uniform((BATCH,), [number, 0], 0, len(x), tf.int32)
        with tf.GradientTape() as tape:
            logits = classifier(transformed_and_erased(tf.gather(x, rows), tf.stack([number, 1])))
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.gather(labels, rows), logits))
        weights = classifier.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)

    optimizer.build(classifier.trainable_variables)
    for number in range(STEPS):
        step(tf.constant(number))
    optimizer.exchange_weights()
    blocks = np.array_split(dataset.test.x / np.float32(255), 20)
    return np.concatenate([classifier(tf.constant(block)) for block in blocks])


if __name__ == "__main__":
    main()
