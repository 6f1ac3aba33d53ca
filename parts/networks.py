"""Encoders and decoders as Keras layers. No objective in here.

An encoder maps data x and a condition (one-hot labels, or None) to the mean and log-variance of q(z|x), a decoder maps
a code z and the condition to the parameters of p(x|z). Their last layers are float32 whatever the others compute in.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LOGVAR_BOUND = 15.0
CONV_HEAD_WIDTH = 256


@contextlib.contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Within this context layers are made with this dtype policy of Keras; those that ask for float32 keep it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def default_keras_settings() -> Iterator[None]:
    """Within this context layers, metrics and optimizers are made as these modules need them, whatever the user has set
    in ~/.keras/keras.json or in a notebook."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras computes with {keras.backend.backend()}: set KERAS_BACKEND=tensorflow before its import"
        )
    floatx, data_format = keras.config.floatx(), keras.config.image_data_format()
    with computing_in("float32"):
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        try:
            yield
        finally:
            keras.config.set_floatx(floatx)
            keras.config.set_image_data_format(data_format)


def bounded_logvar(raw: tf.Tensor) -> tf.Tensor:
    """Squash smoothly into (-15, 15), near the identity around 0: exp() of it, and its gradient, stay finite."""
    return LOGVAR_BOUND * tf.tanh(raw / LOGVAR_BOUND)


