"""The layers of a trained model, converted to exact arithmetic. They take and give arrays of values, see exact.py."""

import functools
from collections.abc import Callable

import keras
import numpy as np

from coding.exact import ACTIVATIONS, LARGEST, ONE, Affine, CodingError, Convolution, cut_off, elu, tables, to_grid
from parts import networks, priors
from parts.autoregressive import Autoregressive

Exact = Callable[[np.ndarray], np.ndarray]


def weights(variable: keras.Variable) -> np.ndarray:
    """Raises a CodingError if a weight is not finite."""
    values = np.asarray(variable, np.float64)
    if not np.isfinite(values).all():
        raise CodingError("the model has weights that are not finite")
    return values


def small_values(variable: keras.Variable) -> np.ndarray:
    """Weights that are values themselves, such as offsets."""
    return cut_off(to_grid(weights(variable)))


def in_order(steps: list[Exact]) -> Exact:
    return lambda x: functools.reduce(lambda x, step: step(x), steps, x)


def joined(h: np.ndarray, one_hot: np.ndarray | None) -> np.ndarray:
    """As `parts.networks.join`; one_hot holds zeros and ones."""
    return h if one_hot is None else np.concatenate([h, one_hot * ONE], axis=1)


@functools.singledispatch
def exact(layer: keras.layers.Layer, largest: int = LARGEST) -> Exact:
    """The layer in exact arithmetic, for inputs up to `largest`.

    Raises:
        CodingError: for a layer that has no exact form, or weights that are too large for it.
    """
    raise CodingError(f"the model has a layer that cannot be computed exactly: {type(layer).__name__}")


def activation_of(layer: keras.layers.Layer) -> Exact:
    name = layer.activation.__name__
    if name not in ACTIVATIONS:
        raise CodingError(f"the activation function {name} cannot be computed exactly")
    return ACTIVATIONS[name]


@exact.register
def _(layer: keras.layers.Dense, largest: int = LARGEST) -> Exact:
    affine = Affine(weights(layer.kernel), weights(layer.bias) if layer.use_bias else 0.0, largest)
    activation = activation_of(layer)
    return lambda x: activation(affine(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1))


