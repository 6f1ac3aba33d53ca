"""The distributions of a trained model, in exact arithmetic: they push values on a stack and pop them."""

import hashlib
import json
from collections.abc import Callable, Sequence

import keras
import numpy as np

from coding import decisions
from coding.decisions import FINE, LEVEL_BITS, Grid
from coding.exact import FRACTION, ONE, CodingError, cut_off, tables, to_grid
from coding.networks import MaskedNetwork, Window, exact, small_values
from coding.stack import Stack
from parts.autoregressive import Autoregressive
from parts.likelihoods import Bernoulli, ColourLogistic, DiscretizedLogistic, Likelihood
from parts.priors import GaussianPrior, MixturePrior, Prior, StandardNormalPrior

BLOCK = 16 * 28 * 28  # pixels that pass through a network at once; it changes nothing but speed and memory

Shape = tuple[int, ...]
Params = Callable[[slice], np.ndarray]  # what the decoder makes of some rows


class BinaryPixels:
    """Pixels 0 and 1, each one decision."""

    num_levels = 2

    def values(self, pixels: np.ndarray) -> np.ndarray:
        return pixels * float(ONE)

    def decisions_for(self, pixels: np.ndarray, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and their probabilities, (decisions, ...) each, for the shape of the pixels."""
        return pixels[None], tables()["probability"](params)[None]

    def pop(self, stack: Stack, params: np.ndarray) -> np.ndarray:
        return stack.pop(tables()["probability"](params)).astype(np.uint8)


class LevelPixels:
    """Pixels of 256 levels, eight decisions each. The channels are independent."""

    num_levels = 256

    def values(self, pixels: np.ndarray) -> np.ndarray:
        return np.floor((pixels * (2.0 * ONE) + 255.0) / 510.0)

    def decisions_for(self, pixels: np.ndarray, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        location, log_scale = np.split(params, 2, axis=-1)
        return self.decisions_at(pixels, location, log_scale)

    def decisions_at(self, pixels, location, log_scale) -> tuple[np.ndarray, np.ndarray]:
        distribution = decisions.logistic_levels(location, tables()["inverse_scale"](log_scale))
        return decisions.decisions_for(pixels.astype(np.int64), distribution, LEVEL_BITS)

    def pop(self, stack: Stack, params: np.ndarray) -> np.ndarray:
        return self.pop_at(stack, *np.split(params, 2, axis=-1))

    def pop_at(self, stack: Stack, location, log_scale) -> np.ndarray:
        distribution = decisions.logistic_levels(location, tables()["inverse_scale"](log_scale))
        return decisions.pop(stack, location.shape, distribution, LEVEL_BITS).astype(np.uint8)


class ColourPixels(LevelPixels):
    """Red, green and blue in this order, with the shifts of `parts.likelihoods.ColourLogistic`."""

    def decisions_for(self, pixels, params):
        location, log_scale, slopes = np.split(params, 3, axis=-1)
        parts = []
        for channel in range(3):
            shifted = location[..., channel] + self.shift(pixels, slopes, channel)
            parts.append(self.decisions_at(pixels[..., channel], shifted, log_scale[..., channel]))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def pop(self, stack, params):
        location, log_scale, slopes = np.split(params, 3, axis=-1)
        pixels = np.zeros(location.shape, np.uint8)
        for channel in range(3):
            shifted = location[..., channel] + self.shift(pixels, slopes, channel)
            pixels[..., channel] = self.pop_at(stack, shifted, log_scale[..., channel])
        return pixels

    def shift(self, pixels: np.ndarray, slopes: np.ndarray, channel: int) -> np.ndarray:
        """What the earlier channels add to the location of this one. The slopes are green on red, blue on red, blue on
        green."""
        used = ((), ((0, 0),), ((1, 0), (2, 1)))[channel]
        centred = self.values(pixels) - ONE // 2
        products = sum((slopes[..., slope] * centred[..., earlier] for slope, earlier in used), np.zeros(1))
        return cut_off(np.floor(products * 2.0**-FRACTION + 0.5))


PIXELS = {Bernoulli: BinaryPixels, DiscretizedLogistic: LevelPixels, ColourLogistic: ColourPixels}


class Independent:
    """p(x|z) of pixels that are independent given z: the decoder gives their parameters."""

    def __init__(self, pixels: BinaryPixels | LevelPixels, likelihood: Likelihood):
        self.pixels = pixels

    def push(self, stack: Stack, x: np.ndarray, params: Params) -> None:
        stack.push(*self.pixels.decisions_for(x, in_blocks(x.shape, params)))

    def pop(self, stack: Stack, shape: Shape, params: Params) -> np.ndarray:
        """Images of this shape, (n, height, width, channels)."""
        return self.pixels.pop(stack, in_blocks(shape, params))


class InOrder:
    """p(x|z) of pixels in order, each given those in its window: the decoder gives features."""

    def __init__(self, pixels: BinaryPixels | LevelPixels, likelihood: Autoregressive):
        self.pixels = pixels
        self.window = Window(likelihood)

    def push(self, stack, x, params):
        values = self.pixels.values(x)
        all_params = in_blocks(x.shape, lambda rows: self.window.params(values[rows], params(rows)))
        parts = self.pixels.decisions_for(x, all_params)  # (decisions, images, height, width, ...)
        stack.push(*(part.transpose(2, 3, 0, 1, *range(4, part.ndim)) for part in parts))

    def pop(self, stack, shape, params):
        popped = []

        def draw(params_of_pixel: np.ndarray) -> np.ndarray:
            popped.append(self.pixels.pop(stack, params_of_pixel))
            return self.pixels.values(popped[-1])

        self.window.fill_in_order(in_blocks(shape, params), draw)
        return np.stack(popped, axis=1).reshape(shape)


class NormalCodes:
    """p(z) or p(z|y) of latents that are independent given y: moments, (classes or 1, latent)."""

    def __init__(self, prior: Prior):
        if isinstance(prior, GaussianPrior):
            self.means = small_values(prior.means)
            self.inverse_stds = tables()["inverse_std"](small_values(prior.logvars))
        else:
            self.means = np.zeros((1, prior.latent_size))
            self.inverse_stds = np.full((1, prior.latent_size), float(ONE))

    def distribution(self, classes: np.ndarray | None, num: int, grid: Grid):
        rows = np.zeros(num, int) if classes is None or len(self.means) == 1 else classes
        return decisions.normal(self.means[rows], self.inverse_stds[rows], grid)

    def push(self, stack: Stack, numbers: np.ndarray, classes: np.ndarray | None, grid: Grid = FINE) -> None:
        decisions.push(stack, numbers, self.distribution(classes, len(numbers), grid), grid.bits)

    def pop(self, stack: Stack, num: int, classes: np.ndarray | None, grid: Grid = FINE) -> np.ndarray:
        return decisions.pop(stack, (num, self.means.shape[1]), self.distribution(classes, num, grid), grid.bits)


class MixtureCodes:
    """p(z|y) latent by latent, each a mixture given those before it."""

    def __init__(self, prior: MixturePrior):
        self.network = MaskedNetwork(prior.network)
        self.num_classes, self.latent_size = prior.num_classes, prior.latent_size

    def mixtures(self, z: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        one_hot = np.eye(self.num_classes)[classes] if self.num_classes else None
        logits, means, raw_logvars = np.split(self.network(z, one_hot), 3, axis=1)
        component_weights = tables()["weight"](logits - logits.max(axis=1, keepdims=True))
        return component_weights, means, tables()["inverse_std"](raw_logvars)

    def push(self, stack, numbers, classes, grid=FINE):
        mixture = decisions.normal_mixture(*self.mixtures(grid.values(numbers), classes), grid)
        parts = decisions.decisions_for(numbers, mixture, grid.bits)
        stack.push(*(part.transpose(2, 0, 1) for part in parts))  # (latent, decisions, images)

    def pop(self, stack, num, classes, grid=FINE):
        numbers = np.zeros((num, self.latent_size), np.int64)
        for i in range(self.latent_size):
            parts = (part[:, :, i : i + 1] for part in self.mixtures(grid.values(numbers), classes))
            mixture = decisions.normal_mixture(*parts, grid.of_latent(i))
            numbers[:, i : i + 1] = decisions.pop(stack, (num, 1), mixture, grid.bits)
        return numbers


PRIORS = {StandardNormalPrior: NormalCodes, GaussianPrior: NormalCodes, MixturePrior: MixtureCodes}


class LossyModel:
    """q(z|x, y), p(z|y) and p(y) of a trained model. Images are uint8, (n, height, width, channels), classes are
    numbers, (n,), or None where the model is not conditional.

    Args:
        model: from `vae.build_model`, trained.
        class_probs: p(y), (classes,); a conditional model needs them.

    Raises:
        CodingError: for a model that cannot code.
    """

    def __init__(self, model: keras.Model, class_probs: Sequence[float] | None = None):
        self.pixels = self.pixels_for(model)
        if len(model.arguments["data_shape"]) != 3:
            raise CodingError("it is a model of points, and only images are compressed")
        if type(model.prior) not in PRIORS:
            raise CodingError(
                "its flow prior has no distribution of one latent after the other, which coding needs: train with "
                "--prior mixture or gaussian"
            )
        self.data_shape = tuple(model.arguments["data_shape"])
        self.num_classes = model.arguments["num_classes"] if model.is_conditional else 0
        if self.num_classes and class_probs is None:
            raise CodingError(
                "its examples have several labels at a time, or it does not say how frequent each class is"
            )
        self.latent_size = model.prior.latent_size
        self.encoder = exact(model.encoder)
        self.label_reaches_encoder = model.labels_reach_encoder
        self.prior = PRIORS[type(model.prior)](model.prior)
        if self.num_classes:
            self.class_masses = to_grid(np.asarray(class_probs)).astype(np.int64) + 1
        self.digest = digest_of(model, class_probs)

    def pixels_for(self, model: keras.Model) -> BinaryPixels | LevelPixels:
        return LevelPixels()

    def one_hot(self, classes: np.ndarray | None) -> np.ndarray | None:
        return np.eye(self.num_classes)[classes] if self.num_classes else None

    def moments(self, x: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and 1 / std of q(z|x) or q(z|x, y): (n, latent) each."""
        if not len(x):
            return np.ones((2, 0, self.latent_size))
        one_hot = self.one_hot(classes) if self.label_reaches_encoder else None

        def of_block(rows: slice) -> np.ndarray:
            moments = self.encoder(self.pixels.values(x[rows]), None if one_hot is None else one_hot[rows])
            return np.stack(moments, axis=1)

        mean, inverse_std = np.moveaxis(in_blocks(x.shape, of_block), 1, 0)
        return mean, inverse_std

    def push_class(self, stack: Stack, classes: np.ndarray | None) -> None:
        if self.num_classes:
            decisions.push(stack, classes.astype(np.int64), *decisions.classes(self.class_masses))

    def pop_class(self, stack: Stack, num: int) -> np.ndarray | None:
        if not self.num_classes:
            return None
        distribution, num_bits = decisions.classes(self.class_masses)
        return np.minimum(decisions.pop(stack, (num,), distribution, num_bits), self.num_classes - 1)


class LosslessModel(LossyModel):
    """Also p(x|z) or p(x|z, y). Binary images are 0 and 1."""

    def __init__(self, model: keras.Model, class_probs: Sequence[float] | None = None):
        super().__init__(model, class_probs)
        self.likelihood = (InOrder if has_order(model) else Independent)(self.pixels, model.likelihood)
        self.decoder = exact(model.decoder)
        self.label_reaches_decoder = model.labels_reach_decoder

    def pixels_for(self, model):
        pixel = model.likelihood.pixel if has_order(model) else model.likelihood
        if type(pixel) not in PIXELS:
            raise CodingError(
                "its likelihood is a density, which gives pixels no probability: train with --likelihood logistic and "
                "--prior mixture or gaussian, or compress with --lossy"
            )
        return PIXELS[type(pixel)]()

    def decoder_output(self, numbers: np.ndarray, classes: np.ndarray | None) -> Callable[[slice], np.ndarray]:
        """What the decoder makes of some rows of these codes: parameters of p(x|z), or features of pixels in order."""
        z = FINE.values(numbers)
        if not self.label_reaches_decoder:
            return lambda rows: self.decoder(z[rows])
        one_hot = self.one_hot(classes)
        return lambda rows: self.decoder(z[rows], one_hot[rows])


def has_order(model: keras.Model) -> bool:
    return isinstance(model.likelihood, Autoregressive)


def in_blocks(shape: Shape, function: Callable[[slice], np.ndarray]) -> np.ndarray:
    """The results of a function for all rows of images of this shape, block by block."""
    size = max(1, BLOCK // (shape[1] * shape[2]))
    return np.concatenate([function(slice(start, start + size)) for start in range(0, shape[0], size)])


def digest_of(model: keras.Model, class_probs: Sequence[float] | None) -> bytes:
    """16 bytes that stand for all that coding depends on: the weights, how they are used, and the tables."""
    probs = None if class_probs is None else [float(prob) for prob in class_probs]
    arguments = {name: value for name, value in model.arguments.items() if value is not None}
    digest = hashlib.sha256(json.dumps([arguments, probs], sort_keys=True).encode())
    for variable in model.weights:
        digest.update(np.asarray(variable, "<f4").tobytes())
    for table in tables().values():
        digest.update(table.whole_entries.astype("<i8").tobytes())
    return digest.digest()[:16]