def join(h: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
    """Concatenate the condition, if there is one, to a batch of vectors."""
    return h if condition is None else tf.concat([h, condition], axis=-1)


class Encoder(keras.layers.Layer):
    """q(z|x) or q(z|x, y): a body that reads x, and a head that reads its features and the condition.

    The head has a hidden layer. In a linear head the label could only shift the codes; it could not keep what it
    already says out of them.
    """

    def __init__(self, body: keras.layers.Layer, head_width: int, latent_size: int, activation: str, **kwargs):
        super().__init__(**kwargs)
        self.body = body
        self.hidden = layers.Dense(head_width, activation=activation)
        self.head = layers.Dense(2 * latent_size, dtype="float32")

    def call(self, x, condition=None):
        """x: (batch, ...) -> mean, logvar: (batch, latent) each."""
        return self.posterior(self.body(x), condition)

    def posterior(self, features, condition=None):
        """The same from what the body makes of x, (batch, features)."""
        if condition is not None:
            condition = tf.cast(condition, features.dtype)
        h = self.hidden(join(features, condition))
        mean, raw_logvar = tf.split(self.head(h), 2, axis=-1)
        return mean, bounded_logvar(raw_logvar)


class Classifier(keras.layers.Layer):
    """The logits of q(y|x), from the body and the hidden layer of an encoder of its own."""

    def __init__(self, encoder: Encoder, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.body = encoder.body
        self.hidden = encoder.hidden
        self.head = layers.Dense(num_classes, dtype="float32")

    def call(self, x):
        """x: (batch, ...) -> (batch, classes)."""
        return self.head(self.hidden(self.body(x)))


class Decoder(keras.layers.Layer):
    """The parameters of p(x|z) or p(x|z, y): a body that reads the code joined with the condition, plus an offset.

    The offset, one number for each parameter, stands in for the body's last bias. Training starts it at the mean of the
    data, so that the first epoch need not learn that.
    """

    def __init__(self, body: keras.layers.Layer, output_shape: Sequence[int], **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.body = body
        self.offset = self.add_weight(shape=tuple(output_shape), initializer="zeros", name="offset")

    def call(self, z, condition=None):
        """z: (batch, latent) -> (batch, ..., channels * params_per_channel)."""
        return self.body(join(z, condition)) + self.offset


def mlp_encoder(hidden_dims: Sequence[int], latent_size: int, activation: str) -> Encoder:
    """Dense layers; the last one is the head's."""
    dense = [layers.Dense(width, activation=activation) for width in hidden_dims[:-1]]
    return Encoder(Stack([layers.Flatten(), *dense]), hidden_dims[-1], latent_size, activation)


def mlp_decoder_body(hidden_dims: Sequence[int], output_shape: Sequence[int], activation: str) -> keras.layers.Layer:
    """(batch, n) -> (batch, *output_shape); the widths are those of the encoder, reversed."""
    dense = [layers.Dense(width, activation=activation) for width in reversed(hidden_dims)]
    last = layers.Dense(math.prod(output_shape), use_bias=False, dtype="float32")
    return Stack([*dense, last, layers.Reshape(output_shape, dtype="float32")])


def conv_encoder(
    hidden_dims: Sequence[int], latent_size: int, activation: str, block: type[keras.layers.Layer] | None = None
) -> Encoder:
    """Convolutions that each halve height and width, with a `block` after each if one is given; then a dense head."""
    steps = []
    for width in hidden_dims:
        steps.append(layers.Conv2D(width, 3, strides=2, padding="same", activation=activation))
        steps += [block(width, activation)] if block else []
    return Encoder(Stack([*steps, layers.Flatten()]), CONV_HEAD_WIDTH, latent_size, activation)


def conv_decoder_body(
    hidden_dims: Sequence[int],
    output_shape: Sequence[int],
    activation: str,
    block: type[keras.layers.Layer] | None = None,
    last_kernel_size: int = 3,
) -> keras.layers.Layer:
    """(batch, n) -> (batch, *output_shape); every step doubles height and width, and the surplus is cropped."""
    height, width, channels = output_shape
    factor = 2 ** len(hidden_dims)
    if max(height, width) < factor:
        raise ValueError(
            f"{len(hidden_dims)} hidden_dims halve {height}x{width} images to nothing: "
            f"give fewer, or --network mlp, which halves none"
        )
    small = (math.ceil(height / factor), math.ceil(width / factor), hidden_dims[-1])
    steps = [layers.Dense(CONV_HEAD_WIDTH, activation=activation)] if block else []
    steps += [layers.Dense(math.prod(small), activation=activation), layers.Reshape(small)]
    for outer, inner in zip(hidden_dims[-2::-1], hidden_dims[:0:-1], strict=True):
        steps += [block(inner, activation)] if block else []
        steps.append(DoublingConv2D(outer, activation))
    steps += [block(hidden_dims[0], activation)] if block else []
    last = DoublingConv2D(channels, kernel_size=last_kernel_size, use_bias=False, dtype="float32")
    return Stack([*steps, last, CropTo(height, width, dtype="float32")])


class ResidualBlock(keras.layers.Layer):
    """x + conv(conv(x)), 3x3 and pre-activated (He et al. 2016); it starts as the identity."""

    def __init__(self, filters: int, activation: str, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.conv1 = layers.Conv2D(filters, 3, padding="same", activation=activation)
        self.conv2 = layers.Conv2D(filters, 3, padding="same", kernel_initializer="zeros")

    def call(self, x):
        return x + self.conv2(self.conv1(self.activation(x)))


class Stack(keras.layers.Layer):
    """Layers applied in order. (keras.Sequential would add a functional model around each, slower to build.)"""

    def __init__(self, steps: Sequence[keras.layers.Layer], **kwargs):
        super().__init__(**kwargs)
        self.steps = list(steps)

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


class PixelLayers(keras.layers.Layer):
    """Layers on a map of features, (batch, height, width, features) -> (batch, height, width, outputs). They are
    residual where the width stays the same.

    They see one pixel at a time, as 1x1 convolutions do. But every second one is a masked 3x3 convolution, until there
    are `num_masked` of these. What they add to is float32, and so is the head, whatever they compute in.
    """

    def __init__(self, widths: Sequence[int], outputs: int, num_masked: int = 0, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        kinds = [MaskedConv2D if i % 2 and i // 2 < num_masked else layers.Dense for i in range(len(widths))]
        self.hidden = [kind(width) for kind, width in zip(kinds, widths, strict=True)]
        self.head = layers.Dense(outputs, use_bias=False, dtype="float32")

    def call(self, h, apply: Callable = lambda layer, h: layer(h)):
        h = tf.nn.elu(h)
        for layer in self.hidden:
            update = tf.cast(apply(layer, h), tf.float32)
            h = tf.nn.elu(h + update if h.shape[-1] == update.shape[-1] else update)
        return self.head(h)


class MaskedConv2D(keras.layers.Layer):
    """A 3x3 convolution in which a pixel sees the features of pixels before it in raster order, and its own."""

    MASK = np.array([[1, 1, 1], [1, 1, 0]], np.float32)[:, :, None, None]  # the row above and its own

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        # As Glorot and Bengio (2010), for the inputs that the mask leaves.
        initializer = keras.initializers.VarianceScaling(self.MASK.size / self.MASK.sum(), mode="fan_avg")
        shape = (*self.MASK.shape[:2], input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, h):
        return conv_of_rows_above(h, self.kernel * tf.cast(self.MASK, h.dtype)) + self.bias

    def of_pixel(self, seen: tf.Tensor) -> tf.Tensor:
        """The output for one pixel from what it sees of the map: (batch, 2, 3, features) -> (batch, filters), float32
        whatever `call` computes in."""
        return tf.tensordot(seen, self.kernel * self.MASK, 3) + self.bias


def conv_of_rows_above(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The convolution of x with a kernel whose last row is the pixel's own: (batch, height, width, channels)."""
    reach = kernel.shape[0] - 1
    padded = tf.pad(x, [[0, 0], [reach, 0], [reach, reach], [0, 0]])
    return tf.nn.conv2d(padded, kernel, strides=1, padding="VALID")


class DoublingConv2D(keras.layers.Layer):
    """A convolution to four times the channels, rearranged to twice the height and width (Shi et al. 2016).

    It replaces a transposed convolution: on CPUs it is several times faster, and it has no checkerboard artefacts.
    """

    def __init__(
        self,
        filters: int,
        activation: str | None = None,
        *,
        kernel_size: int = 3,
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(
            4 * filters,
            kernel_size,
            padding="same",
            activation=activation,
            use_bias=use_bias,
            dtype=self.dtype_policy,
        )

    def call(self, x):
        return tf.nn.depth_to_space(self.conv(x), 2)


class CropTo(keras.layers.Layer):
    """Keep the central height x width pixels."""

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def call(self, x):
        top, left = (x.shape[1] - self.height) // 2, (x.shape[2] - self.width) // 2
        return x[:, top : top + self.height, left : left + self.width]


# feature_decoder: as decoder, but makes the map that a VLAE's pixel layers read. Its last convolution is 1x1: a 3x3 one
# would be the largest part of the network, and the pixel layers learn more for the same arithmetic.
# compiled: what XLA compiles in training, chosen by measurement on CPUs (benchmarks/README.md): each "step", the "loop"
# over the steps, or "nothing". Of a VLAE of images nothing, see training/steps.py.
# steps_per_execution: training steps between two returns to Python, where a run can be stopped or saved
NETWORKS = {
    "mlp": {
        "encoder": mlp_encoder,
        "decoder": mlp_decoder_body,
        "feature_decoder": mlp_decoder_body,
        "compiled": "loop",
        "steps_per_execution": 16,
    },
    "conv": {
        "encoder": conv_encoder,
        "decoder": conv_decoder_body,
        "feature_decoder": functools.partial(conv_decoder_body, last_kernel_size=1),
        "compiled": "step",
        "steps_per_execution": 16,
    },
    "resnet": {
        "encoder": functools.partial(conv_encoder, block=ResidualBlock),
        "decoder": functools.partial(conv_decoder_body, block=ResidualBlock),
        "feature_decoder": functools.partial(conv_decoder_body, block=ResidualBlock, last_kernel_size=1),
        "compiled": "step",
        "steps_per_execution": 2,
    },
}
