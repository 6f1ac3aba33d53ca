"""A trained model in use: NumPy in, NumPy out."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sources.batches import evaluation_batches
from sources.examples import Examples
from trained import inputs
from trained.completion import Completer
from trained.importance import ImportanceWeighter, log_likelihoods

BLOCK = 500  # codes that are decoded at once


class TrainedModel:
    """A model with what is needed to use it: how its images were prepared, and the names of its classes.

    Images x are uint8 (0 to 255) or floats in [0, 1], (n, height, width, channels); the channel axis of grey ones may
    be missing. If the model was trained on binarized images, x is binarized in the same way, as `--evaluate` does it:
    pixels that are 0 or 1 stay as they are. Points are floats, (n, 2).

    Labels are class numbers, class names, or rows of zeros and ones; one alone is for all examples. A conditional model
    needs them, but not where they reach no part that is used; the others take none.

    What is wrong with an argument is told by a ValueError of one sentence.

    Args:
        model: a model from `vae.build_model`.
        class_names: of its classes, or of those in its data; by default their numbers.
        binarize: "none", "dynamic" or "threshold".
        class_probs: p(y) of the training data, (classes,); without it a conditional model has no log p(x).

    Raises:
        ValueError: for arguments that do not fit the model.
    """

    def __init__(
        self,
        model: keras.Model,
        class_names: Sequence[str] = (),
        *,
        binarize: str = "none",
        class_probs: Sequence[float] | None = None,
    ):
        num_classes = model.arguments["num_classes"]
        self.model = model
        self.class_names = inputs.names_of_classes(class_names, num_classes)
        self.binarize = inputs.way_to_binarize(binarize)
        self.class_probs = inputs.probabilities(class_probs, num_classes)
        self.weighter = ImportanceWeighter(model)
        self.completer = Completer(model)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """(height, width, channels), or (2,) for points."""
        return tuple(self.model.arguments["data_shape"])

    @property
    def latent_size(self) -> int:
        return self.model.prior.latent_size

    @property
    def is_conditional(self) -> bool:
        return self.model.is_conditional

    def __repr__(self) -> str:
        arguments = self.model.arguments
        classes = f", {len(self.class_names)} classes" if self.is_conditional else ""
        return f"<{arguments['model']} of {self.data_shape}, {self.latent_size} latents{classes}>"

    def encode(self, x: Any, labels: Any = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and logvar of q(z|x), or q(z|x, y): (n, latent) each. `seed` is that of dynamic binarization."""
        x, seed = inputs.examples(x, self.data_shape), inputs.seed(seed)
        conditions = self.conditions(labels, len(x), are_needed=self.model.labels_reach_encoder)
        batches = self.batches(x, conditions, seed)
        parts = [self.model.encode(images, conditions) for images, conditions, _ in batches]
        mean, logvar = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, logvar

    def decode(self, z: Any, labels: Any = None, seed: int = 0) -> np.ndarray:
        """The mean of p(x|z), (n, ...) float32; a draw by `seed` from it where there is no mean, as with a window."""
        z, seed = inputs.codes(z, self.latent_size), inputs.seed(seed)
        labels = self.conditions(labels, len(z), are_needed=self.model.labels_reach_decoder)
        blocks = []
        for start in range(0, len(z), BLOCK):
            rows = slice(start, start + BLOCK)
            blocks.append(self.model.decode(tf.constant(z[rows]), tf.constant(labels[rows]), seed, start))
        return self.in_range(np.concatenate(blocks))

    def reconstruct(self, x: Any, labels: Any = None, seed: int = 0) -> np.ndarray:
        """x encoded and decoded: `decode` at the mean of q(z|x), (n, ...) float32."""
        return self.decode(self.encode(x, labels, seed)[0], labels, seed)

    def sample(self, num: int, labels: Any = None, seed: int = 0) -> np.ndarray:
        """`num` new examples: z ~ p(z), or p(z|y), decoded: (num, ...) float32, the same for the same seed."""
        num, seed = inputs.whole(num, "num", 1), inputs.seed(seed)
        return self.in_range(self.model.sample(num, tf.constant(self.conditions(labels, num)), seed).numpy())

    def classify(self, x: Any, seed: int = 0) -> np.ndarray:
        """q(y|x) of a model that infers labels: (n, classes). `seed` is that of dynamic binarization."""
        if not self.model.infers_labels:
            raise ValueError(f"this {self.model.arguments['model']} has no q(y|x)")
        x, seed = inputs.examples(x, self.data_shape), inputs.seed(seed)
        unlabelled = np.zeros((len(x), 0), np.float32)
        return np.concatenate([self.model.classify(images) for images, _, _ in self.batches(x, unlabelled, seed)])

    def log_prob(self, x: Any, labels: Any = None, num_importance_samples: int = 100, seed: int = 0) -> np.ndarray:
        """Importance-weighted lower bounds on log p(x) (Burda et al. 2016, eq. 8): (n,), in nats per example.

        A conditional model gives log p(x|y) with labels, and without them log p(x) = log sum_y p(y) p(x|y).
        `--evaluate` reports the mean of the same bounds: same seed, same noise.
        """
        num_samples = inputs.whole(num_importance_samples, "num_importance_samples", 1)
        seed = inputs.seed(seed)
        is_marginal = self.is_conditional and labels is None
        if is_marginal and self.class_probs is None:
            raise ValueError("log p(x) needs p(y), which this model does not have: give it class_probs, or give labels")
        x = inputs.examples(x, self.data_shape)
        if is_marginal:
            conditions = np.zeros((len(x), len(self.class_names)), np.float32)
        else:
            conditions = self.conditions(labels, len(x))
        scores = log_likelihoods(
            self.weighter,
            self.batches(x, conditions, seed),
            num_samples=num_samples,
            seed=seed,
            class_probs=self.class_probs if is_marginal else None,
        )
        log_p = scores["log_p_x_given_y" if self.is_conditional and not is_marginal else "log_p_x"]
        return log_p.astype(np.float64)

    def fill_in(
        self,
        x: Any,
        known: Any,
        labels: Any = None,
        num: int = 1,
        seed: int = 0,
        progress: Callable[[int], None] = lambda num_draws: None,
    ) -> np.ndarray:
        """`num` completions of every example, (n, num, ...) float32: draws from p(x_missing | x_known), which a Markov
        chain approximates, see `trained.completion.Completer`. Where p(x|z) has a mean, it is shown in place of a draw.
        The draws are the same for the same arguments; those of an example differ with what else is asked for.

        Args:
            known: booleans, (n, height, width) or (height, width) for images, (n, 2) or (2,) for points.
            labels: without them a conditional model draws the class too.
            progress: called with the number of draws of each block that is done.
        """
        x, num, seed = inputs.examples(x, self.data_shape), inputs.whole(num, "num", 1), inputs.seed(seed)
        known = inputs.known_places(known, x.shape)
        is_unknown_class = self.is_conditional and labels is None
        if is_unknown_class and self.class_probs is None:
            raise ValueError(
                "an unknown class needs p(y), which this model does not have: give it class_probs, or give labels"
            )
        conditions = np.zeros((len(x), 0), np.float32) if is_unknown_class else self.conditions(labels, len(x))
        prepared = np.concatenate([images for images, _, _ in self.batches(x, conditions, seed)])
        filled = self.completer.fill_in(
            prepared,
            known,
            None if is_unknown_class else conditions,
            num,
            seed,
            class_probs=self.class_probs,
            show_mean=True,
            progress=progress,
        )
        return self.in_range(filled)

    def in_range(self, x: np.ndarray) -> np.ndarray:
        """Images with their pixels in [0, 1], which the mean of a Gaussian p(x|z) can leave; points as they are."""
        return np.clip(x, 0.0, 1.0) if len(self.data_shape) == 3 else x

    def batches(self, x: np.ndarray, conditions: np.ndarray, seed: int) -> tf.data.Dataset:
        """Batches (x, labels, seed) of checked arrays, as `--evaluate` makes them."""
        return evaluation_batches(Examples(x, conditions), seed=seed, binarize=self.binarize)

    def conditions(self, labels: Any, num: int, *, are_needed: bool = True) -> np.ndarray:
        """One-hot labels for `num` examples; of width 0 where they are missing and not needed. Raises a ValueError."""
        if labels is None and not (self.is_conditional and are_needed):
            return np.zeros((num, 0), np.float32)
        if not self.is_conditional:
            raise ValueError(f"this {self.model.arguments['model']} is not conditional: it takes no labels")
        rows = inputs.one_hot(labels, self.class_names, num)
        if self.class_probs is not None and (rows.sum(axis=1) != 1).any():
            raise ValueError("each row of labels must have one 1: every example is of one class")
        return rows
