"""Priors and variational families of weights, as TFP distributions."""

from tfp_bayesrnn.distributions.families import VariationalFamily
from tfp_bayesrnn.distributions.independent_normal import IndependentNormal
from tfp_bayesrnn.distributions.k_tied import KTiedNormal
from tfp_bayesrnn.distributions.mean_field import MeanFieldNormal
from tfp_bayesrnn.distributions.point_mass import PointMass
from tfp_bayesrnn.distributions.priors import (
    CentredNormalPrior,
    DistributionPrior,
    FanInNormalPrior,
    NormalPrior,
    Prior,
    ScaleMixturePrior,
)
from tfp_bayesrnn.distributions.scale_mixture import ScaleMixtureNormal

__all__ = [
    "CentredNormalPrior",
    "DistributionPrior",
    "FanInNormalPrior",
    "IndependentNormal",
    "KTiedNormal",
    "MeanFieldNormal",
    "NormalPrior",
    "PointMass",
    "Prior",
    "ScaleMixtureNormal",
    "ScaleMixturePrior",
    "VariationalFamily",
]
