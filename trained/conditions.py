"""The labels that a conditional model is given with data which may have none, or classes of their own."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sources.batches import TEST_BATCH_SIZE, evaluation_batches
from sources.examples import Examples
from trained.importance import pilot_log_p_xy
from trained.inputs import shared_classes
from trained.model import TrainedModel


@dataclasses.dataclass(frozen=True)
class Conditioned:
    """Examples as a model takes them, batch by batch.

    Args:
        batches: (x, labels, seed); the labels have width 0 if the model takes none.
        chosen: (n,) whether the label of an example was chosen, as the most probable one.
        log_p_xy: estimates of log p(x, y), (n, classes), if some were chosen by them.
    """

    batches: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
    chosen: np.ndarray
    log_p_xy: np.ndarray | None = None

    @property
    def chosen_classes(self) -> np.ndarray:
        """The number of the class of each example whose label was chosen, -1 for the others: (n,)"""
        labels = np.concatenate([labels for _, labels, _ in self.batches])
        return np.where(self.chosen, labels.argmax(axis=1), -1)


class Conditioner:
    """Gives a model its labels. They are the data's own if these are of classes that the model knows. An example
    without one class gets the most probable: by q(y|x) if the model has it, else argmax_y p(y) p(x|y), by a few
    importance samples of each class.

    Args:
        class_names: of the data.

    Attributes:
        of_data, of_model: the numbers of the classes that the data and the model share, in each of them.
        num_chosen: the number of examples whose label was chosen so far.
    """

    def __init__(self, trained: TrainedModel, class_names: Sequence[str], seed: int):
        self.trained, self.seed, self.num_chosen = trained, seed, 0
        shared = shared_classes(class_names, trained.class_names) if trained.is_conditional else ([], [])
        self.of_data, self.of_model = shared

    def own_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels (n, classes) of the data as rows of the model's classes; of width 0 if it takes none."""
        rows = np.zeros((len(labels), len(self.trained.class_names) if self.trained.is_conditional else 0), np.float32)
        rows[:, self.of_model] = labels[:, self.of_data]
        return rows

    def condition(self, x: np.ndarray, labels: np.ndarray, first: int) -> Conditioned:
        """Examples (n, ...) with labels (n, classes) of the data; `first` is the number of the first one, a multiple of
        the size of a batch."""
        trained = self.trained
        conditions = self.own_labels(labels)
        examples, first_batch = Examples(x, conditions), first // TEST_BATCH_SIZE
        batches = [*evaluation_batches(examples, seed=self.seed, binarize=trained.binarize, first=first_batch)]
        chosen = np.zeros(len(x), bool)
        if trained.is_conditional and (trained.model.infers_labels or trained.class_probs is not None):
            chosen = conditions.sum(axis=1) != 1
        if not chosen.any():
            return Conditioned(batches, chosen)
        self.num_chosen += int(chosen.sum())
        log_p_xy = None
        if trained.model.infers_labels:
            class_scores = np.concatenate([trained.model.classify(images) for images, _, _ in batches])
        else:
            prepared = np.concatenate([images for images, _, _ in batches])
            log_p_xy = pilot_log_p_xy(trained.weighter, prepared, trained.class_probs, seed=self.seed, first=first)
            class_scores = log_p_xy
        conditions[chosen] = np.eye(conditions.shape[1], dtype=np.float32)[class_scores[chosen].argmax(axis=1)]
        parts = np.split(conditions, range(TEST_BATCH_SIZE, len(x), TEST_BATCH_SIZE))
        batches = [(images, part, seed) for (images, _, seed), part in zip(batches, parts, strict=True)]
        return Conditioned(batches, chosen, log_p_xy)
