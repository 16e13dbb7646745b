"""The forecaster of a resolved configuration: network, posterior, objective, optimizer."""

from __future__ import annotations

import math

from tfp_bayesrnn import BayesianModel, KTiedNormal, MeanFieldNormal, NormalPrior, VariationalFamily
from tfp_bayesrnn.distributions import Prior, ScaleMixturePrior
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.objective import likelihoods
from zoo.configuration import methods
from zoo.data.datasets import SERIES_SETS
from zoo.data.vocabulary import Vocabulary
from zoo.forecasting import splits
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.minibatches import Minibatches
from zoo.forecasting.network import ForecastNetwork
from zoo.forecasting.splits import ForecastData
from zoo.forecasting.windows import Layout, Windows, feature_count
from zoo.runs.assembly import assemble
from zoo.runs.networks import dtype_policy


def minibatches(config: ForecastingConfig, data: ForecastData) -> Minibatches:
    """The minibatches of training."""
    windows = Windows(data.series, data.vocabulary, Layout.of(config))
    return Minibatches(data, windows, config.train.batch)


def build_model(
    config: ForecastingConfig, vocabulary_size: int, training_rows: int, steps_per_epoch: int
) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`.

    Args:
      config: the resolved configuration.
      vocabulary_size: the number of words of all categories.
      training_rows: the rows of a pass over the training data; see `zoo.forecasting.minibatches`.
      steps_per_epoch: the minibatches of a pass.
    """
    layout, likelihood = Layout.of(config), likelihoods.get(config.model.head)

    def build() -> ForecastNetwork:
        model = config.model
        return ForecastNetwork(
            lags=len(layout.lags),
            known=feature_count(config),
            categories=config.data.category_count,
            vocabulary_size=vocabulary_size,
            parameters=likelihood.parameters,
            units=model.units,
            layers=model.layers,
            cell=model.cell,
            category_units=model.category_units,
            dropout=model.dropout,
            has_counts=layout.has_counts,
            prior=_prior(config),
            recurrent_posterior=_family(config, config.posterior.recurrent_scale_range),
            other_posterior=_family(config, config.posterior.other_scale_range),
            dtype=dtype_policy(config),
        )

    return assemble(config, build, training_rows, steps_per_epoch, likelihood)


def load_data(config: ForecastingConfig, data_dir: str | None) -> ForecastData:
    """The data of a resolved configuration."""
    return splits.load_data(config, data_dir)


def restorable(config: ForecastingConfig, vocabulary: Vocabulary) -> BayesianModel:
    """`build_model` for a checkpoint: no training, whose length is not known then, can follow."""
    return build_model(config, len(vocabulary), training_rows=1, steps_per_epoch=1)


def model_for(config: ForecastingConfig, data: ForecastData | None = None) -> BayesianModel:
    """`build_model` with the sizes of `data`, or of the configured data where they are built in.

    Raises:
      InputError: if the sizes are not known.
    """
    name = config.data.name
    if data is None:
        if not SERIES_SETS[name].made:
            raise InputError(
                f"data {name!r} has no fixed size: pass corpus=zoo.forecasting.splits.load_data(config, DIR)"
            )
        data = load_data(config, None)
    batches = minibatches(config, data)
    return build_model(config, len(data.vocabulary), batches.rows, len(batches))


def _prior(config: ForecastingConfig) -> Prior:
    """The configured prior: of two components that are alike a normal one, whose KL has a closed form."""
    prior = config.prior
    if prior.log_sigma1 == prior.log_sigma2:
        return NormalPrior(math.exp(prior.log_sigma1))
    return ScaleMixturePrior(**prior.to_dict())


def _family(config: ForecastingConfig, scale_range: tuple[float, float]) -> VariationalFamily | None:
    if config.method not in methods.BAYESIAN_METHODS:
        return None
    if config.posterior.family == "k_tied":
        return KTiedNormal(config.posterior.k, scale_range)
    return MeanFieldNormal(scale_range)
