"""Captioning presets: which there are, the published numbers, what their fields accept."""

import copy

import pytest

from tfp_bayesrnn.errors import InputError
from zoo import presets
from zoo.captioning import encoder
from zoo.captioning import presets as captioning
from zoo.configuration import config
from zoo.configuration.methods import BAYESIAN_METHODS

METHODS = ("deterministic", "dropout", "bbb", "bbb_sharpened")
DATA = {
    "shapes_demo": "builtin_shapes",
    "flickr8k": "flickr8k",
    "flickr8k_frozen": "flickr8k",
    "flickr8k_attention": "flickr8k",
    "coco": "coco_captions",
}
NAMES = [f"{model}_{method}" for model in DATA for method in METHODS]


def fields(name):
    return config.flatten(presets.get_preset(name))


def test_the_presets_there_are():
    names = [*NAMES, *(f"{model}_bbb_ktied" for model in DATA)]
    assert list(captioning.PRESETS) == names
    assert [name for name in presets.preset_names() if name in names] == names


def test_encoders_are_the_ones_that_can_be_had():
    known = {encoder.COMPACT, *encoder.applications()}
    assert {fields(name)["encoder.name"] for name in NAMES} <= known


@pytest.mark.parametrize("name", NAMES)
def test_a_method_changes_nothing_but_dropout(name):
    model, method = next(
        (model, method) for model in DATA for method in METHODS if f"{model}_{method}" == name
    )
    values, plain = fields(name), fields(f"{model}_deterministic")
    assert (values["task"], values["preset"], values["method"]) == ("captioning", name, method)
    assert values["data.name"] == DATA[model]
    changed = {field for field in values if values[field] != plain[field]}
    assert changed - {"preset", "method", "description"} == (
        {"model.dropout"} if method == "dropout" else set()
    )
    assert plain["model.dropout"] == plain["model.feature_dropout"] == 0.0


# What the papers and the released code say, written out a second time on purpose.
PUBLISHED = {
    "encoder.name": "InceptionV3",
    "encoder.image_size": 299,
    "encoder.weights": "imagenet",
    "encoder.trainable": False,
    "model.embedding_units": 512,
    "model.units": 512,
    "model.layers": 1,
    "model.init_range": 0.08,
    "model.image_as": "input",
    "train.batch": 32,
    "train.optimizer": "sgd",
    "train.learning_rate": 2.0 / 57,  # A loss summed over an image's words, not their mean.
    "train.clip_norm": 5.0 * 57,
    "train.kl_weight": 1.0,
    "prior.pi": 0.25,
    "prior.log_sigma1": -1.0,
    "prior.log_sigma2": -7.0,
    "prior.granularity": "row",
    "evaluate.beam": 3,
}


@pytest.mark.parametrize("method", METHODS)
def test_published_settings(method):
    values = fields(f"coco_{method}")
    assert {field: values[field] for field in PUBLISHED} == PUBLISHED
    # Half the rate eight epochs after the first eight, and a quarter after sixteen.
    halved = [values["train.decay"] ** (epoch - values["train.hold_epochs"]) for epoch in (8, 16, 24)]
    assert halved == pytest.approx([1, 0.5, 0.25])


def test_the_papers_dropout():
    assert {fields(f"{model}_dropout")["model.dropout"] for model in DATA} == {0.3}


def test_prior_and_posterior_are_the_language_models():
    ours, theirs = presets.get_preset("coco_bbb"), presets.get_preset("ptb_medium_bbb")
    for table in ("prior", "posterior", "sharpening"):
        assert getattr(ours, table) == getattr(theirs, table)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_that_stays_as_it_is_can_keep_its_features(name):
    preset = presets.get_preset(name)
    if not preset.encoder.trainable:
        config.validate(config.with_overrides(preset, {"encoder.cache_dir": "features"}))


@pytest.mark.parametrize("name", NAMES)
def test_a_kl_weight_below_1_is_called_tempered(name):
    values = fields(name)
    is_tempered = values["train.kl_weight"] < 1 and values["method"] in BAYESIAN_METHODS
    assert ("tempered" in values["description"]) == is_tempered


def test_how_tempering_is_described():
    settings = copy.deepcopy(captioning._FLICKR8K)
    settings["train"]["kl_weight"] = 0.05
    described = {method: captioning._captioning("x", settings, method)["description"] for method in METHODS}
    for method in BAYESIAN_METHODS:
        assert described[method].endswith("; tempered: KL weight 0.05)")
    assert "tempered" not in described["dropout"] + described["deterministic"]


