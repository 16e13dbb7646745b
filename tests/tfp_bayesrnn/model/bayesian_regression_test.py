"""Bayesian linear regression: the free energy trains to the posterior that is known in closed form.

With y = X w + N(0, s^2) noise and w ~ N(0, p^2), the posterior has precision A = X'X / s^2 + I / p^2 and mean
A^-1 X'y / s^2. The best mean-field q has that mean and sigma_i = A_ii^-1/2, narrower than the marginal
(A^-1)_ii^1/2 where features are correlated.
"""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, MeanFieldNormal, NormalLikelihood, NormalPrior, VariationalDense
from tfp_bayesrnn.distributions.softplus import inverse_softplus

ROWS, NOISE, PRIOR = 20, 0.5, 0.3
STEPS = 8000


class Problem:
    """Data and their closed-form posterior."""

    def __init__(self):
        generator = np.random.default_rng(0)
        mixing = np.array([[1.0, 0.7, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.5]])  # Two correlated features.
        self.inputs = generator.normal(size=(ROWS, 3)) @ mixing
        self.targets = self.inputs @ np.array([0.5, -0.3, 0.2]) + NOISE * generator.normal(size=ROWS)
        self.precision = self.inputs.T @ self.inputs / NOISE**2 + np.eye(3) / PRIOR**2
        self.mean = np.linalg.solve(self.precision, self.inputs.T @ self.targets) / NOISE**2
        self.mean_field_scale = np.diag(self.precision) ** -0.5
        marginal = PRIOR**2 * self.inputs @ self.inputs.T + NOISE**2 * np.eye(ROWS)
        self.log_evidence = scipy.stats.multivariate_normal.logpdf(self.targets, cov=marginal)


@pytest.fixture(scope="module")
def problem():
    return Problem()


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layer = VariationalDense(
        1, use_bias=False, prior=NormalPrior(PRIOR), posterior=MeanFieldNormal((0.5, 1.0)), name="linear"
    )
    model = BayesianModel(
        keras.Sequential([layer]),
        training_rows=ROWS,
        likelihood=NormalLikelihood(NOISE),
        kl_warmup_steps=0,
        seed=1,
    )
    model.build((None, 3))
    model.compile(keras.optimizers.Adam(), jit_compile=False, steps_per_execution=100)
    return model


def train(model, problem, steps, learning_rate, batch=ROWS, callbacks=()):
    dataset = tf.data.Dataset.from_tensor_slices(
        (problem.inputs.astype(np.float32), problem.targets[:, np.newaxis].astype(np.float32))
    )
    model.optimizer.learning_rate = learning_rate
    dataset = dataset.batch(batch).cache().repeat()
    return model.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=list(callbacks)).history


class Averages(keras.callbacks.Callback):
    """Mean of mu and sigma over the steps (every 100th: the trajectory's own noise averages out)."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.values = weight, []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append((self.weight.mean().numpy().ravel(), self.weight.scale().numpy().ravel()))

    def result(self):
        return np.mean(self.values, axis=0)


def test_training_recovers_the_closed_form_posterior(model, problem):
    """Tolerances, in units of sigma_i. The mean over N steps of mu errs by that of the noise, 1 / sqrt(N),
    and that of sigma, by the bound's second derivative in it, by at most 0.9 / sqrt(N): 0.01 at N = 8000.
    Taking every 100th step for it may double that; three such errors are 0.06.

    Adam, since the bound's curvature in rho (2 nats) is far below that in mu (sigma_i^-2).
    """
    (weight,) = model.posterior.weights
    # Half the rows in each minibatch: the KL is shared out over the rows of a pass, not over the minibatches.
    train(model, problem, 1500, 0.01, batch=ROWS // 2)
    averages = Averages(weight)
    train(model, problem, STEPS, 0.002, batch=ROWS // 2, callbacks=[averages])
    mean, scale = averages.result()
    np.testing.assert_array_less(np.abs(mean - problem.mean) / problem.mean_field_scale, 0.06)
    np.testing.assert_array_less(np.abs(scale / problem.mean_field_scale - 1.0), 0.06)
    # What the tolerances tell apart: no prior, and the marginals of the full posterior.
    least_squares = np.linalg.lstsq(problem.inputs, problem.targets, rcond=None)[0]
    assert np.abs((least_squares - problem.mean) / problem.mean_field_scale).max() > 0.6
    marginal_scale = np.sqrt(np.diag(np.linalg.inv(problem.precision)))
    assert (marginal_scale / problem.mean_field_scale).max() > 1.4


def test_free_energy_bounds_the_evidence_by_the_known_gap(model, problem):
    """F * rows = -log p(y | X) + KL[q || posterior]; at the mean-field optimum that is
    (sum_i log A_ii - log det A) / 2. One draw's NLL varies by about sqrt(3 / 2) nats, the mean
    of 2000 draws' by 0.03.
    """
    (weight,) = model.posterior.weights
    weight.mu.assign(problem.mean[:, np.newaxis])
    rho = [[inverse_softplus(scale - 1e-5)] for scale in problem.mean_field_scale]
    weight.rho.assign(np.array(rho))
    free_energy = train(model, problem, 2000, 0.0)["free_energy"][0] * ROWS
    gap = (np.log(np.diag(problem.precision)).sum() - np.linalg.slogdet(problem.precision)[1]) / 2
    assert gap > 0.3
    assert free_energy > -problem.log_evidence
    np.testing.assert_allclose(free_energy, -problem.log_evidence + gap, rtol=0.0, atol=0.12)
