"""Steps of a model of a normal likelihood, and its free energy put together anew."""

import numpy as np
import scipy.stats
from small_models import regression_data

from tfp_bayesrnn.posterior import ambient

X, Y = regression_data()

# The same float32 sums in another order: some tens of roundings.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def free_energy_of(model, x, y, draw):
    """(loss, NLL per row, KL) of a normal-likelihood model under a draw, put together anew."""
    with ambient.under(draw):
        outputs = model.network(x, training=True).numpy()
    nats = -scipy.stats.norm.logpdf(y.astype(np.float64), outputs, model.likelihood.scale)
    per_row, kl = nats.sum() / len(y), float(model.posterior.kl(draw))
    return per_row + kl / model.training_rows, per_row, kl


def train(model, steps=1, x=X, y=Y, **arguments):
    return [model.train_on_batch(x, y, return_dict=True, **arguments) for _ in range(steps)]
