"""Priors and variational families of weights, as TFP distributions."""

from tfp_bayesrnn.distributions.posteriors import MeanFieldNormal, PointMass
from tfp_bayesrnn.distributions.priors import (
    CentredNormalPrior,
    DistributionPrior,
    NormalPrior,
    Prior,
    ScaleMixturePrior,
)
from tfp_bayesrnn.distributions.scale_mixture import ScaleMixtureNormal

__all__ = [
    "CentredNormalPrior",
    "DistributionPrior",
    "MeanFieldNormal",
    "NormalPrior",
    "PointMass",
    "Prior",
    "ScaleMixtureNormal",
    "ScaleMixturePrior",
]