@exact.register
def _(layer: keras.layers.Conv2D, largest: int = LARGEST) -> Exact:
    activation, stride, size = activation_of(layer), layer.strides[0], layer.kernel_size[0]
    kernel, bias = weights(layer.kernel), weights(layer.bias) if layer.use_bias else 0.0

    @functools.cache
    def for_size(height: int, width: int) -> Convolution:
        """TensorFlow's "same" padding depends on the size of the map."""
        zeros = [max(0, (-(-length // stride) - 1) * stride + size - length) for length in (height, width)]
        before = tuple(number // 2 for number in zeros)
        after = tuple(number - number // 2 for number in zeros)
        return Convolution(kernel, bias, before=before, after=after, stride=stride, largest=largest)

    return lambda x: activation(for_size(*x.shape[1:3])(x))


@exact.register
def _(layer: networks.DoublingConv2D, largest: int = LARGEST) -> Exact:
    convolution = exact(layer.conv, largest)

    def doubled(x: np.ndarray) -> np.ndarray:
        h = convolution(x)
        num, height, width, channels = h.shape
        h = h.reshape(num, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
        return h.reshape(num, 2 * height, 2 * width, channels // 4)

    return doubled


@exact.register
def _(layer: networks.ResidualBlock, largest: int = LARGEST) -> Exact:
    activation, conv1, conv2 = ACTIVATIONS[layer.activation.__name__], exact(layer.conv1), exact(layer.conv2)
    return lambda x: cut_off(x + conv2(conv1(activation(x))))


@exact.register
def _(layer: networks.Stack, largest: int = LARGEST) -> Exact:
    steps = []
    for step in layer.steps:
        steps.append(exact(step, largest))
        largest = LARGEST if step.weights else largest
    return in_order(steps)


@exact.register
def _(layer: keras.layers.Flatten, largest: int = LARGEST) -> Exact:
    return lambda x: x.reshape(len(x), -1)


@exact.register
def _(layer: keras.layers.Reshape, largest: int = LARGEST) -> Exact:
    return lambda x: x.reshape(len(x), *layer.target_shape)


@exact.register
def _(layer: networks.CropTo, largest: int = LARGEST) -> Exact:
    return layer.call  # which only slices


class PixelLayers:
    """See `parts.networks.PixelLayers`; `apply` computes each hidden layer."""

    def __init__(self, layer: networks.PixelLayers):
        self.hidden = [
            masked_convolution(hidden) if isinstance(hidden, networks.MaskedConv2D) else exact(hidden)
            for hidden in layer.hidden
        ]
        self.head = exact(layer.head)

    def __call__(self, h: np.ndarray, apply: Callable = lambda layer, h: layer(h)) -> np.ndarray:
        h = elu(h)
        for layer in self.hidden:
            update = apply(layer, h)
            h = elu(cut_off(h + update) if h.shape[-1] == update.shape[-1] else update)
        return self.head(h)


def masked_convolution(layer: networks.MaskedConv2D) -> Convolution:
    mask = layer.MASK[:, :, 0, 0]
    return Convolution(weights(layer.kernel), weights(layer.bias), before=(1, 1), after=(0, 1), mask=mask)


@exact.register
def _(layer: networks.PixelLayers, largest: int = LARGEST) -> Exact:
    return PixelLayers(layer)


@exact.register
def _(layer: networks.Encoder, largest: int = ONE) -> Callable:
    body, hidden, head = exact(layer.body, ONE), exact(layer.hidden), exact(layer.head)

    def moments(x: np.ndarray, one_hot: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and 1 / std of q(z|x): (batch, latent) each."""
        mean, raw_logvar = np.split(head(hidden(joined(body(x), one_hot))), 2, axis=1)
        return mean, tables()["inverse_std"](raw_logvar)

    return moments


@exact.register
def _(layer: networks.Decoder, largest: int = LARGEST) -> Callable:
    body, offset = exact(layer.body), small_values(layer.offset)
    return lambda z, one_hot=None: cut_off(body(joined(z, one_hot)) + offset)


class Window:
    """The layers of an autoregressive p(x|z), see `parts.autoregressive.Autoregressive`."""

    def __init__(self, likelihood: Autoregressive):
        kernel, reach = weights(likelihood.kernel), likelihood.reach
        mask = likelihood.mask[:, :, 0, 0]
        self.convolution = Convolution(kernel, before=(reach, reach), after=(0, reach), mask=mask, largest=ONE)
        self.layers = PixelLayers(likelihood.pixel_layers)
        self.offset = small_values(likelihood.offset)

    def params(self, x: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The parameters of every p(x_i | ...), in one pass."""
        return cut_off(self.layers(cut_off(self.convolution(x - ONE // 2) + features)) + self.offset)

    def fill_in_order(self, features: np.ndarray, draw: Callable[[np.ndarray], np.ndarray]) -> None:
        """Go through the pixels in order: `draw` takes the parameters of one pixel of each image, and gives its values,
        (batch, channels)."""
        num, height, width, _ = features.shape
        image = self.convolution.padded((num, height, width, self.convolution.inputs))
        masked = [layer for layer in self.layers.hidden if isinstance(layer, Convolution)]
        maps = {id(layer): layer.padded((num, height, width, layer.inputs)) for layer in masked}
        for row, column in np.ndindex(height, width):

            def apply(layer: Exact, h: np.ndarray, row: int = row, column: int = column) -> np.ndarray:
                if id(layer) not in maps:
                    return layer(h)
                content = maps[id(layer)]
                content[:, row + layer.before[0], column + layer.before[1]] = h
                return layer.at(content, row, column)

            h = cut_off(self.convolution.at(image, row, column) + features[:, row, column])
            x = draw(cut_off(self.layers(h, apply) + self.offset[row, column]))
            image[:, row + self.convolution.before[0], column + self.convolution.before[1]] = x - ONE // 2


class MaskedNetwork:
    """See `parts.priors.MaskedNetwork`."""

    def __init__(self, layer: priors.MaskedNetwork):
        self.first = Affine(*self.with_labels(layer, weights(layer.kernel_in) * layer.mask_in, "in"))
        self.last = Affine(*self.with_labels(layer, weights(layer.kernel_out) * layer.mask_out, "out"))
        self.shape_out = layer.shape_out

    @staticmethod
    def with_labels(layer: priors.MaskedNetwork, kernel: np.ndarray, end: str) -> tuple[np.ndarray, np.ndarray]:
        """The kernel, with the rows of the label below if it has any, and the bias."""
        rows = [weights(getattr(layer, f"label_{end}"))] if hasattr(layer, f"label_{end}") else []
        return np.concatenate([kernel, *rows]), weights(getattr(layer, f"bias_{end}"))

    def __call__(self, z: np.ndarray, one_hot: np.ndarray | None) -> np.ndarray:
        """(batch, latent) -> (batch, num_outputs, latent)"""
        h = elu(self.first(joined(z, one_hot)))
        return self.last(joined(h, one_hot)).reshape(-1, *self.shape_out)
