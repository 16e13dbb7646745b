"""The captioning model of a resolved configuration."""

from __future__ import annotations

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from zoo.captioning.attention import AttentionDecoder
from zoo.captioning.batches import minibatches
from zoo.captioning.configuration import CaptioningConfig
from zoo.captioning.encoder import build_encoder
from zoo.captioning.found_encoders import encoder_of, kept_architecture
from zoo.captioning.network import CaptionNetwork
from zoo.configuration import config as configs
from zoo.data.caption_sets import CaptionData, load_captions
from zoo.data.datasets import CAPTION_SETS
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.network import LanguageModelNetwork, build_network
from zoo.runs.assembly import assemble
from zoo.runs.networks import dtype_policy
from zoo.runs.workdir import Workdir


def build_model(
    config: CaptioningConfig,
    vocabulary_size: int,
    training_images: int,
    steps_per_epoch: int,
    architecture: str | None = None,
) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`.

    A row of its objective is an image with all its captions: an epoch's minibatches count the NLL of every
    caption, and the KL, once.

    Args:
      config: the resolved configuration.
      vocabulary_size: words.
      training_images: rows of an epoch, those that fill up the last minibatch too.
      steps_per_epoch: minibatches of an epoch.
      architecture: the encoder's, of `found_encoders.kept_architecture`: then no file of it is read.
    """

    def build() -> CaptionNetwork:
        settings, dtype = config.encoder, dtype_policy(config)
        if architecture is not None:
            encoder = encoder_of(architecture)
            encoder.trainable = settings.trainable
        else:
            encoder = build_encoder(
                settings.name,
                settings.image_size,
                settings.weights or None,
                settings.trainable,
                settings.width,
                dtype,
                grid=config.model.image_as == "attention",
                scaling=settings.scaling,
            )
        decoder = _decoder(config, vocabulary_size)
        return CaptionNetwork(
            encoder, decoder, config.model.feature_dropout, config.model.image_as, dtype=dtype
        )

    return assemble(config, build, training_images, steps_per_epoch)


def _decoder(config: CaptioningConfig, vocabulary_size: int) -> LanguageModelNetwork:
    model = config.model
    if model.image_as != "attention":
        return build_network(config, vocabulary_size, unit_forget_bias=model.unit_forget_bias)
    return build_network(
        config,
        vocabulary_size,
        AttentionDecoder,
        unit_forget_bias=model.unit_forget_bias,
        attention_units=model.attention_units,
        place_units=model.units,
    )


def load_data(config: CaptioningConfig, data_dir: str | None) -> CaptionData:
    """The captions of a resolved configuration."""
    return load_captions(config.data.name, data_dir, config.data.min_count or None)


def restorable(config: CaptioningConfig, vocabulary: Vocabulary, workdir: Workdir) -> BayesianModel:
    """`build_model` for a checkpoint: no training, whose length is not known then, can follow."""
    # The checkpoint has the encoder's weights too: none are downloaded to be overwritten.
    config = configs.with_overrides(config, {"encoder.weights": ""})
    return build_model(config, len(vocabulary), 1, 1, kept_architecture(workdir))


def model_for(config: CaptioningConfig, data: CaptionData | None = None) -> BayesianModel:
    """`build_model` with the sizes of `data`, or of the configured data where they are built in.

    Raises:
      InputError: if the sizes are not known.
    """
    name = config.data.name
    if data is None:
        if not CAPTION_SETS[name].made:
            raise InputError(
                f"data {name!r} has no fixed size: pass "
                f"corpus=zoo.data.caption_sets.load_captions({name!r}, DIR)"
            )
        data = load_data(config, None)
    batch = config.train.batch
    steps = minibatches(len(data.train.names), batch)
    return build_model(config, len(data.vocabulary), steps * batch, steps)
