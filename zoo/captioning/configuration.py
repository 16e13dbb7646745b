"""The configuration of a captioning model, beside what every task has (`zoo.runs.settings`).

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.configuration import checks, limits
from zoo.configuration.fields import Change, Table, setting, table
from zoo.data.datasets import CAPTION_SETS
from zoo.language_model.configuration import Model
from zoo.runs.settings import RunConfig, Training

METHODS = ("deterministic", "dropout", "bbb", "bbb_sharpened")
IMAGE_AS = ("input", "state", "attention")
COMPACT = "compact"
"""The encoder that needs no files, trained from scratch."""
IMAGENET = "imagenet"
HUB = "hub:"
"""What the name of an encoder begins with that is a preset of KerasHub."""
SCALINGS = ("auto", "none", "unit", "tf", "torch", "caffe")
"""What becomes of pixels: what the encoder asks for, nothing, [0, 1], or Keras's modes of these names."""
INTERPOLATIONS = (
    "bilinear",
    "nearest",
    "bicubic",
    "area",
    "lanczos3",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
)


def is_saved(name: str) -> bool:
    """Returns whether an encoder's name is the path of a Keras model."""
    return name.endswith(".keras")


def is_hub(name: str) -> bool:
    """Returns whether an encoder's name is that of a preset of KerasHub."""
    return name.startswith(HUB)


@dataclass(frozen=True, kw_only=True)
class Data(Table):
    """The data that is read, and what is made of it."""

    name: str = setting("builtin_shapes", checks.choice(*CAPTION_SETS), "the data set")
    min_count: int = setting(
        0, checks.COUNT, "how often a word has to occur, others are unknown; 0: the data set's own"
    )
    max_words: int = setting(20, checks.WORDS, "words of a caption at most, in training")
    captions_per_image: int = setting(5, checks.whole(1, limits.CAPTIONS), "of each image, in training")
    shift: bool = setting(False, checks.FLAG, "whether images are shifted at random in training")
    flip: bool = setting(False, checks.FLAG, "whether they are mirrored at random")


@dataclass(frozen=True, kw_only=True)
class Encoder(Table):
    """The encoder, which makes a vector of an image, or for attention a grid of them."""

    name: str = setting(
        COMPACT,
        checks.TEXT,
        "compact, a network of keras.applications, hub: and a preset of KerasHub, or a path of a .keras file",
    )
    image_size: int = setting(64, checks.whole(32, limits.IMAGE_SIZE), "pixels of a side")
    interpolation: str = setting(
        "bilinear", checks.choice(*INTERPOLATIONS), "how photos are brought to that size", added=True
    )
    scaling: str = setting(
        "auto",
        checks.choice(*SCALINGS),
        "of pixels: auto as the encoder asks for, none, unit to [0, 1], tf, torch or caffe as Keras has them",
        added=True,
    )
    width: int = setting(32, checks.whole(1, limits.ENCODER_WIDTH), "of the compact encoder's first layer")
    weights: str = setting(
        "",
        checks.PATH,
        "imagenet, or a file of weights; '': random ones; a preset of KerasHub or a .keras file has its own",
    )
    trainable: bool = setting(True, checks.FLAG, "whether it is trained along")
    cache_dir: str = setting(
        "",
        checks.PATH,
        "where what an encoder that is not trained makes of photos is kept; '': nowhere",
        Change.EVALUATED,
    )


@dataclass(frozen=True, kw_only=True)
class Decoder(Model):
    """The decoder, which makes words of the vector: a language model, and how it gets to see the image."""

    # The image is seen once, before the first word, and has to last to the last.
    unit_forget_bias: bool = setting(True, checks.FLAG, "whether an LSTM's forget gates start open")
    feature_dropout: float = setting(0.0, checks.RATE, "rate on the image's vector")
    image_as: str = setting("input", checks.choice(*IMAGE_AS), "what the image is to the recurrent layers")
    attention_units: int = setting(256, checks.UNITS, "of what looks at an image, with attention", added=True)


@dataclass(frozen=True, kw_only=True)
class CaptionTraining(Training):
    """Training on images."""

    start_from: str = setting(
        "", checks.PATH, "a workdir whose best weights training begins with; '': random ones"
    )


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    """The settings by which models are scored and captions found."""

    batch: int = setting(32, checks.ROWS, "images of a minibatch")
    beam: int = setting(3, checks.whole(1, limits.BEAMS), "beams; 1: the most probable word each time")
    length_penalty: float = setting(0.0, checks.not_negative(), "how much longer captions are preferred")
    max_words: int = setting(20, checks.WORDS, "words of a caption at most")
    num_samples: int = setting(
        0,
        checks.whole(0, limits.DRAWS_IN_A_GRAPH),
        "samples of the weights that are averaged; 0: the posterior mean only",
    )
    meteor: bool = setting(False, checks.FLAG, "whether METEOR is computed, which needs Java")


@dataclass(frozen=True, kw_only=True)
class CaptioningConfig(RunConfig):
    """A captioning model's configuration."""

    task: str = setting("captioning", checks.choice("captioning"), "what is learnt")
    method: str = setting("bbb", checks.choice(*METHODS), "how weights are learnt")
    data: Data = table(Data)
    encoder: Encoder = table(Encoder)
    model: Decoder = table(Decoder)
    train: CaptionTraining = table(CaptionTraining)
    evaluate: Evaluation = table(Evaluation, Change.EVALUATED)

    def check(self) -> None:
        """Checks that the encoder has weights, and that vectors which are kept stay as they are.

        Raises:
          InputError: it has none, or they do not.
        """
        from tfp_bayesrnn.errors import InputError, quoted

        super().check()
        encoder, start_from = self.encoder, self.train.start_from
        name, weights, cache_dir = encoder.name, encoder.weights, encoder.cache_dir
        if name == COMPACT and weights:
            raise InputError(
                f"encoder.weights={quoted(weights)} has no effect with encoder.name={name!r}; accepted then: "
                "'', or train.start_from=WORKDIR for the weights of another run"
            )
        has_own = is_saved(name) or is_hub(name)
        if has_own and weights not in ("", IMAGENET):
            raise InputError(
                f"encoder.weights={quoted(weights)} has no effect with encoder.name={quoted(name)}, "
                "which has its own; accepted then: ''"
            )
        if not (encoder.trainable or weights or start_from or has_own):
            trained = "" if name == COMPACT else "encoder.weights=imagenet or a file, "
            raise InputError(
                f"encoder.trainable=False would leave encoder.name={quoted(name)} with random weights; "
                f"accepted then: {trained}train.start_from=WORKDIR, or encoder.trainable=True"
            )
        if self.model.image_as != "attention" and self.model.attention_units != Decoder().attention_units:
            raise InputError(
                f"model.attention_units={self.model.attention_units} has no effect with "
                f"model.image_as={self.model.image_as!r}; accepted then: {Decoder().attention_units}"
            )
        if not cache_dir:
            return
        # Vectors can be kept only if the encoder does not train and the images are not changed.
        for field, value in (
            ("encoder.trainable", encoder.trainable),
            ("data.shift", self.data.shift),
            ("data.flip", self.data.flip),
        ):
            if value:
                raise InputError(
                    f"encoder.cache_dir={quoted(cache_dir)} needs {field}=False; accepted with "
                    f"{field}=True: ''"
                )
