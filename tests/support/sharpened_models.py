"""Models with sharpening, and what the tests of sharpening share."""

import math

import numpy as np
import tensorflow as tf
from bayes_oracles import mixture_log_prob, normal_log_prob, scale_of
from rnn_oracles import lstm_step, sequence
from small_models import (
    PRIOR,
    UNITS,
    language_model,
    regression,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import PosteriorSharpening
from tfp_bayesrnn.model import training
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior import posterior as posteriors

X, Y = regression_data()
SEED = tf.constant([1, 2])
KL_WEIGHT = 0.5

# The same float32 sums in another order: some tens of roundings.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def softplus(u):
    return np.logaddexp(0.0, np.asarray(u, np.float64))


def scatter(u, spread=2.0, seed=5):
    """Gives every eta a value of its own, from about an eighth to three times sigma0^2."""
    generator = np.random.default_rng(seed)
    for variable in u:
        variable.assign(generator.uniform(-spread, spread + 1.0, variable.shape))


def random_like(weights, scale=1.0, seed=6):
    generator = np.random.default_rng(seed)
    return {weight: tf.constant(generator.normal(0.0, scale, weight.shape), tf.float32) for weight in weights}


def flat(tensors):
    return np.concatenate([np.ravel(np.asarray(tensor, np.float64)) for tensor in tensors])


def sharpened(draw):
    """The values of a draw that have a distribution, as one vector."""
    return flat(value for weight, value in draw.items() if weight.is_variational)


def step_of(model, data, state=None, seed=SEED, kl_weight=KL_WEIGHT):
    return training.free_energy_gradients(
        model.objective, training.unpack(data), state, seed, tf.constant(kl_weight, tf.float32)
    )


def all_variables(model):
    """Everything that training changes."""
    parts = [*model.weights, *model.optimizer.variables]
    if model.sharpening:
        parts += [*model.sharpening.u, *model.sharpening.optimizer.variables]
    if model._carried_train:
        parts += model._carried_train.variables_flat
    return values(parts)


def regression_case(**arguments):
    """A model, its data, the state it starts from, and its summed NLL as a NumPy function of the weights."""
    model = regression(sharpening=PosteriorSharpening(0.3, **arguments))

    hidden, out = model.network.layers

    def nll(draw):
        outputs = np.tanh(X.astype(np.float64) @ draw[hidden.kernel] + draw[hidden.bias])
        outputs = outputs @ draw[out.kernel] + draw[out.bias]
        residuals = (Y.astype(np.float64) - outputs) / 0.5
        return np.sum(0.5 * residuals**2 + math.log(0.5) + 0.5 * math.log(2.0 * math.pi))

    return model, (X, Y), None, nll


def lstm_case(**arguments):
    """Row 0 starts afresh, row 1 goes on from a state; two of its predictions are padding."""
    model = language_model(sharpening=PosteriorSharpening(0.3, **arguments))
    inputs, targets = windows(tokens())[1]
    inputs["is_first"] = np.array([True, False])
    weights = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32)
    state = [
        [tf.constant(part, tf.float32) for part in np.random.default_rng(2).normal(size=(2, 2, UNITS)) / 2]
    ]

    table, lstm, softmax = model.network.layers

    def nll(draw):
        kernels = [draw[weight] for weight in (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)]
        start = [np.where([[False], [True]], part.numpy(), 0.0).astype(kernels[0].dtype) for part in state[0]]
        embedded = draw[table.embeddings][inputs["inputs"]]
        hiddens, _ = sequence(lstm_step, embedded, start, kernels)
        logits = hiddens @ draw[softmax.kernel] + draw[softmax.bias]
        log_p = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
        return -np.sum(weights * np.take_along_axis(log_p, targets[..., np.newaxis], -1)[..., 0])

    return model, (inputs, targets, weights), state, nll


CASES = {"regression": regression_case, "LSTM": lstm_case}


class Oracle:
    """The free energy of a sharpened minibatch by NumPy, in float64, with noise as the library draws it.

    The gradient of the NLL is by complex steps, so it is exact to rounding, and the free energy can in turn
    be differentiated numerically also where g moves with the weights.
    """

    SIGMA0 = 0.3

    def __init__(self, model, nll, rows):
        self.nll, self.rows, self.model = nll, rows, model
        self.weights = model.posterior.weights
        self.chosen = [weight for weight in self.weights if weight.is_variational]
        epsilons = model.posterior.sample(SEED).epsilons
        normals = posteriors.standard_normals(self.chosen, SEED, Stream.SHARPENING)
        self.epsilons = {weight: epsilons[weight].numpy().astype(np.float64) for weight in self.chosen}
        self.normals = {weight: normals[weight].numpy().astype(np.float64) for weight in self.chosen}

    def parameters(self):
        """{(kind, weight): value}, in float64."""
        found = {("mu", weight): weight.mu for weight in self.weights}
        found |= {("rho", weight): weight.rho for weight in self.chosen}
        found |= {("u", w): u for w, u in zip(self.chosen, self.model.sharpening.u, strict=True)}
        return {key: variable.numpy().astype(np.float64) for key, variable in found.items()}

    def phi(self, p):
        return {
            w: p["mu", w] + scale_of(p["rho", w]) * self.epsilons[w] if w in self.epsilons else p["mu", w]
            for w in self.weights
        }

    def gradient(self, values):
        """Of the summed NLL, with respect to every value of the sharpened weights."""
        gradients = {}
        for weight in self.chosen:
            gradients[weight] = np.zeros(weight.shape)
            for index in np.ndindex(*weight.shape):
                moved = {w: value.astype(np.complex128) for w, value in values.items()}
                moved[weight][index] += 1e-30j
                gradients[weight][index] = self.nll(moved).imag / 1e-30
        return gradients

    def energy(self, p, g=None):
        """(loss, NLL per row, KL, KL of the sharpening)."""
        phi = self.phi(p)
        g = g or self.gradient(phi)
        theta, kl, kl_sharpening = dict(phi), 0.0, 0.0
        for w in self.chosen:
            eta = self.SIGMA0**2 * softplus(p["u", w])
            theta[w] = phi[w] - eta * g[w] + self.SIGMA0 * self.normals[w]
            kl_sharpening += np.sum((eta * g[w]) ** 2) / (2 * self.SIGMA0**2)
            scales = math.exp(PRIOR.log_sigma1), math.exp(PRIOR.log_sigma2)
            kl += normal_log_prob(phi[w], p["mu", w], p["rho", w])
            kl -= mixture_log_prob(phi[w], phi[w].ndim, "row", PRIOR.pi, *scales)
        per_row = self.nll(theta) / self.rows
        loss = per_row + KL_WEIGHT * kl / self.model.training_rows + kl_sharpening / self.rows
        return loss, per_row, kl, kl_sharpening

    def slopes(self, g=None):
        """Central differences of the loss along one random direction for each variable: {key: (slope, it)}.

        In float64 a step of 1e-5 leaves errors of about 1e-9.
        """
        generator, p, found, step = np.random.default_rng(4), self.parameters(), {}, 1e-5
        for key, value in p.items():
            direction = generator.normal(size=value.shape)
            ends = [self.energy({**p, key: value + sign * step * direction}, g)[0] for sign in (1.0, -1.0)]
            found[key] = (ends[0] - ends[1]) / (2 * step), direction
        return found
