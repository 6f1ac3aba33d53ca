"""A trained model as plain values for explorer/engine.js: its layers, and all weights in one text."""

import base64
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from parts import networks
from parts.autoregressive import Autoregressive
from parts.likelihoods import Bernoulli, ColourLogistic, DiscretizedLogistic, Likelihood
from parts.priors import FlowPrior, GaussianPrior, MaskedNetwork, MixturePrior, Prior


class Weights:
    """Arrays one after the other, each referred to by its start and length: floats of 32 or 16 bits, or with 8 bits
    whole numbers with one scale for each output of a kernel (and 16 bits for what is no kernel)."""

    def __init__(self, bits: int):
        self.bits = bits
        self.floats: list[np.ndarray] = []
        self.bytes: list[np.ndarray] = []

    def add(self, array: Any) -> dict[str, list[int]]:
        return {"$": append(self.floats, np.asarray(array, np.float32).reshape(-1))}

    def add_kernel(self, array: Any) -> dict[str, list[int]]:
        """A kernel, whose last axis is that of the outputs."""
        kernel = np.asarray(array, np.float32)
        if self.bits > 8:
            return self.add(kernel)
        rows = kernel.reshape(-1, kernel.shape[-1])
        scales = np.float32(np.float16(np.abs(rows).max(axis=0) / 127 + 1e-7))
        whole = np.clip(np.round(rows / scales), -127, 127).astype(np.int8)
        return {"bytes": append(self.bytes, whole.reshape(-1)), "scales": append(self.floats, scales)}

    def texts(self) -> dict[str, str]:
        """In base64, little-endian."""
        kind = "<f4" if self.bits == 32 else "<f2"
        texts = {
            "floats": np.concatenate(self.floats).astype(kind),
            "bytes": np.concatenate([*self.bytes, np.int8([])]),
        }
        return {name: base64.b64encode(array.tobytes()).decode() for name, array in texts.items()}


def append(parts: list[np.ndarray], values: np.ndarray) -> list[int]:
    """The start and length of values that are added to the parts."""
    start = sum(map(len, parts))
    parts.append(values)
    return [start, len(values)]


def export_model(model: keras.Model, class_names: Sequence[str], *, bits: int = 16) -> dict[str, Any]:
    """What explorer/engine.js needs of a model.

    Args:
        class_names: of the model, if it is conditional.
        bits: 8, 16 or 32, of each weight of a kernel.
    """
    weights, encoder, likelihood = Weights(bits), model.encoder, model.likelihood
    in_order = isinstance(likelihood, Autoregressive)
    is_plain = isinstance(model.decoder, networks.Decoder)
    return {
        "shape": list(model.arguments["data_shape"]),
        "latents": model.prior.latent_size,
        "classes": list(class_names) if model.is_conditional else [],
        "encoder": {
            "body": layers_of(encoder.body, weights),
            "hidden": one(encoder.hidden, weights),
            "head": one(encoder.head, weights),
            "label": model.is_conditional and model.labels_reach_encoder,
        },
        "decoder": {
            "layers": layers_of(model.decoder.body if is_plain else model.decoder, weights),
            "offset": weights.add(model.decoder.offset) if is_plain else None,
            "label": model.labels_reach_decoder,
        },
        "likelihood": {"kind": kind_of(likelihood.pixel if in_order else likelihood)},
        "window": window_of(likelihood, weights) if in_order else None,
        "prior": prior_of(model.prior, weights),
        "bits": bits,
        "weights": weights.texts(),
    }


@functools.singledispatch
def layers_of(layer: keras.layers.Layer, weights: Weights) -> list[dict[str, Any]]:
    """A layer as layers of engine.js; raises a TypeError for one that it does not know."""
    raise TypeError(f"engine.js has no layer for {type(layer).__name__}")


def one(layer: keras.layers.Layer, weights: Weights) -> dict[str, Any]:
    (only,) = layers_of(layer, weights)
    return only


def bias_of(layer: keras.layers.Layer, weights: Weights) -> dict[str, list[int]] | None:
    return weights.add(layer.bias) if layer.use_bias else None


def dense(kernel: np.ndarray, bias: Any, weights: Weights, activation: str = "linear") -> dict[str, Any]:
    inputs, outputs = kernel.shape
    return {
        "kind": "dense",
        "kernel": weights.add_kernel(kernel),
        "bias": bias,
        "inputs": inputs,
        "outputs": outputs,
        "activation": activation,
    }


@layers_of.register
def _(layer: keras.layers.Dense, weights):
    return [dense(np.asarray(layer.kernel), bias_of(layer, weights), weights, layer.activation.__name__)]


