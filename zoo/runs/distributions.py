"""The distributions of a configuration: the prior of weights, and their variational family."""

from __future__ import annotations

from tfp_bayesrnn import KTiedNormal, MeanFieldNormal, NormalPrior, VariationalFamily
from tfp_bayesrnn.distributions import Prior, ScaleMixturePrior
from zoo.configuration import methods
from zoo.runs.settings import RunConfig


def prior(config: RunConfig) -> Prior:
    """The configured prior of every weight."""
    given = config.prior
    if given.family == "mixture":
        return ScaleMixturePrior(given.pi, given.log_sigma1, given.log_sigma2, given.granularity)
    return NormalPrior(given.scale, learned=given.family == "learned_normal")


def posterior(config: RunConfig, scale_range: tuple[float, float]) -> VariationalFamily | None:
    """The configured family of weights whose scales start in this range; None for point masses.

    Args:
      config: the resolved configuration.
      scale_range: the lowest and the highest initial scale, in units of the prior's standard deviation.
    """
    if config.method not in methods.BAYESIAN_METHODS:
        return None
    if config.posterior.family == "k_tied":
        return KTiedNormal(config.posterior.k, scale_range)
    return MeanFieldNormal(scale_range)
