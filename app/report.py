"""The figures of a run: measured, printed as a table, and gathered for metrics.json."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from app import records
from data import Dataset, Examples
from evaluation import bounds, probes
from sources.batches import evaluation_batches
from vae import VAE

LOG_LIKELIHOODS = {"log_p_x_given_y": "log p(x|y)", "log_p_x": "log p(x)"}
REPORTED = ("data_shape", "latent_size", "likelihood", "binarize", "network", "hidden_dims", "activation", "prior",
            "window", "batch_size", "learning_rate", "beta", "warmup_epochs", "free_bits",
            "mixed_precision")  # fmt: skip
MOST_PROBED = 10_000  # training examples that a probe learns from
SAMPLES_PER_CLASS = 100
COLLAPSED = (
    "WARNING: posterior collapse: no latent is in use, the model ignores its code. Try --warmup_epochs 5, "
    "--free_bits 0.1, or a smaller --beta{}"
)


def describe_run(
    config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any], run_name: str
) -> dict[str, Any]:
    """What the figures of metrics.json are figures of."""
    settings = config | model.arguments  # a model knows also what was left to its network
    return {
        "model": config["model"],
        "dataset": dataset.name,
        "dataset_source": dataset.source,
        "fallback_from": header["fallback_from"],
        "run_name": run_name,
        "epochs": header["epoch"],
        "steps": int(model.optimizer.iterations.numpy()),
        "seed": config["seed"],
        **{name: settings[name] for name in REPORTED},
        "optimizer": model.optimizer.name,
        "parameters": model.count_params(),
        "train_examples": len(dataset.train),
        "train_seconds": round(header["train_seconds"], 2),
        "images_per_second": round(header["train_images"] / header["train_seconds"], 1),
        "versions": records.versions(),
        "machine": records.machine(),
    }


class Report:
    """Figures of one model on the same held-out examples, each printed as it is found.

    Args:
        max_examples: score a random choice of so many held-out examples; None for all.
        binarize, seed: how the examples are prepared; the noise of all figures.
    """

    def __init__(self, model: VAE, dataset: Dataset, *, binarize: str, seed: int, max_examples: int | None = None):
        self.model, self.dataset, self.binarize, self.seed = model, dataset, binarize, seed
        self.held_out = dataset.test
        if max_examples and max_examples < len(dataset.test):
            self.held_out = random_choice(dataset.test, max_examples, seed)
        self.batches = evaluation_batches(self.held_out, seed=seed, binarize=binarize)
        self.terms = bounds.elbo_terms(model, self.batches)
        self.about = {"num_examples": len(self.held_out), "seed": seed}
        self.scores = {}  # by number of importance samples
        self.class_probs = None
        if model.is_conditional and not dataset.has_several_labels():
            self.class_probs = dataset.train.labels.mean(axis=0)

    def bounds(self) -> dict[str, Any]:
        """The ELBO and its terms."""
        conditions = "" if self.dataset.is_points else f"binarize {self.binarize}, "
        print(
            f"{self.dataset.split} figures of {len(self.held_out):,} examples, in nats per example, "
            f"± standard error over examples ({conditions}seed {self.seed})"
        )
        found = {**self.about, **with_error("elbo", self.terms["elbo"])}
        found |= {name: float(self.terms[name].mean()) for name in ("rate", "distortion")}
        bound = "log p(x|y)" if self.model.is_conditional else "log p(x)"
        show("ELBO", found["elbo"], found["elbo_standard_error"], f"bound on {bound}, one posterior sample")
        found |= self.bits_per_dim("elbo", found["elbo"])
        show("rate", found["rate"])
        show("distortion", found["distortion"])
        return found

    def latents(self) -> dict[str, Any]:
        """The use of the latents; a warning if there is none."""
        found = bounds.use_of_latents(self.model, self.terms, self.held_out.labels, self.seed)
        latent_size = len(found["rate_per_latent"])
        show("active units", found["active_units"], note=f"of {latent_size} latents")
        if "aggregate_posterior_kl" in found:
            show("aggregate posterior KL", found["aggregate_posterior_kl"], note="from the prior, by moments")
        if not found["active_units"]:
            has_window = bool(self.model.arguments["window"])
            print(COLLAPSED.format(", or a smaller --window" if has_window else ""))
        return found | self.about

    def log_likelihoods(self, num_samples: int) -> dict[str, Any]:
        """Importance-weighted bounds, tighter than the ELBO."""
        if self.model.is_conditional and self.class_probs is None:
            print("NOTE: no log p(x): with several labels at a time there is no sum over classes")
        found = {"num_importance_samples": num_samples}
        for name, log_p in self.held_out_scores(num_samples).items():
            found |= with_error(name, log_p)
            note = f"bound, K = {num_samples:,} importance samples"
            show(LOG_LIKELIHOODS[name], found[name], found[f"{name}_standard_error"], note)
            found |= self.bits_per_dim(name, found[name])
        return found

    def held_out_scores(self, num_samples: int) -> dict[str, np.ndarray]:
        """Computed once, since they take long."""
        if num_samples not in self.scores:
            self.scores[num_samples] = self.score(self.batches, num_samples)
        return self.scores[num_samples]

    def score(self, batches, num_samples: int) -> dict[str, np.ndarray]:
        return bounds.log_likelihoods(
            self.model, batches, num_samples=num_samples, seed=self.seed, class_probs=self.class_probs
        )

    def bits_per_dim(self, name: str, log_p: float) -> dict[str, float]:
        """The same bound in bits per pixel and channel, where p(x|z) is a probability of discrete pixels."""
        likelihood = self.model.arguments["likelihood"]
        if likelihood != "logistic" and (likelihood != "bernoulli" or self.binarize == "none"):
            return {}
        bits = -log_p / (math.prod(self.dataset.data_shape) * math.log(2))
        show("  in bits/dim", bits, digits=4)
        return {"bits_per_dim" if name == "elbo" else f"{name}_bits_per_dim": bits}

    def probes(self) -> dict[str, Any]:
        """How well classes can be read from posterior means, and, if conditional, from samples."""
        dataset = self.dataset
        if dataset.num_classes < 2 or dataset.has_several_labels():
            return {}
        train = random_choice(dataset.train, MOST_PROBED, self.seed)
        classes, held_out_classes = (part.labels.argmax(axis=1) for part in (train, self.held_out))
        if len(np.unique(classes)) < 2:
            return {}
        train_batches = evaluation_batches(train, seed=self.seed + 1, binarize=self.binarize)
        codes = np.concatenate([self.model.encode(x, labels)[0] for x, labels, _ in train_batches])
        data = codes, classes, self.terms["mean"], held_out_classes
        found = {**self.about, "num_training_examples": len(train), "num_neighbours": probes.NEIGHBOURS}
        found |= {
            "linear_accuracy": probes.linear_probe(*data),
            "neighbours_accuracy": probes.nearest_neighbours(*data),
        }
        known = "; the encoder is given the class" if self.model.is_conditional else ""
        note = f"of classes by posterior means{known}"
        show("linear probe", 100 * found["linear_accuracy"], unit="%", note=note)
        show(f"{probes.NEIGHBOURS} nearest neighbours", 100 * found["neighbours_accuracy"], unit="%", note=note)
        if self.model.is_conditional and not dataset.is_points:
            found |= self.agreement_of_samples(train_batches, classes, held_out_classes)
        return found

    def agreement_of_samples(self, train_batches, classes, held_out_classes) -> dict[str, Any]:
        """The share of samples that a linear classifier of real images takes for the class asked for."""
        num_classes = self.dataset.num_classes
        classifier = probes.train_linear(flat(train_batches), classes)
        asked = np.repeat(np.unique(classes), SAMPLES_PER_CLASS)
        samples = self.model.sample(len(asked), tf.one_hot(asked, num_classes), self.seed).numpy()
        agreement = float(np.mean(classifier.predict(samples.reshape(len(samples), -1)) == asked))
        accuracy = float(np.mean(classifier.predict(flat(self.batches)) == held_out_classes))
        right = f"{100 * accuracy:.1f}% of {len(held_out_classes):,} real ones"
        note = f"of {len(asked):,}, by a linear classifier right in {right}"
        show("samples of their class", 100 * agreement, unit="%", note=note)
        return {"sample_agreement": agreement, "num_samples": len(asked), "classifier_accuracy": accuracy}

    def out_of_distribution(self, other: Dataset, num_samples: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Figures of telling the test set from another one by the bound on log p(x); and both sets' bounds."""
        outside = other.test
        if len(outside) > len(self.held_out):
            outside = random_choice(outside, len(self.held_out), self.seed)
        unlabelled = Examples(outside.x, np.zeros((len(outside), self.dataset.num_classes), np.uint8))
        batches = evaluation_batches(unlabelled, seed=self.seed, binarize=self.binarize)
        inside = self.held_out_scores(num_samples)["log_p_x"]
        others = self.score(batches, num_samples)["log_p_x"]
        found = bounds.separation(inside, others)
        show("AUROC", found["auroc"], digits=4, note=f"of telling {self.dataset.name} from {other.name} by log p(x)")
        show("average precision", found["average_precision"], digits=4)
        found |= {"num_importance_samples": num_samples, **self.about, "num_examples_outside": len(others)}
        found |= {"log_p_x": float(inside.mean()), "log_p_x_outside": float(others.mean())}
        return found, {f"{self.dataset.name} ({self.dataset.split})": inside, f"{other.name} (other)": others}


def show(
    name: str, value: float, error: float | None = None, note: str = "", *, digits: int = 2, unit: str = ""
) -> None:
    """A row of the table."""
    number = str(value) if isinstance(value, int) else f"{value:,.{digits}f}{unit}"
    print(
        f"  {name:<24}{number:>12}{'' if error is None else f' ± {error:.{digits}f}':<9}  {note}".rstrip(), flush=True
    )


def with_error(name: str, values: Sequence[float]) -> dict[str, float]:
    """The mean over the examples, and its standard error."""
    return {name: float(np.mean(values)), f"{name}_standard_error": float(np.std(values) / math.sqrt(len(values)))}


def random_choice(examples: Examples, num: int, seed: int) -> Examples:
    """`num` of the examples, or all if they are fewer, in a random order: files may be sorted."""
    return examples[np.random.default_rng(seed).permutation(len(examples))[:num]]


def flat(batches) -> np.ndarray:
    return np.concatenate([x.numpy().reshape(len(x), -1) for x, _, _ in batches])