@layers_of.register
def _(layer: keras.layers.Conv2D, weights):
    size, _, _, outputs = layer.kernel.shape
    values = {
        "kernel": weights.add_kernel(layer.kernel),
        "bias": bias_of(layer, weights),
        "size": size,
        "outputs": outputs,
    }
    return [{"kind": "convolution", **values, "stride": layer.strides[0], "activation": layer.activation.__name__}]


@layers_of.register
def _(layer: networks.DoublingConv2D, weights):
    return [{"kind": "doubling", "conv": one(layer.conv, weights)}]


@layers_of.register
def _(layer: networks.ResidualBlock, weights):
    convolutions = {"conv1": one(layer.conv1, weights), "conv2": one(layer.conv2, weights)}
    return [{"kind": "residual", "activation": layer.activation.__name__, **convolutions}]


@layers_of.register
def _(layer: networks.Stack, weights):
    return [part for step in layer.steps for part in layers_of(step, weights)]


@layers_of.register
def _(layer: keras.layers.Flatten, weights):
    return [{"kind": "flatten"}]


@layers_of.register
def _(layer: keras.layers.Reshape, weights):
    if len(layer.target_shape) == 1:  # points
        return []
    height, width, channels = layer.target_shape
    return [{"kind": "reshape", "height": height, "width": width, "channels": channels}]


@layers_of.register
def _(layer: networks.CropTo, weights):
    return [{"kind": "crop", "height": layer.height, "width": layer.width}]


@layers_of.register
def _(layer: networks.PixelLayers, weights):
    return [{"kind": "pixels", **pixel_layers(layer, weights)}]


def pixel_layers(layer: networks.PixelLayers, weights: Weights) -> dict[str, Any]:
    hidden = [
        masked_convolution(part, weights) if isinstance(part, networks.MaskedConv2D) else one(part, weights)
        for part in layer.hidden
    ]
    return {"hidden": hidden, "head": one(layer.head, weights)}


def masked_convolution(layer: networks.MaskedConv2D, weights: Weights) -> dict[str, Any]:
    places, kernel = seen_places(layer.MASK, layer.kernel)
    shape = {"inputs": layer.kernel.shape[2], "outputs": layer.kernel.shape[3]}
    return {"kernel": weights.add_kernel(kernel), "bias": weights.add(layer.bias), "places": places, **shape}


def seen_places(mask: np.ndarray, kernel: Any) -> tuple[list[list[int]], np.ndarray]:
    """The places that a masked kernel reads, and its values at these, one after the other."""
    places, kernel = np.argwhere(mask[:, :, 0, 0]), np.asarray(kernel)
    return places.tolist(), np.stack([kernel[row, column] for row, column in places])


def window_of(likelihood: Autoregressive, weights: Weights) -> dict[str, Any]:
    places, kernel = seen_places(likelihood.mask, likelihood.kernel)
    return {
        "reach": likelihood.reach,
        "mask": places,
        "kernel": weights.add_kernel(kernel),
        "outputs": likelihood.kernel.shape[3],
        "layers": pixel_layers(likelihood.pixel_layers, weights),
        "offset": weights.add(likelihood.offset),
    }


def kind_of(likelihood: Likelihood) -> str:
    if isinstance(likelihood, DiscretizedLogistic | ColourLogistic):
        return "logistic"
    return "bernoulli" if isinstance(likelihood, Bernoulli) else "real"


def prior_of(prior: Prior, weights: Weights) -> dict[str, Any]:
    label = {"label": prior.num_classes > 0}
    if isinstance(prior, GaussianPrior):
        logvars = networks.bounded_logvar(prior.logvars)
        moments = {"means": weights.add(prior.means), "logvars": weights.add(logvars)}
        return {"kind": "gaussian", "classes": prior.means.shape[0], **moments, **label}
    if isinstance(prior, FlowPrior):
        steps = [masked_network(step, weights) for step in prior.steps]
        return {"kind": "flow", "steps": steps, "bound": prior.steps[0].logvar_bound, **label}
    if isinstance(prior, MixturePrior):
        network = masked_network(prior.network, weights)
        return {"kind": "mixture", "network": network, "components": prior.NUM_COMPONENTS, **label}
    return {"kind": "standard", **label}


def masked_network(network: MaskedNetwork, weights: Weights) -> dict[str, Any]:
    """Its two layers, with the rows of the label below those of their input."""

    def layer(end: str, activation: str) -> dict[str, Any]:
        kernel = np.asarray(getattr(network, f"kernel_{end}")) * getattr(network, f"mask_{end}")
        if hasattr(network, f"label_{end}"):
            kernel = np.concatenate([kernel, np.asarray(getattr(network, f"label_{end}"))])
        return dense(kernel, weights.add(getattr(network, f"bias_{end}")), weights, activation)

    return {"first": layer("in", "elu"), "last": layer("out", "linear")}
