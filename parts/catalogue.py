"""The models and parts that have names, with the properties that must be known before TensorFlow is imported.

A new model or likelihood is a class and a row here. A new network or prior also has an entry in its module's table.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """labels: whether the model needs them "always", "never", or "if the prior knows classes".
    infers_labels: training examples may lack them; it has q(y|x).
    takes_features: it is built on a trained VAE.
    """

    class_name: str  # in vae.py
    labels: str = "never"
    infers_labels: bool = False
    takes_features: bool = False
    large_steps: bool = False  # a step's blocks of memory do not fit into a thread's arena

    def is_conditional(self, num_classes: int, prior: str) -> bool:
        """Whether its bound is on log p(x|y), not on log p(x)."""
        if self.labels == "if the prior knows classes":
            return num_classes > 0 and prior != "standard"
        return self.labels == "always"


@dataclasses.dataclass(frozen=True)
class LikelihoodEntry:
    """pixels: "binary" or "levels" where p(x|z) is a probability of such pixels, None where it is a density."""

    class_name: str  # in likelihoods.py
    pixels: str | None = None
    suits_binary_pixels: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkEntry:
    """hidden_dims: the default widths."""

    hidden_dims: tuple[int, ...]
    reads_points: bool = False
    large_steps: bool = False


MODELS = {
    "vae": ModelEntry("VAE"),
    "cvae": ModelEntry("CVAE", labels="always"),
    "m2": ModelEntry("M2", labels="always", infers_labels=True),
    "m1m2": ModelEntry("M1M2", labels="always", infers_labels=True, takes_features=True),
    "vlae": ModelEntry("VLAE", labels="if the prior knows classes", large_steps=True),
}
LIKELIHOODS = {
    "bernoulli": LikelihoodEntry("Bernoulli", pixels="binary", suits_binary_pixels=True),
    "gaussian": LikelihoodEntry("Gaussian", suits_binary_pixels=True),  # the squared error
    "sigma": LikelihoodEntry("Sigma"),
    "logistic": LikelihoodEntry("DiscretizedLogistic", pixels="levels"),
}
NETWORKS = {
    "mlp": NetworkEntry((400, 400), reads_points=True),
    "conv": NetworkEntry((32, 64)),
    "resnet": NetworkEntry((32, 64), large_steps=True),
}
PRIORS = ("standard", "gaussian", "flow", "mixture")
ACTIVATIONS = ("gelu", "leaky_relu", "relu", "elu")
BINARIZATIONS = ("none", "dynamic", "threshold")  # of pixels
AUGMENTATIONS = ("shift", "affine", "erase", "adversarial")  # for a classifier; the last one of points too


def bound_on(arguments: Mapping[str, Any]) -> str:
    """What the ELBO of a model with these arguments bounds: "log p(x)" or "log p(x|y)"."""
    prior = arguments.get("prior", "standard")
    conditional = MODELS[arguments["model"]].is_conditional(arguments["num_classes"], prior)
    return "log p(x|y)" if conditional else "log p(x)"
