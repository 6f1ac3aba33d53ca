"""The figures of a model on held-out data, as metrics.json holds them. Nothing is printed or written."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data import Dataset
from evaluation import probes
from evaluation.classification import classification, matched_to_classes
from evaluation.elbo import elbo_terms, elbos_of_unlabelled
from evaluation.latents import use_of_latents
from evaluation.separation import separation
from sources.batches import evaluation_batches
from sources.examples import Examples
from trained.importance import Batches, ImportanceWeighter, log_likelihoods
from vae import VAE

MOST_PROBED = 10_000  # training examples that a probe learns from
SAMPLES_PER_CLASS = 100


class Measurement:
    """Figures of one model, all on the same held-out examples.

    Args:
        binarize, seed: how the examples are prepared; the noise of all figures.
        max_examples: score this many held-out examples, chosen at random; None for all.

    Attributes:
        terms: the terms of the ELBO of every example, see `elbo_terms`.
    """

    def __init__(self, model: VAE, dataset: Dataset, *, binarize: str, seed: int, max_examples: int | None = None):
        self.model, self.dataset, self.binarize, self.seed = model, dataset, binarize, seed
        self.held_out = dataset.test
        if max_examples and max_examples < len(dataset.test):
            self.held_out = dataset.test.random_choice(max_examples, seed)
        self.batches = evaluation_batches(self.held_out, seed=seed, binarize=binarize)
        self.terms = elbo_terms(model, self.batches)
        self.conditions = {"num_examples": len(self.held_out), "seed": seed}
        self.weighter = ImportanceWeighter(model)
        self.scores = {}  # by number of importance samples
        self.class_probs = model.class_probs(dataset.class_probs()) if model.is_conditional else None

    def bounds(self) -> dict[str, Any]:
        """The ELBO and its terms, in nats per example."""
        figures = {**self.conditions, **mean_and_error("elbo", self.terms["elbo"])}
        figures |= {name: float(self.terms[name].mean()) for name in ("rate", "distortion")}
        if has_bits(self.model, self.binarize):
            figures["bits_per_dim"] = bits_per_dim(figures["elbo"], self.dataset.data_shape)
        return figures

    def latents(self) -> dict[str, Any]:
        """How much the latents are used."""
        return use_of_latents(self.model, self.terms, self.held_out.labels, self.seed) | self.conditions

    def class_probs_of_held_out(self) -> np.ndarray:
        """q(y|x) of every held-out example, (n, classes), of a model that infers labels. If it has seen none, its
        classes are matched to those of the data."""
        probs = np.concatenate([self.model.classify(x) for x, _, _ in self.batches])
        if not self.dataset.hides_all_labels:
            return probs
        return matched_to_classes(probs, self.held_out.labels.argmax(axis=1))

    def classification(self, probs: np.ndarray) -> dict[str, Any]:
        """How well these probabilities tell the classes, and the bound on log p(x) by the sum over classes."""
        figures = classification(probs, self.held_out.labels.argmax(axis=1))
        elbos = elbos_of_unlabelled(self.model, self.batches)
        return figures | mean_and_error("elbo_of_unlabelled", elbos) | {"num_labels": len(self.dataset.labelled)}

    def log_likelihoods(self, num_samples: int) -> dict[str, Any]:
        """Importance-weighted bounds, tighter than the ELBO: on log p(x), and log p(x|y) of a conditional model.

        There is no log p(x) where an example may have several labels: then there is no sum over classes.
        """
        figures = {"num_importance_samples": num_samples}
        for name, log_p in self.held_out_scores(num_samples).items():
            figures |= mean_and_error(name, log_p)
            if has_bits(self.model, self.binarize):
                figures[f"{name}_bits_per_dim"] = bits_per_dim(figures[name], self.dataset.data_shape)
        return figures

    def held_out_scores(self, num_samples: int) -> dict[str, np.ndarray]:
        """The bounds of every held-out example; computed once, since they take long."""
        if num_samples not in self.scores:
            self.scores[num_samples] = self.score(self.batches, num_samples)
        return self.scores[num_samples]

    def score(self, batches: Batches, num_samples: int) -> dict[str, np.ndarray]:
        return log_likelihoods(
            self.weighter, batches, num_samples=num_samples, seed=self.seed, class_probs=self.class_probs
        )

    def probes(self) -> dict[str, Any]:
        """How well classes can be read from posterior means, and, if conditional, from samples.

        Empty unless there are several classes, and every example has one.
        """
        dataset = self.dataset
        if dataset.num_classes < 2 or dataset.has_several_labels():
            return {}
        train = dataset.train[dataset.labelled] if dataset.is_partly_labelled else dataset.train
        train = train.random_choice(MOST_PROBED, self.seed)
        classes, held_out_classes = (part.labels.argmax(axis=1) for part in (train, self.held_out))
        if len(np.unique(classes)) < 2:
            return {}
        train_batches = evaluation_batches(train, seed=self.seed + 1, binarize=self.binarize)
        codes = np.concatenate([self.model.encode(x, labels)[0] for x, labels, _ in train_batches])
        data = codes, classes, self.terms["mean"], held_out_classes
        figures = {
            **self.conditions,
            "num_training_examples": len(train),
            "num_neighbours": probes.NEIGHBOURS,
            "linear_accuracy": probes.linear_probe(*data),
            "neighbours_accuracy": probes.nearest_neighbours(*data),
        }
        if self.model.is_conditional and not dataset.is_points:
            figures |= self.sample_agreement(train_batches, classes, held_out_classes)
        return figures

    def sample_agreement(
        self, train_batches: Batches, classes: np.ndarray, held_out_classes: np.ndarray
    ) -> dict[str, Any]:
        """The share of samples that a linear classifier of real images assigns to the requested class."""
        classifier = probes.train_linear(flat(train_batches), classes)
        requested = np.repeat(np.unique(classes), SAMPLES_PER_CLASS)
        labels = tf.one_hot(requested, self.dataset.num_classes)
        samples = self.model.sample(len(requested), labels, self.seed).numpy()
        agreement = np.mean(classifier.predict(samples.reshape(len(samples), -1)) == requested)
        accuracy = np.mean(classifier.predict(flat(self.batches)) == held_out_classes)
        return {
            "sample_agreement": float(agreement),
            "num_samples": len(requested),
            "classifier_accuracy": float(accuracy),
        }

    def out_of_distribution(
        self, ood_dataset: Dataset, num_samples: int
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """How well the bound on log p(x) separates the held-out examples from those of another dataset.

        Returns:
            the figures, and the scores of both sets by their names.
        """
        outside = ood_dataset.test
        if len(outside) > len(self.held_out):
            outside = outside.random_choice(len(self.held_out), self.seed)
        unlabelled = Examples(outside.x, np.zeros((len(outside), self.dataset.num_classes), np.uint8))
        batches = evaluation_batches(unlabelled, seed=self.seed, binarize=self.binarize)
        scores = self.held_out_scores(num_samples)["log_p_x"]
        scores_outside = self.score(batches, num_samples)["log_p_x"]
        figures = {
            **separation(scores, scores_outside),
            "num_importance_samples": num_samples,
            **self.conditions,
            "num_examples_outside": len(scores_outside),
            "log_p_x": float(np.mean(scores, dtype=np.float64)),
            "log_p_x_outside": float(np.mean(scores_outside, dtype=np.float64)),
        }
        names = f"{self.dataset.name} ({self.dataset.split})", f"{ood_dataset.name} (other)"
        return figures, dict(zip(names, (scores, scores_outside), strict=True))


def has_bits(model: VAE, binarize: str) -> bool:
    """Whether p(x|z) is a probability of the pixels as they are, so that a bound can be given in bits."""
    pixels = model.likelihood.pixels
    return pixels == "levels" or (pixels == "binary" and binarize != "none")


def bits_per_dim(log_p: float | np.ndarray, data_shape: Sequence[int]) -> float | np.ndarray:
    """A bound in nats per example as bits per pixel and channel."""
    return -log_p / (math.prod(data_shape) * math.log(2))


def mean_and_error(name: str, values: Sequence[float]) -> dict[str, float]:
    """The mean over the examples and, of more than one, its standard error."""
    values = np.asarray(values, np.float64)
    figures = {name: float(values.mean())}
    if len(values) > 1:
        figures[f"{name}_standard_error"] = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return figures


def flat(batches: Batches) -> np.ndarray:
    """The data of the batches, one row per example."""
    return np.concatenate([x.numpy().reshape(len(x), -1) for x, _, _ in batches])
