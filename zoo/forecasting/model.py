"""The forecaster of a resolved configuration: network, posterior, objective, optimizer."""

from __future__ import annotations

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.objective import likelihoods
from zoo.data.datasets import SERIES_SETS
from zoo.data.vocabulary import Vocabulary
from zoo.forecasting import splits
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.minibatches import Minibatches
from zoo.forecasting.network import ForecastNetwork
from zoo.forecasting.splits import ForecastData
from zoo.forecasting.windows import Layout, Windows, feature_count
from zoo.runs import distributions
from zoo.runs.assembly import assemble
from zoo.runs.networks import dtype_policy
from zoo.runs.workdir import Workdir


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
            prior=distributions.prior(config),
            recurrent_posterior=distributions.posterior(config, config.posterior.recurrent_scale_range),
            other_posterior=distributions.posterior(config, config.posterior.other_scale_range),
            dtype=dtype_policy(config),
        )

    return assemble(config, build, training_rows, steps_per_epoch, likelihood)


def load_data(config: ForecastingConfig, data_dir: str | None) -> ForecastData:
    """The data of a resolved configuration."""
    return splits.load_data(config, data_dir)


def restorable(config: ForecastingConfig, vocabulary: Vocabulary, workdir: Workdir) -> BayesianModel:
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
