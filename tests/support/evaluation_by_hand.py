"""Streams evaluated window by window by hand: the mean, the sharpened bound, dynamic evaluation."""

import numpy as np
import tensorflow as tf
from small_models import language_model, tokens, windows

from tfp_bayesrnn import PosteriorSharpening, noise
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.posterior import Draw

IDS = tokens()  # 2 rows of 12 predictions.
SIGMA0, RATE = 0.2, 0.3

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Float32 log-probabilities, summed in another order.


def opinionated(model):
    """The model with its weights, small at first, three times as large: nothing is lost in the tolerances."""
    for weight in model.posterior.weights:
        weight.mu.assign(3.0 * weight.mu)
    return model


def sharpened_language_model(sigma0=SIGMA0, **arguments):
    """Its etas are anywhere between a third of sigma0^2 and twice that."""
    model = opinionated(language_model(sharpening=PosteriorSharpening(sigma0), **arguments))
    generator = np.random.default_rng(1)
    for u in model.sharpening.u:
        u.assign(generator.uniform(-1.0, 2.0, u.shape))
    return model


def padded(elements, lengths=(12, 9)):
    """With weights: rows are of these lengths, and what follows is padding."""
    done, cut = 0, []
    for x, targets in elements:
        weights = (np.arange(done, done + targets.shape[1]) < np.array(lengths)[:, None]).astype(np.float32)
        cut.append((x, targets, weights))
        done += targets.shape[1]
    return cut


STREAM = padded(windows(IDS))


def theta_noise(model, seed, window):
    """By weight, of the theta of a window; `seed` is the evaluation's."""
    stream = noise.derive(noise.make_seed(seed), noise.Stream.EVALUATION_SHARPENING, window)
    return posteriors.standard_normals(model.posterior.variational, stream, noise.Stream.SHARPENING)


class Hand:
    """Evaluation of a language model window by window; of the library only the network and the noise."""

    def __init__(self, model, elements, seed=None, learning_rate=0.0, scales=None, decays=None):
        """`seed` None: no sharpening; of dynamic evaluation, P and D by weight."""
        posterior, total, kl, count = model.posterior, 0.0, 0.0, 0
        values = trained = {weight: weight.mu.numpy() for weight in posterior.weights}
        self.squares = {weight: 0.0 for weight in values}  # The mean over windows of the squared gradient.
        state = [[np.zeros([2, 3], np.float32)] * 2]
        etas = {}
        if seed is not None:
            etas = {
                weight: SIGMA0**2 * np.logaddexp(0.0, u.numpy())
                for weight, u in zip(posterior.variational, model.sharpening.u, strict=True)
            }
        self.nlls, self.kls = [], []
        for index, (x, targets, weights) in enumerate(elements):
            state = [[np.where(x["is_first"][:, None], 0.0, part) for part in state[0]]]
            batch = (model, x["inputs"], targets, weights, state)
            theta = dict(values)
            if seed is not None:
                _, g, _ = self.slope(values, *batch)
                epsilons = theta_noise(model, seed, index)
                for weight, eta in etas.items():
                    theta[weight] = values[weight] - eta * g[weight] + SIGMA0 * epsilons[weight].numpy()
                    kl += np.sum((eta * g[weight]) ** 2) / (2 * SIGMA0**2)
            nll, g, state = self.slope(theta, *batch)
            total, count = total + nll, count + int(weights.sum())
            for weight in values:
                self.squares[weight] += (g[weight] / len(targets)) ** 2 / len(elements)
            values = {
                weight: value
                - learning_rate * (1.0 if scales is None else scales[weight]) * g[weight] / len(targets)
                + (0.0 if decays is None else decays[weight]) * (trained[weight] - value)
                for weight, value in values.items()
            }
            self.nlls.append(nll)
        self.nll, self.kl, self.count = total / count, kl / count, count

    @staticmethod
    def slope(values, model, inputs, targets, weights, state):
        """The summed NLL, its gradient, and the state that the rows go on from."""
        tensors = {weight: tf.constant(value, tf.float32) for weight, value in values.items()}
        state = [[tf.constant(part, tf.float32) for part in state[0]]]
        with tf.GradientTape() as tape, ambient.under(Draw(tensors)):
            tape.watch(list(tensors.values()))
            logits, state = recurrence.run(model.network, inputs, state, training=False)
            log_p = tf.gather(tf.nn.log_softmax(logits), targets, batch_dims=2)
            nll = -tf.reduce_sum(weights * log_p)
        gradients = tape.gradient(nll, list(tensors.values()))
        gradients = dict(zip(tensors, [tf.convert_to_tensor(g).numpy() for g in gradients], strict=True))
        return float(nll), gradients, [[part.numpy() for part in state[0]]]
