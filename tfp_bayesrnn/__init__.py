"""Bayesian recurrent networks for Keras 3 and TensorFlow Probability.

After Fortunato, Blundell and Vinyals, "Bayesian Recurrent Neural Networks" (arXiv 1704.02798).
"""

import keras as _keras

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        "tfp_bayesrnn runs on Keras's TensorFlow backend: set KERAS_BACKEND=tensorflow. "
        f"Received: backend={_keras.backend.backend()!r}"
    )

from tfp_bayesrnn import noise, released, replicas
from tfp_bayesrnn.conversion.networks import to_bayesian, to_deterministic
from tfp_bayesrnn.distributions import (
    CentredNormalPrior,
    DistributionPrior,
    FanInNormalPrior,
    KTiedNormal,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    Prior,
    ScaleMixtureNormal,
    ScaleMixturePrior,
    VariationalFamily,
)
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.layers import (
    CellWeight,
    Dropout,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalGRUCell,
    VariationalLSTM,
    VariationalLSTMCell,
    VariationalMGU,
    VariationalMGUCell,
    VariationalRNN,
    VariationalRNNCell,
)
from tfp_bayesrnn.loop.callbacks import ExactResume, GradualPruning
from tfp_bayesrnn.loop.validation import PredictiveValidation
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.objective.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DistributionLikelihood,
    JointLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    NormalLikelihood,
    PoissonLikelihood,
    QuantileLikelihood,
    StudentTLikelihood,
)
from tfp_bayesrnn.optimization.schedules import HoldThenDecay, HoldThenLinear
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.scaled_sharpening import ScaledSharpening
from tfp_bayesrnn.posterior.sharpening import PosteriorSharpening
from tfp_bayesrnn.posterior.weights import VariationalWeight
from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.predictive import Predictive

__version__ = "0.1.0"

__all__ = [
    "BayesianModel",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "CellWeight",
    "CentredNormalPrior",
    "DistributionLikelihood",
    "DistributionPrior",
    "Draw",
    "Dropout",
    "ExactResume",
    "FanInNormalPrior",
    "GradualPruning",
    "HoldThenDecay",
    "HoldThenLinear",
    "InputError",
    "JointLikelihood",
    "KTiedNormal",
    "Likelihood",
    "MeanFieldNormal",
    "NegativeBinomialLikelihood",
    "NormalLikelihood",
    "NormalPrior",
    "PointMass",
    "PoissonLikelihood",
    "Posterior",
    "PosteriorSharpening",
    "Predictive",
    "PredictiveValidation",
    "Prior",
    "QuantileLikelihood",
    "ScaleMixtureNormal",
    "ScaleMixturePrior",
    "ScaledSharpening",
    "StudentTLikelihood",
    "VariationalDense",
    "VariationalEmbedding",
    "VariationalFamily",
    "VariationalGRU",
    "VariationalGRUCell",
    "VariationalLSTM",
    "VariationalLSTMCell",
    "VariationalMGU",
    "VariationalMGUCell",
    "VariationalRNN",
    "VariationalRNNCell",
    "VariationalWeight",
    "noise",
    "pruning",
    "released",
    "replicas",
    "to_bayesian",
    "to_deterministic",
    "uncertainty",
]
