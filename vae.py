"""The variational autoencoder, conditional and lossy ones, as keras.Models with custom train and test steps.

Notation (Kingma and Welling 2014): the encoder gives the posterior q(z|x), the prior is p(z), the decoder with the
likelihood gives p(x|z). All terms are in nats per example:

    distortion = -log p(x|z)                    z ~ q(z|x)
    rate       = KL(q(z|x) || p(z))
    elbo       = -(distortion + rate) <= log p(x)
    loss       = distortion + beta * rate       averaged over the batch; also warm-up and free bits, never in the elbo
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parts import catalogue
from parts.augmentation import AUGMENTATIONS, adversarial
from parts.autoregressive import Autoregressive
from parts.likelihoods import LIKELIHOODS, Likelihood, sum_per_example
from parts.networks import NETWORKS, Classifier, Decoder, PixelLayers, Stack, computing_in, default_keras_settings
from parts.priors import PRIORS, normal_log_prob
from parts.replicas import batch_mean, batch_normal, share_of_replica
from parts.targets import balanced, sharpened
from storage.checkpoints import CheckpointError, load_weights, read_header
from trained.model import TrainedModel

# Of random numbers in an M2's step: unlabelled images changed, labelled codes, labelled images changed.
STREAMS = range(100, 103)
SAMPLE_BLOCK = 500  # codes that are decoded at once
FIRST_PIXEL_DIMS = (32, 32)  # of a VLAE whose checkpoint does not say


class VAE(keras.Model):
    """q(z|x), p(z), p(x|z); p(z) is N(0, I) or learned.

    Args:
        encoder, decoder, prior, likelihood: the parts, see networks.py and likelihoods.py.
        beta: weight of the rate in the loss (Higgins et al. 2017).
        warmup_steps: training steps over which that weight grows linearly from 0 to beta.
        free_bits: nats that each latent may spend before its rate counts in the loss (Kingma et al. 2016, eq. 15).

    Batches are (x, labels, seed): data (batch, ...) float32, labels (batch, classes) float32, and the int32 seed of
    shape (2,) from which all noise of the step is drawn, so that a step is a pure function of weights and batch.
    """

    is_conditional = False  # whether it needs labels
    infers_labels = False  # whether training examples may lack them
    labels_reach_prior = False  # whether a learned prior is p(z|y), not p(z)
    labels_reach_encoder = False  # whether the encoder is given the label too
    labels_reach_decoder = False  # whether the decoder is
    prior_options: Mapping[str, Mapping[str, float]] = {"flow": {"logvar_bound": 3.0}}  # arguments of priors, by name
    takes_window = False  # whether p(x|z) may also see a window of earlier pixels
    optimizer_name = "adam"  # see training/optimizers.py

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        prior: keras.layers.Layer,
        likelihood: Likelihood,
        *,
        beta: float = 1.0,
        warmup_steps: int = 0,
        free_bits: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.likelihood = likelihood
        self.beta = beta
        self.warmup_steps = warmup_steps
        self.free_bits = free_bits
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "elbo", "rate", "distortion")]
        self.finite_steps = keras.metrics.Sum(name="finite_steps")  # how many steps had a finite loss

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self.trackers, self.finite_steps]

    @property
    def bound_on(self) -> str:
        """What the ELBO is a lower bound of."""
        return "log p(x|y)" if self.is_conditional else "log p(x)"

    @property
    def p_x_notation(self) -> str:
        return "p(x|z, y)" if self.labels_reach_decoder else "p(x|z)"

    @property
    def p_z_notation(self) -> str:
        return "p(z|y)" if self.prior.num_classes else "p(z)"

    @property
    def rates_are_per_latent(self) -> bool:
        """Whether the summands of the rate belong to one latent each."""
        return self.prior.rates_are_per_latent

    def condition(self, labels: tf.Tensor | None) -> tf.Tensor | None:
        """What the parts that know labels are given besides x and z: here nothing."""
        return None

    # Objective

    def terms(self, x: tf.Tensor, labels: tf.Tensor | None, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The terms of the bound at one sample z ~ q(z|x): distortion (batch,), rate of each latent (batch, latent)."""
        condition = self.condition(labels)
        mean, logvar = self.posterior(x, condition)
        z = reparameterize(mean, logvar, seed)
        distortion = -self.likelihood.log_prob(x, self.likelihood_params(z, condition))
        return distortion, self.prior.latent_rates(mean, logvar, z, condition)

    def objective(self, distortion: tf.Tensor, latent_rates: tf.Tensor) -> tf.Tensor:
        """The training loss of a batch: a scalar, in nats per example."""
        rates = tf.reduce_mean(latent_rates, axis=0)  # (latent,)
        if self.free_bits > 0:
            rates = tf.maximum(batch_mean(latent_rates), self.free_bits)
        return tf.reduce_mean(distortion) + self.rate_weight() * tf.reduce_sum(rates)

    def rate_weight(self) -> tf.Tensor | float:
        """beta, or the share of it that the warm-up has reached."""
        if self.warmup_steps == 0:
            return self.beta
        step = tf.cast(self.optimizer.iterations, tf.float32)
        return self.beta * tf.minimum(1.0, step / self.warmup_steps)

    def loss_and_terms(self, x, labels, seed) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The training loss of a batch, and the terms of its bound."""
        distortion, latent_rates = self.terms(x, labels, seed)
        return self.objective(distortion, latent_rates), distortion, latent_rates

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss, *terms = self.loss_and_terms(*data)
            share = share_of_replica(loss)
        gradients = tape.gradient(share, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.track(loss, *terms)

    def test_step(self, data):
        return self.track(*self.loss_and_terms(*data))

    def track(self, loss, distortion, latent_rates) -> dict[str, tf.Tensor]:
        """Add a batch to the running means; every example counts the same, also in a smaller last batch."""
        rate = sum_per_example(latent_rates)
        losses = tf.fill(tf.shape(rate), loss)
        for tracker, values in zip(self.trackers, (losses, -(distortion + rate), rate, distortion), strict=True):
            tracker.update_state(values)
        self.finite_steps.update_state(tf.math.is_finite(loss))
        return {metric.name: metric.result() for metric in self.metrics}

    def posterior(self, x: tf.Tensor, condition: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and logvar of q(z|x) or q(z|x, y): (batch, latent) each."""
        return self.encoder(x, condition if self.labels_reach_encoder else None)

    def likelihood_params(self, z: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        """The parameters of p(x|z) or p(x|z, y), as the likelihood reads them."""
        return self.decoder(z, condition) if self.labels_reach_decoder else self.decoder(z)

    def start_at_mean(self, mean: tf.Tensor) -> None:
        """Have the untrained decoder map every code to about the data's mean, (height, width, channels)."""
        owner = self.decoder if self.likelihood.has_mean else self.likelihood
        owner.offset.assign(self.likelihood.params_of_mean(mean))

    # Use of a trained model

    def call(self, x, labels=None):
        return self.reconstruct(x, labels)

    def class_probs(self, frequencies: np.ndarray | None) -> np.ndarray | None:
        """p(y), (classes,), where `frequencies` are those of the classes in the training data, if there are any."""
        return frequencies

    def encode(self, x: tf.Tensor, labels: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """x (batch, ...) -> mean and logvar of q(z|x), (batch, latent) each."""
        return self.posterior(x, self.condition(labels) if self.labels_reach_encoder else None)

    def decode(self, z: tf.Tensor, labels: tf.Tensor | None = None, seed: int = 0, first: int = 0) -> tf.Tensor:
        """z (batch, latent) -> the mean of p(x|z), of the shape of the data; a draw from it where it has no mean.
        `first` is the number of the first code, if many are decoded in several calls."""
        params = self.likelihood_params(z, self.condition(labels) if self.labels_reach_decoder else None)
        return self.likelihood.mean(params) if self.likelihood.has_mean else self.draw(params, seed, first)

    def reconstruct(self, x: tf.Tensor, labels: tf.Tensor | None = None, seed: int = 0) -> tf.Tensor:
        """x encoded and decoded: `decode` at the posterior mean of z."""
        mean, _ = self.encode(x, labels)
        return self.decode(mean, labels, seed)

    def sample(self, num: int, labels: tf.Tensor | None = None, seed: int = 0, *, show_mean: bool = True) -> tf.Tensor:
        """`num` draws z ~ p(z), each shown by `decode` or as a draw from p(x|z); the same for the same seed."""
        condition = self.condition(labels)
        z = self.prior.sample(num, tf.constant([seed, 0]), condition)
        blocks = []
        for start in range(0, num, SAMPLE_BLOCK):
            rows = slice(start, start + SAMPLE_BLOCK)
            params = self.likelihood_params(z[rows], None if condition is None else condition[rows])
            is_mean = show_mean and self.likelihood.has_mean
            blocks.append(self.likelihood.mean(params) if is_mean else self.draw(params, seed, start))
        return tf.concat(blocks, axis=0)

    def draw(self, params: tf.Tensor, seed: int, first: int = 0) -> tf.Tensor:
        """x ~ p(x|z), of the shape of the data; `first` is its number, if many are drawn in several calls."""
        return self.likelihood.sample(params, tf.constant([seed, 1 + first]))

    def log_weight(self, x, z, mean, logvar, condition) -> tf.Tensor:
        """log of the importance weight p(x, z) / q(z|x), for z ~ q(z|x) of these moments: (batch,) in nats. On average
        over z the weight is p(x)."""
        log_ratios = self.prior.log_prob(z, condition) - normal_log_prob(z, mean, logvar)
        return self.likelihood.log_prob(x, self.likelihood_params(z, condition)) + sum_per_example(log_ratios)


class CVAE(VAE):
    """q(z|x, y), N(0, I) or a learned p(z|y), p(x|z, y): the one-hot label y is given to encoder, decoder and a learned
    prior (Sohn et al. 2015)."""

    is_conditional = True
    labels_reach_prior = True
    labels_reach_encoder = True
    labels_reach_decoder = True

    def condition(self, labels):
        return required(labels)


class M2(CVAE):
    """A CVAE whose class is latent where no label is known: q(y|x), q(z|x, y), p(y), p(z) or p(z|y), p(x|z, y) (Kingma
    et al. 2014, "Semi-supervised learning with deep generative models").

    With the label, terms and bound are the CVAE's. Without it, eq. 7 holds, with a sum over all classes:

        U(x) = sum_y q(y|x) (distortion + rate)(x, y) + KL(q(y|x) || p(y)) >= -log p(x)

    The loss of a batch adds `classification_weight` times the cross-entropy of q(y|x) on its labelled examples (eq. 9),
    and `consistency` times that between q(y|x) of an unlabelled image that `augmentation` has changed and of the image
    as it is, see `inconsistency`. With `consistency` the images of eq. 9 are changed too. beta, warm-up and free bits
    do not concern KL(q(y|x) || p(y)).

    Args:
        classifier: q(y|x), data -> logits (batch, classes).
        class_prior: p(y), (classes,), all above 0.
        augmentation: a name in AUGMENTATIONS, or "adversarial", which leaves the images of eq. 9 as they are.
        classifier_warmup_steps: steps in which q(y|x) learns without U(x), see `classifier_gradient_scale`.

    The labels of a batch are those of its first examples; the others have none.
    """

    infers_labels = True

    def __init__(
        self,
        *parts,
        classifier: Classifier,
        class_prior: Sequence[float],
        classification_weight: float = 1.0,
        consistency: float = 0.0,
        augmentation: str = "shift",
        classifier_warmup_steps: int = 0,
        **kwargs,
    ):
        super().__init__(*parts, **kwargs)
        self.classifier = classifier
        self.class_prior = np.asarray(class_prior)
        self.classification_weight = classification_weight
        self.consistency = consistency
        self.augment = None if augmentation == "adversarial" else AUGMENTATIONS[augmentation]
        self.classifier_warmup_steps = classifier_warmup_steps
        self.error = keras.metrics.Mean(name="error")  # of q(y|x) on held-out data

    @property
    def metrics(self):
        return [*super().metrics, self.error]

    def test_step(self, data):
        x, labels, _ = data
        self.error.update_state(tf.argmax(self.class_logits(x), axis=1) != tf.argmax(labels, axis=1))
        return super().test_step(data)

    def loss_and_terms(self, x, labels, seed):
        """As VAE.loss_and_terms. Where the label is unknown, KL(q(y|x) || p(y)) is a further column of the rates."""
        num = labels.shape[0]
        if num is None or num == x.shape[0]:
            loss, *terms = super().loss_and_terms(x, labels, seed)
            return loss + self.classification_weight * self.classification_loss(x, labels), *terms
        seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in STREAMS]
        distortion, latent_rates, class_rate = self.unlabelled_terms(x[num:], seed, self.classifier_gradient_scale())
        loss = tf.reduce_sum(class_rate) / x.shape[0]
        if self.consistency:
            loss += self.consistency * self.inconsistency(x[num:], seeds[0])
        if num:
            labelled = self.terms(x[:num], labels, seeds[1])
            distortion = tf.concat([labelled[0], distortion], axis=0)
            latent_rates = tf.concat([labelled[1], latent_rates], axis=0)
            class_rate = tf.concat([tf.zeros(num), class_rate], axis=0)
            known = self.augment(x[:num], seeds[2]) if self.consistency and self.augment else x[:num]
            loss += self.classification_weight * self.classification_loss(known, labels)
        loss += self.objective(distortion, latent_rates)
        return loss, distortion, tf.concat([latent_rates, class_rate[:, None]], axis=1)

    def unlabelled_terms(
        self, x: tf.Tensor, seed: tf.Tensor, gradient_scale: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The terms of the bound on log p(x) by the sum over classes: distortion (batch,) and rate of each latent
        (batch, latent), averaged over q(y|x), and KL(q(y|x) || p(y)), (batch,). `gradient_scale` multiplies their
        gradients with respect to q(y|x)."""
        logits = self.class_logits(x, gradient_scale)
        probs, num_classes = tf.nn.softmax(logits), logits.shape[-1]
        y = tf.tile(tf.eye(num_classes), [tf.shape(x)[0], 1])  # (batch * classes, classes)
        mean, logvar = self.encoder.posterior(tf.repeat(self.encoder.body(x), num_classes, axis=0), y)
        noise = tf.repeat(batch_normal(tf.stack([tf.shape(x)[0], mean.shape[-1]]), seed), num_classes, axis=0)
        z = mean + tf.exp(0.5 * logvar) * noise  # the same noise for every class: their differences count
        distortion = -self.likelihood.log_prob(tf.repeat(x, num_classes, axis=0), self.likelihood_params(z, y))
        latent_rates = self.prior.latent_rates(mean, logvar, z, y)
        distortion = tf.reduce_sum(probs * tf.reshape(distortion, (-1, num_classes)), axis=1)
        return distortion, averaged(latent_rates, probs), class_rates(logits, self.class_prior)

    def classifier_input(self, x: tf.Tensor) -> tf.Tensor:
        """What q(y|x) reads."""
        return x

    def class_logits(self, x: tf.Tensor, gradient_scale: tf.Tensor | None = None) -> tf.Tensor:
        """The logits of q(y|x), (batch, classes), their gradients multiplied by `gradient_scale`."""
        logits = self.classifier(self.classifier_input(x))
        if gradient_scale is None:
            return logits
        return gradient_scale * logits + (1.0 - gradient_scale) * tf.stop_gradient(logits)

    def classifier_gradient_scale(self) -> tf.Tensor | None:
        """The factor on the gradient of U(x) with respect to q(y|x): 0 in the first `classifier_warmup_steps`, then
        linearly more in as many again, up to 1."""
        if not self.classifier_warmup_steps:
            return None
        step = tf.cast(self.optimizer.iterations, tf.float32)
        return tf.clip_by_value(step / self.classifier_warmup_steps - 1.0, 0.0, 1.0)

    def classification_loss(self, x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The mean of -log q(y|x), in nats: a scalar."""
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, self.class_logits(x)))

    def inconsistency(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The mean cross-entropy of q(y|changed x) to targets, q(y|x), in nats: a scalar.

        The targets are by the averaged weights (Tarvainen and Valpola 2017). Where the change is adversarial they are
        by the weights as they are, as in its paper, and `sharpened`.
        """
        if self.augment:
            targets, changed = self.targets(self.averaged_logits(x)), self.augment(x, seed)
        else:
            targets = sharpened(self.targets(self.class_logits(x)))
            changed = adversarial(x, seed, lambda examples: self.classification_loss(examples, targets))
        return self.classification_loss(changed, targets)

    def averaged_logits(self, x: tf.Tensor) -> tf.Tensor:
        """The logits of q(y|x) by the averaged weights, (batch, classes)."""
        if not hasattr(self.optimizer, "averages_of"):
            raise ValueError("consistency needs an optimizer that averages the weights, see training/optimizers.py")
        averages = self.optimizer.averages_of(self.classifier.trainable_variables)
        logits, _ = self.classifier.stateless_call(averages, [], self.classifier_input(x))
        return logits

    def targets(self, logits: tf.Tensor) -> tf.Tensor:
        """q(y|x) from its logits, `balanced`, as a constant: (batch, classes)."""
        return tf.stop_gradient(balanced(tf.nn.softmax(logits), self.class_prior))

    def class_probs(self, frequencies):
        return self.class_prior

    def classify(self, x: tf.Tensor) -> tf.Tensor:
        """q(y|x), (batch, classes)."""
        return tf.nn.softmax(self.class_logits(x))


class M1M2(M2):
    """M2 on the codes of a VAE that has seen all examples without labels: p(y), p(z|y), p(x|z), q(z|x) and q(y|x)
    (M1+M2 of Kingma et al. 2014).

    The encoder and the decoder are that VAE's, and training leaves them as they are. The learned p(z|y) is a density in
    closed form, where the paper has a second latent and a bound. The label reaches x only through the code.

    Args:
        classifies_codes: whether q(y|x) reads the mean of q(z|x), not x itself.
    """

    labels_reach_encoder = False
    labels_reach_decoder = False

    def __init__(self, *parts, classifies_codes: bool = True, **kwargs):
        super().__init__(*parts, **kwargs)
        self.classifies_codes = classifies_codes
        self.encoder.trainable = self.decoder.trainable = self.likelihood.trainable = False

    def take_features(self, vae: VAE) -> None:
        """Take over the encoder, decoder and likelihood of a trained VAE of the same arguments."""
        for name in ("encoder", "decoder", "likelihood"):
            getattr(self, name).set_weights(getattr(vae, name).get_weights())

    def classifier_input(self, x):
        return self.encoder(x)[0] if self.classifies_codes else x

    def unlabelled_terms(self, x, seed, gradient_scale=None):
        """As M2.unlabelled_terms, with one code for all classes: only its rate depends on the class."""
        logits = self.class_logits(x, gradient_scale)
        probs, num_classes = tf.nn.softmax(logits), logits.shape[-1]
        mean, logvar = self.encoder(x)
        z = reparameterize(mean, logvar, seed)
        distortion = -self.likelihood.log_prob(x, self.decoder(z))
        y = tf.tile(tf.eye(num_classes), [tf.shape(x)[0], 1])  # (batch * classes, classes)
        latent_rates = self.prior.latent_rates(*(tf.repeat(part, num_classes, axis=0) for part in (mean, logvar, z)), y)
        return distortion, averaged(latent_rates, probs), class_rates(logits, self.class_prior)


def averaged(latent_rates: tf.Tensor, probs: tf.Tensor) -> tf.Tensor:
    """Rates (batch * classes, latent), averaged over the classes by probs (batch, classes): (batch, latent)."""
    latent_rates = tf.reshape(latent_rates, (-1, probs.shape[-1], latent_rates.shape[-1]))
    return tf.reduce_sum(probs[..., None] * latent_rates, axis=1)


def class_rates(logits: tf.Tensor, class_prior: np.ndarray) -> tf.Tensor:
    """KL(q(y|x) || p(y)) from the logits of q(y|x), (batch, classes), and p(y), (classes,): (batch,) in nats."""
    log_probs = tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(log_probs) * (log_probs - np.log(class_prior)), axis=1)


class VLAE(VAE):
    """q(z|x, y), learned p(z|y), p(x|z) = prod_i p(x_i | z, window_i(x)): the variational lossy autoencoder of Chen et
    al. (2016), made class-conditional. The likelihood sees the pixels nearby, so the code need only store the rest.

    The label reaches x only through the code. With a prior without classes it is q(z|x) and p(z).
    """

    labels_reach_prior = True
    labels_reach_encoder = True
    prior_options: Mapping[str, Mapping[str, float]] = {}  # its gradients are clipped
    takes_window = True
    optimizer_name = "muon"

    @property
    def is_conditional(self):
        return self.prior.num_classes > 0

    def condition(self, labels):
        return required(labels) if self.is_conditional else None


def required(labels: tf.Tensor | None) -> tf.Tensor:
    if labels is None:
        raise ValueError("a conditional model needs labels, one-hot, (batch, classes)")
    return labels


def reparameterize(mean: tf.Tensor, logvar: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """z = mean + std * noise, differentiable in mean and logvar (Kingma and Welling 2014, eq. 4)."""
    noise = batch_normal(tf.shape(mean), seed)
    return mean + tf.exp(0.5 * logvar) * noise


MODELS = {name: globals()[entry.class_name] for name, entry in catalogue.MODELS.items()}


@default_keras_settings()
def build_model(
    model: str,
    *,
    data_shape: Sequence[int],
    num_classes: int = 0,
    latent_size: int = 15,
    network: str = "mlp",
    hidden_dims: Sequence[int] | None = None,
    activation: str = "gelu",
    likelihood: str = "bernoulli",
    prior: str = "standard",
    window: int = 0,
    pixel_dims: Sequence[int] | None = None,
    classifier: str | None = None,
    class_prior: Sequence[float] | None = None,
    mixed_precision: bool = False,
    **objective,
) -> VAE:
    """A model with its weights, from plain values; a checkpoint stores them as `model.arguments`.

    Args:
        model, network, likelihood, prior: names in MODELS, NETWORKS, LIKELIHOODS and PRIORS.
        data_shape: (height, width, channels) of an image, or (2,) for points.
        num_classes: width of the one-hot labels; 0 for a VLAE that ignores those of its batches.
        window: width of the pixels' window in a VLAE; 0 for pixels independent given z.
        pixel_dims: widths of a VLAE's layers behind the window; None for those of models that were saved before these
            could be chosen.
        classifier: the network of q(y|x) in an M2, a name in NETWORKS.
        class_prior: p(y) of an M2, (classes,), all above 0; None for a uniform one.
        mixed_precision: whether the networks compute in bfloat16, except in their last layers. The weights are
            float32 and work without it, so it is not among the arguments that a checkpoint stores.
        objective: beta, warmup_steps, free_bits; see VAE. Of an M2 also classification_weight, consistency,
            augmentation and classifier_warmup_steps.

    Raises:
        ValueError: for parts that do not fit the data or one another.
    """
    model_class = MODELS[model]
    if window and not model_class.takes_window:
        raise ValueError(f"a {model} has no window")
    if catalogue.MODELS[model].labels == "always" and not num_classes:
        raise ValueError(f"a {model} needs num_classes")
    parts = NETWORKS[network]
    widths = tuple(hidden_dims or catalogue.NETWORKS[network].hidden_dims)
    policy = "mixed_bfloat16" if mixed_precision else "float32"

    def make_body(output_shape: Sequence[int], kind: str = "decoder") -> keras.layers.Layer:
        return parts[kind](widths, output_shape, activation)

    p_x = LIKELIHOODS[likelihood]()
    output_shape = (*data_shape[:-1], data_shape[-1] * p_x.params_per_channel)
    with computing_in(policy):
        encoder = parts["encoder"](widths, latent_size, activation)
        if model_class.takes_window and len(data_shape) == 3:
            decoder, p_x = make_feature_decoder(make_body, p_x, output_shape, data_shape, window, pixel_dims)
        else:
            decoder = Decoder(make_body(output_shape), output_shape)
    prior_classes = num_classes if model_class.labels_reach_prior else 0
    p_z = PRIORS[prior](latent_size, prior_classes, **model_class.prior_options.get(prior, {}))
    if model_class.infers_labels:
        classifier = classifier or ("mlp" if catalogue.MODELS[model].takes_features else network)
        with computing_in(policy):
            own = NETWORKS[classifier]["encoder"](catalogue.NETWORKS[classifier].hidden_dims, latent_size, activation)
            objective["classifier"] = Classifier(own, num_classes)
        objective["class_prior"] = class_prior or [1 / num_classes] * num_classes
    if catalogue.MODELS[model].takes_features:
        objective["classifies_codes"] = catalogue.NETWORKS[classifier].reads_points
    label_is_used = model_class.labels_reach_encoder or model_class.labels_reach_decoder or p_z.num_classes
    if catalogue.MODELS[model].labels == "always" and not label_is_used:
        raise ValueError(f"the {model} needs a prior that knows classes: gaussian, flow or mixture")
    built = model_class(encoder, decoder, p_z, p_x, **objective)
    x, labels = tf.zeros((1, *data_shape)), tf.zeros((1, num_classes))
    built.terms(x, labels, tf.constant([0, 0]))  # creates the weights
    if model_class.infers_labels:
        built.classify(x)
    built.built = True
    built.arguments = {
        "model": model,
        "data_shape": list(data_shape),
        "num_classes": num_classes,
        "latent_size": latent_size,
        "network": network,
        "hidden_dims": list(widths),
        "activation": activation,
        "likelihood": likelihood,
        "prior": prior,
        "window": window,
        "pixel_dims": list(pixel_dims) if pixel_dims else None,
        "classifier": classifier,
        "class_prior": class_prior,
    }
    return built


def load(path: str | os.PathLike) -> TrainedModel:
    """The model of a checkpoint, ready for use: `load(path).sample(10)`. Its Keras model, without the optimizer, is
    `load(path).model`.

    Raises:
        CheckpointError: if there is no such file, it is damaged or no checkpoint, or what it holds is newer than this
            program.
    """
    header = read_header(path)
    try:
        model = build_model(**header["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a model that cannot be built here: {error}") from error
    load_weights(model, path)
    return in_use(model, header, path)


def in_use(model: VAE, header: Mapping[str, Any], path: str | os.PathLike) -> TrainedModel:
    """The model with what the header of its checkpoint, at `path`, says about its classes and pixels.

    Raises:
        CheckpointError: if that does not fit the model.
    """
    try:  # a program of the user's own may have written the checkpoint without these, or otherwise
        data, config = header.get("dataset", {}), header.get("config", {})
        binarize = config.get("binarize", "none")
        return TrainedModel(model, data.get("class_names", ()), binarize=binarize, class_probs=data.get("class_probs"))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a header that cannot be used here: {error}") from error


def make_feature_decoder(
    make_body: Callable[..., keras.layers.Layer],
    p_x: Likelihood,
    output_shape: Sequence[int],
    data_shape: Sequence[int],
    window: int,
    pixel_dims: Sequence[int] | None,
) -> tuple[keras.layers.Layer, Likelihood]:
    """The decoder of a VLAE, whose body `make_body` makes from the shape of its output, and the likelihood, with `p_x`
    for each pixel. The decoder makes a map of features, which each pixel joins with its window. Without a window the
    layers behind it belong to the decoder, and the likelihood is `p_x`."""
    kind, masked = ("feature_decoder", True) if pixel_dims else ("decoder", False)
    pixel_dims = pixel_dims or FIRST_PIXEL_DIMS
    features = make_body((*data_shape[:-1], pixel_dims[0]), kind)
    if not window:
        return Decoder(Stack([features, PixelLayers(pixel_dims, output_shape[-1])]), output_shape), p_x
    if data_shape[-1] == 3:
        p_x = p_x.of_colour_pixels()
    return features, Autoregressive(p_x, data_shape, window, pixel_dims, masked=masked)
