"""Likelihoods: the distribution of a target, given a network's outputs."""

from tfp_bayesrnn.objective.likelihoods.classes import BernoulliLikelihood, CategoricalLikelihood
from tfp_bayesrnn.objective.likelihoods.counts import NegativeBinomialLikelihood, PoissonLikelihood
from tfp_bayesrnn.objective.likelihoods.likelihood import (
    DistributionLikelihood,
    FunctionLikelihood,
    JointLikelihood,
    Likelihood,
    NegativeLogLikelihood,
    nats,
)
from tfp_bayesrnn.objective.likelihoods.names import get, serialize
from tfp_bayesrnn.objective.likelihoods.quantiles import QuantileLikelihood
from tfp_bayesrnn.objective.likelihoods.real import NormalLikelihood, StudentTLikelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "DistributionLikelihood",
    "FunctionLikelihood",
    "JointLikelihood",
    "Likelihood",
    "NegativeBinomialLikelihood",
    "NegativeLogLikelihood",
    "NormalLikelihood",
    "PoissonLikelihood",
    "QuantileLikelihood",
    "StudentTLikelihood",
    "get",
    "nats",
    "serialize",
]
