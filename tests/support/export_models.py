"""Models of a few weights as exports, for the tests of export."""

import captioning_models
import keras
import numpy as np

from tfp_bayesrnn import BayesianModel, MeanFieldNormal, PointMass
from tfp_bayesrnn.export.saved_model import ExportedPosterior
from zoo.captioning.export import CaptionExport
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.network import LanguageModelNetwork
from zoo.language_model.signatures import LanguageModelExport

VOCABULARY = Vocabulary("<eos> a <unk> dog runs far away".split())
PRIOR = captioning_models.PRIOR


def language_model(posterior="wide", vocabulary=VOCABULARY, **arguments):
    """A `BayesianModel` of two LSTM layers; its posterior is wide, so that draws differ, or a point mass."""
    keras.utils.set_random_seed(2)
    posterior = MeanFieldNormal((0.3, 0.6)) if posterior == "wide" else posterior or PointMass()
    settings = {"units": 4, "layers": 2, "embedding_units": 3, "init_range": 0.9} | arguments
    network = LanguageModelNetwork(
        len(vocabulary), prior=PRIOR, recurrent_posterior=posterior, other_posterior=posterior, **settings
    )
    model = BayesianModel(network, training_rows=6, kl_warmup_steps=0, seed=3)
    model.build((None, None))
    model.compile(jit_compile=False)
    return model


def language_model_export(model, directory, vocabulary=VOCABULARY, **arguments):
    exported = ExportedPosterior(model.network, **arguments)
    return LanguageModelExport(model.network, exported, vocabulary, directory)


def caption_export(model, directory, beam=1, **arguments):
    exported = ExportedPosterior(model.network, **arguments)
    return CaptionExport(
        model.network,
        exported,
        captioning_models.VOCABULARY,
        directory,
        image_size=captioning_models.SIZE,
        max_words=captioning_models.MAX_WORDS,
        beam=beam,
    )


def arrays(outputs):
    """What a signature gave, as NumPy arrays."""
    return {name: np.asarray(value) for name, value in outputs.items()}