WHOLE, NOT_NEGATIVE = "a whole number of at least 1", "a number of at least 0"
BAD = [
    ("method", "variational_dropout", "one of deterministic, dropout, bbb, bbb_sharpened"),
    ("data.name", "coco", "one of builtin_shapes, flickr8k, coco_captions"),
    ("data.min_count", -1, "a whole number of at least 0"),
    ("data.max_words", 0, WHOLE),
    ("data.captions_per_image", 0, WHOLE),
    ("data.shift", 1, "true or false"),
    ("data.flip", "yes", "true or false"),
    ("encoder.name", 3, "a text"),
    ("encoder.image_size", 31, "a whole number of at least 32"),
    ("encoder.width", 0, WHOLE),
    ("encoder.weights", None, "the path of a file or folder"),
    ("encoder.trainable", 0, "true or false"),
    ("encoder.cache_dir", False, "the path of a file or folder"),
    ("model.units", 0, WHOLE),
    ("model.tied", "no", "true or false"),
    ("model.dropout", 1.0, r"a number in \[0, 1\)"),
    ("model.feature_dropout", 1.0, r"a number in \[0, 1\)"),
    ("model.image_as", "word", "one of input, state"),
    ("prior.granularity", "layer", "one of row, weight, tensor"),
    ("train.batch", 0, WHOLE),
    ("train.optimizer", "rmsprop", "one of sgd, adam"),
    ("train.start_from", None, "the path of a file or folder"),
    ("train.max_nll", -0.5, NOT_NEGATIVE),
    ("train.kl_weight", -0.1, NOT_NEGATIVE),
    ("evaluate.batch", 0, WHOLE),
    ("evaluate.beam", 0, WHOLE),
    ("evaluate.length_penalty", -0.1, NOT_NEGATIVE),
    ("evaluate.max_words", 0, WHOLE),
    ("evaluate.num_samples", -1, "a whole number of at least 0"),
    ("evaluate.meteor", "on", "true or false"),
    ("seed", -1, "at least 0"),
    ("jit_compile", "yes", "one of auto, on, off"),
]


def coco(method="bbb", **overrides):
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return config.with_overrides(presets.get_preset(f"coco_{method}"), dotted)


@pytest.mark.parametrize(("field", "value", "accepted"), BAD)
def test_invalid_values_are_named(field, value, accepted):
    with pytest.raises(InputError, match=rf"it must be .*{accepted}") as caught:
        config.validate(config.with_overrides(coco(), {field: value}))
    assert str(caught.value).startswith(f"{field}={value!r} is not accepted")


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("bbb", {"data__min_count": 4, "train__kl_weight": 0.1, "encoder__image_size": 32}),
        ("bbb", {"encoder__cache_dir": "f", "train__optimizer": "adam"}),
        ("bbb", {"encoder__trainable": True, "data__shift": True, "data__flip": True}),
        ("bbb", {"encoder__trainable": True, "encoder__weights": "", "train__start_from": "w"}),
        ("bbb", {"encoder__weights": "", "train__start_from": "w"}),
        ("bbb", {"encoder__name": "compact", "encoder__weights": "", "train__start_from": "w"}),
        ("bbb", {"encoder__name": "compact", "encoder__weights": "", "encoder__trainable": True}),
        ("bbb", {"model__tied": True, "evaluate__length_penalty": 0.0}),
        ("bbb_sharpened", {"sharpening__sigma0": 0.1}),
    ],
)
def test_what_goes_together(method, changes):
    config.validate(coco(method, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"encoder__name": "compact"},
            "encoder.weights='imagenet' has no effect with encoder.name='compact'; accepted then: '', or "
            "train.start_from",
        ),
        (
            {"encoder__name": "compact", "encoder__weights": ""},
            "encoder.trainable=False would leave encoder.name='compact' with random weights; accepted then: "
            "train.start_from=WORKDIR, or encoder.trainable=True",
        ),
        (
            {"encoder__weights": ""},
            "encoder.name='InceptionV3' with random weights; accepted then: encoder.weights=imagenet or a",
        ),
        (
            {"encoder__trainable": True, "encoder__cache_dir": "f"},
            "encoder.cache_dir='f' needs encoder.trainable=False; accepted with encoder.trainable=True: ''",
        ),
        ({"data__shift": True, "encoder__cache_dir": "f"}, "encoder.cache_dir='f' needs data.shift=False"),
        ({"data__flip": True, "encoder__cache_dir": "f"}, "encoder.cache_dir='f' needs data.flip=False"),
        ({"model__tied": True, "model__units": 256}, "model.embedding_units=512 to equal model.units=256"),
        ({"sharpening__sigma0": 0.1}, "sharpening.sigma0=0.1 has no effect with method='bbb'"),
    ],
)
def test_what_does_not_go_together(changes, said):
    with pytest.raises(InputError) as caught:
        config.validate(coco(**changes))
    assert said in str(caught.value)
