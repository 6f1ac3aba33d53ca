"""Examples of which a part is missing, completed: draws from p(x_missing | x_known)."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from parts.likelihoods import sum_per_example
from parts.priors import normal_log_prob
from trained.importance import log_of

CHAINS, FEW = 100, 20  # that run at once, or where they are fewer; always padded, so there are two compilations
STARTS = 8  # codes from the prior, of which each chain starts at one
FREE_MOVES, MOVES = 20, 30  # of a chain: those that are always made, and those that may be rejected
ANY_CLASS = 0.1  # share of p(y) in the classes that are proposed
STARTING, MOVING, DRAWING = range(3)  # streams of noise

State = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


class Completer:
    """Completes examples under one model, by a Markov chain over codes z and what is missing of x.

    From (z, x) a move proposes z' ~ q(z|x), and x' with the known dimensions of x and new missing ones, given z'. It
    is accepted with the probability min(1, w(z', x' | x) / w(z, x | x')), where

        w(z, x | x_from) = p(z) K(z, x) / q(z|x_from)    K(z, x) = the product of p(x_i | z, x_<i) over the known i

    So p(z, x_missing | x_known) is the stationary distribution (Metropolis within Gibbs: Mattei and Frellsen 2018,
    section 3.3). An autoregressive p(x|z) draws x'_missing pixel by pixel around the known ones, and these draws cancel
    from the ratio. Where p(x|z) has a mean, x'_missing is that mean: K does not depend on what is missing, so the chain
    is one over z alone, and the encoder sees no noise of pixels.

    In every second move z' is not the encoder's: the noise that the prior makes z of is mixed with a random share of
    new noise. The prior is stationary under that, so w is K alone (Neal 1999; preconditioned Crank-Nicolson). So every
    code is reached, however poor the encoder is; what a finite chain leaves is the distance from its start.

    A chain starts at one of `STARTS` codes drawn from the prior, in proportion to K. Its first `free_moves` are always
    accepted (pseudo-Gibbs: Rezende et al. 2014, appendix F), which leads it quickly to where z explains x_known.

    Where the class is unknown, the class y belongs to the state of the chain too, with p(y) p(z|y) in the place of
    p(z). For each class a pilot chain makes the free moves. The mean of its w, times p(y), estimates p(x_known, y).
    Chains start in classes drawn by shares r(y) in proportion to that, with a little of p(y). Later the encoder's moves
    first propose a class in the same way.

    Compiled at the first use; the compiled functions live as long as this object.
    """

    def __init__(self, model: keras.Model, *, free_moves: int = FREE_MOVES, moves: int = MOVES):
        self.model = model
        self.free_moves, self.moves = free_moves, moves
        self.acceptance = float("nan")  # share of the moves that were accepted in the last call
        self.run = tf.function(self.run_chains, autograph=False)

    def fill_in(
        self,
        x: np.ndarray,
        known: np.ndarray,
        conditions: np.ndarray | None,
        num: int,
        seed: int,
        *,
        class_probs: np.ndarray | None = None,
        show_mean: bool = False,
        first: int = 0,
        progress: Callable[[int], None] = lambda num_chains: None,
    ) -> np.ndarray:
        """`num` completions of each example: (n, num, ...) float32, with the bits of x where it is known.

        Args:
            x: (n, ...) float32, as the model takes it. What it holds where it is missing does not matter.
            known: bool, of the shape of x; for images without the channel axis.
            conditions: (n, classes) float32 as the model takes them, of width 0 if it takes none; None for unknown
                classes.
            class_probs: p(y) where the classes are unknown, (classes,); by default all are equally probable.
            show_mean: the missing dimensions are the mean of p(x|z) at the z drawn, not draws, if it has a mean.
            first: the number of the first example, where many are completed in several calls.
            progress: called with the number of chains of each block that is done.
        """
        known = np.broadcast_to(known[..., None] if known.ndim < x.ndim else known, x.shape)
        x = np.where(known, x, 0.0).astype(np.float32)
        base = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), first)
        if conditions is None:
            num_classes = self.model.arguments["num_classes"]
            probs = np.full(num_classes, 1.0) if class_probs is None else np.asarray(class_probs, np.float64)
            log_p_y = log_of(probs / probs.sum())
            candidates = np.eye(num_classes, dtype=np.float32)[None]  # (1, classes, classes)
            pilot_seed, base = tf.unstack(tf.random.split(base, 2))
            log_r_y = self.class_proposals(x, known, candidates[0], log_p_y, pilot_seed)
        else:
            candidates, log_p_y = conditions[:, None], np.zeros(1)  # (n, 1, classes)
            log_r_y = np.zeros((len(x), 1))
        rows = np.repeat(np.arange(len(x)), num)
        chains = (
            x[rows],
            known[rows],
            np.broadcast_to(candidates, (len(x), *candidates.shape[1:]))[rows],
            np.broadcast_to(log_p_y, (len(x), len(log_p_y)))[rows],
            log_r_y[rows],
        )
        filled, _, accepted = self.in_blocks(chains, base, self.free_moves, self.moves, show_mean, progress)
        self.acceptance = float(np.mean(accepted))
        return filled.reshape(len(x), num, *x.shape[1:])

    def class_proposals(self, x, known, classes, log_p_y, seed) -> np.ndarray:
        """Logs of the shares r(y), by a pilot chain for each example and class: (n, classes)."""
        num_classes = len(classes)
        example, number = (axis.reshape(-1) for axis in np.indices((len(x), num_classes)))
        nothing = np.zeros((len(example), 1))
        chains = x[example], known[example], classes[number][:, None], nothing, nothing
        _, log_weights, _ = self.in_blocks(chains, seed, self.free_moves, 0)
        log_r_y = log_weights.reshape(len(x), num_classes) + log_p_y
        log_r_y -= np.logaddexp.reduce(log_r_y, axis=1, keepdims=True)
        return np.logaddexp(np.log(1 - ANY_CLASS) + log_r_y, np.log(ANY_CLASS) + log_p_y)

    def in_blocks(self, chains, seed, free_moves, moves, show_mean=False, progress=lambda num_chains: None):
        """Run any number of chains, `CHAINS` or `FEW` at a time; see `run_chains`."""
        results, total = [], len(chains[0])
        size = CHAINS if total >= CHAINS else FEW
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)  # the last chain again, as padding
            block = [tf.constant(part[rows], part.dtype if part.dtype == bool else tf.float32) for part in chains]
            block_seed = tf.random.experimental.stateless_fold_in(seed, start // size)
            done = self.run(*block, block_seed, tf.constant(free_moves), tf.constant(moves), show_mean=show_mean)
            results.append([part.numpy()[: total - start] for part in done])
            progress(len(results[-1][0]))
        return [np.concatenate(part) for part in zip(*results, strict=True)]

    def run_chains(self, x, known, candidates, log_p_y, log_r_y, seed, free_moves, moves, *, show_mean):
        """Run a block of chains; see `Chains`. `free_moves` and `moves` are scalars.

        Returns:
            x completed, (chains, ...); the log of the mean of w over the second half of the free moves, (chains,); and
            the share of the other moves that were accepted, (chains,).
        """
        chains = Chains(self.model, x, known, candidates, log_p_y, log_r_y, seed)
        zeros = tf.zeros(x.shape[0])
        state = chains.start()

        def step(i, *state_and_counts):
            *state, log_sum, accepted = state_and_counts
            is_free = i < free_moves
            state, log_w, accept = chains.move(i, is_free, state)
            counts = is_free & (i >= free_moves // 2)
            log_sum = tf.where(counts, tf.reduce_logsumexp([log_sum, log_w], axis=0), log_sum)
            return i + 1, *state, log_sum, accepted + tf.cast(accept & ~is_free, tf.float32)

        _, *state, log_sum, accepted = loop(free_moves + moves, step, (*state, zeros - np.inf, zeros))
        log_num = tf.math.log(tf.cast(free_moves - free_moves // 2, tf.float32))
        shares = accepted / tf.cast(tf.maximum(moves, 1), tf.float32)
        return chains.result(state, show_mean=show_mean), log_sum - log_num, shares


@dataclasses.dataclass(frozen=True)
class Chains:
    """A block of chains; see `Completer`. The state is (z, x completed, log K, y): y is a number among the candidates.

    Args:
        x, known: (chains, ...)
        candidates: (chains, candidates, classes), conditions among which a chain moves.
        log_p_y, log_r_y: (chains, candidates), the logs of p(y) and of the shares r(y) in which they are proposed.
        seed: of all noise.
    """

    model: keras.Model
    x: tf.Tensor
    known: tf.Tensor
    candidates: tf.Tensor
    log_p_y: tf.Tensor
    log_r_y: tf.Tensor
    seed: tf.Tensor

    def start(self) -> State:
        """Codes from the prior, each chosen among `STARTS` in proportion to K."""
        y = self.draw_class(self.seeds(STARTING, STARTS)[0])
        condition, num = self.condition(y), self.x.shape[0]

        def step(i, z, x, log_k, highest):
            seeds = self.seeds(STARTING, i)
            z_new = self.model.prior.from_noise(normal(tf.shape(z), seeds[0]), condition)
            x_new, log_k_new = self.complete(z_new, condition, seeds[1])
            # The highest sum with Gumbel noise is a draw in proportion to K.
            score = log_k_new - tf.math.log(-tf.math.log(uniform((num,), seeds[2])))
            return i + 1, *choose(score > highest, (z_new, x_new, log_k_new, score), (z, x, log_k, highest))

        codes, zeros = tf.zeros((num, self.model.prior.latent_size)), tf.zeros(num)
        _, z, x, log_k, _ = loop(STARTS, step, (codes, self.x, zeros, zeros - np.inf))
        return z, x, log_k, y

    def move(self, i: tf.Tensor, is_free: tf.Tensor, state: State) -> tuple[State, tf.Tensor, tf.Tensor]:
        """The state after move i, the log of w(z', x' | x), and whether z' was accepted: (chains,) each."""
        z, x, log_k, y = state
        seeds = self.seeds(MOVING, i)

        def by_encoder():
            y_new = tf.where(is_free, y, self.draw_class(seeds[0]))
            mean, logvar = self.model.posterior(x, self.condition(y_new))
            return mean + tf.exp(0.5 * logvar) * normal(tf.shape(z), seeds[1]), y_new

        def by_prior():
            prior, condition = self.model.prior, self.condition(y)
            share = uniform((self.x.shape[0], 1), seeds[0])  # of the new noise
            noise = tf.sqrt(1.0 - tf.square(share)) * prior.to_noise(z, condition)
            return prior.from_noise(noise + share * normal(tf.shape(z), seeds[1]), condition), y

        is_by_encoder = is_free | (i % 2 == 0)
        z_new, y_new = tf.cond(is_by_encoder, by_encoder, by_prior)
        x_new, log_k_new = self.complete(z_new, self.condition(y_new), seeds[2])

        def log_ratios():
            """The logs of p(y') p(z'|y') / (r(y') q(z'|x)) and of p(y) p(z|y) / (r(y) q(z|x'))."""
            return self.log_ratio(z_new, y_new, x), self.log_ratio(z, y, x_new)

        log_ratio_new, log_ratio = tf.cond(is_by_encoder, log_ratios, lambda: (log_k * 0.0, log_k * 0.0))
        log_w_new, log_w = log_k_new + log_ratio_new, log_k + log_ratio
        accept = is_free | (tf.math.log(uniform(tf.shape(log_k), seeds[3])) < log_w_new - log_w)
        return choose(accept, (z_new, x_new, log_k_new, y_new), state), log_w_new, accept

    def result(self, state: State, *, show_mean: bool) -> tf.Tensor:
        """The examples completed, (chains, ...)."""
        z, x, _, y = state
        likelihood = self.model.likelihood
        if show_mean or not likelihood.has_mean:
            return x
        params = self.model.likelihood_params(z, self.condition(y))
        return likelihood.fill_in(self.x, self.known, params, self.seeds(DRAWING, 0)[0])

    def complete(self, z: tf.Tensor, condition: tf.Tensor | None, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """x where it is known, and elsewhere the mean of p(x|z), or a draw where it has none; and log K(z, x)."""
        likelihood, params = self.model.likelihood, self.model.likelihood_params(z, condition)
        if likelihood.has_mean:
            x = tf.where(self.known, self.x, likelihood.mean(params))
        else:
            x = likelihood.fill_in(self.x, self.known, params, seed)
        return x, sum_per_example(tf.where(self.known, likelihood.log_probs(x, params), 0.0))

    def log_ratio(self, z: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """log of p(y) p(z|y) / (r(y) q(z|x, y)): (chains,)"""
        condition = self.condition(y)
        log_ratios = self.model.prior.log_prob(z, condition) - normal_log_prob(z, *self.model.posterior(x, condition))
        return sum_per_example(log_ratios) + tf.gather(self.log_p_y - self.log_r_y, y, batch_dims=1)

    def condition(self, y: tf.Tensor) -> tf.Tensor | None:
        return self.model.condition(tf.gather(self.candidates, y, batch_dims=1))

    def draw_class(self, seed: tf.Tensor) -> tf.Tensor:
        """y in proportion to r(y): (chains,)"""
        return tf.random.stateless_categorical(self.log_r_y, 1, seed, tf.int32)[:, 0]

    def seeds(self, stream: int, i: tf.Tensor | int) -> list[tf.Tensor]:
        """Four seeds for step i."""
        fold_in = tf.random.experimental.stateless_fold_in
        return tf.unstack(tf.random.split(fold_in(fold_in(self.seed, stream), i), 4))


def loop(num: tf.Tensor | int, step: Callable, begin: tuple) -> tuple:
    """The number of steps and the values after them; a step takes its number and the values, and returns the same."""
    return tf.while_loop(lambda i, *_: i < num, step, (0, *begin), parallel_iterations=1)


def choose(which: tf.Tensor, new: tuple, old: tuple) -> list[tf.Tensor]:
    """The tensors of `new` in the rows where `which` (batch,) holds, and those of `old` in the others."""
    return [tf.where(tf.reshape(which, [-1] + [1] * (a.shape.rank - 1)), a, b) for a, b in zip(new, old, strict=True)]


def normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_normal(shape, seed, alg="philox")


def uniform(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Within (0, 1), so that its log is finite."""
    return tf.random.stateless_uniform(shape, seed, minval=1e-7, alg="philox")
