"""Photos, captions and captioning models of a few weights, for the tests of captioning."""

import io

import keras
import numpy as np
from PIL import Image

from tfp_bayesrnn import BayesianModel, MeanFieldNormal, PointMass, ScaleMixturePrior
from tfp_bayesrnn.errors import InputError
from zoo.captioning.attention import AttentionDecoder
from zoo.captioning.encoder import build_encoder
from zoo.captioning.network import CaptionNetwork
from zoo.data.captions import SPECIAL_WORDS, CaptionSplit
from zoo.data.photos import PhotoBytes
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.network import LanguageModelNetwork

SIZE = 16
WORDS = ("a", "red", "dog", "runs", "far")
VOCABULARY = Vocabulary([*SPECIAL_WORDS, *WORDS])
MAX_WORDS = 4

# Wide, so that draws differ and the KL is of the data's size.
PRIOR = ScaleMixturePrior(pi=0.5, log_sigma1=0.0, log_sigma2=-1.0)


def pixels(count=1, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [count, size, size, 3], np.uint8)


def png(array, mode=None, form="PNG"):
    """The array as an image file, in another mode if one is given."""
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, form)
    return file.getvalue()


class MissingPhotos(PhotoBytes):
    """Photos of which some cannot be read; it counts how often each was asked for."""

    def __init__(self, names, contents, missing=()):
        super().__init__(names, contents)
        self.missing = missing
        self.asked = []

    def read(self, index):
        self.asked.append(index)
        if index in self.missing:
            raise InputError(f"photo {self.name(index)} has gone")
        return super().read(index)


def references(count, seed=0):
    """For each image one to three captions of one to five words, one more than MAX_WORDS."""
    generator = np.random.default_rng(seed)

    def caption():
        return tuple(generator.choice(WORDS, generator.integers(1, 6)).tolist())

    return tuple(tuple(caption() for _ in range(1 + number % 3)) for number in range(count))


def split_of(count, missing=(), corrupt=(), size=SIZE):
    """A split of noise; image n can be told by its first caption being that of `references`."""
    names = tuple(f"photo{number}.png" for number in range(count))
    contents = [png(image) for image in pixels(count, size)]
    for place in corrupt:
        contents[place] = contents[place][:60]
    return CaptionSplit(names, references(count), MissingPhotos(names, contents, missing))


def grid_encoder():
    """Images to grids [B, 2, 2, 7], as a user's own model might."""
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(1 / 128), keras.layers.Conv2D(7, 8, 8)]
    )


def decoder(posterior=None, kind=LanguageModelNetwork, **arguments):
    settings = {"units": 5, "layers": 1, "embedding_units": 3, "init_range": 0.8} | arguments
    posterior = posterior or PointMass()
    return kind(
        len(VOCABULARY),
        prior=PRIOR,
        recurrent_posterior=posterior,
        other_posterior=posterior,
        **settings,
    )


def network(posterior=None, feature_dropout=0.0, trainable=True, image_as="input", **arguments):
    keras.utils.set_random_seed(4)
    if image_as == "attention":
        encoder = grid_encoder()
        encoder.trainable = trainable
        arguments = {"kind": AttentionDecoder, "attention_units": 4, "place_units": 6, **arguments}
    else:
        encoder = build_encoder("compact", SIZE, trainable=trainable, width=2)
    made = CaptionNetwork(encoder, decoder(posterior, **arguments), feature_dropout, image_as)
    made.build()
    return made


def captioning_model(posterior="wide", optimizer=None, rows=6, run_eagerly=False, **arguments):
    """A compiled model; the posterior is wide or, with None, a point mass."""
    parts = ("feature_dropout", "trainable", "image_as", "dropout", "init_range", "units")
    of_network = {name: arguments.pop(name) for name in parts if name in arguments}
    posterior = MeanFieldNormal((0.3, 0.6)) if posterior == "wide" else posterior
    model = BayesianModel(
        network(posterior, **of_network),
        **{"training_rows": rows, "kl_warmup_steps": 0, "seed": 3, **arguments},
    )
    model.build((None, None))
    model.compile(optimizer or keras.optimizers.SGD(0.1), jit_compile=False, run_eagerly=run_eagerly)
    return model


def words_of(batch, captions, steps, seed=0):
    """Random ids [B, K, T] of words, behind `<start>`."""
    ids = np.random.default_rng(seed).integers(4, len(VOCABULARY), (batch, captions, steps), np.int32)
    ids[:, :, 0] = 1
    return ids
