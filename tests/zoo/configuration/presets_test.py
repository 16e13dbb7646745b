"""Presets: they are complete, of one shape, and carry the published numbers."""

import pytest

from tfp_bayesrnn.errors import InputError, unknown_name
from zoo import presets
from zoo.configuration import config
from zoo.configuration.fields import settings
from zoo.registry import TASKS

OF_TASK = {
    "language_model": "ptb_medium_bbb",
    "captioning": "coco_bbb",
    "forecasting": "demo_forecast_bbb",
}


def fields(name):
    return config.flatten(presets.get_preset(name))


@pytest.mark.parametrize("name", presets.preset_names())
def test_every_preset_is_valid_and_of_one_shape(name):
    preset = presets.get_preset(name)
    config.validate(preset)
    assert preset.preset == name
    assert "\n" not in preset.description
    assert set(fields(name)) == set(fields(OF_TASK[preset.task]))


def test_the_presets_there_are():
    names = set(presets.preset_names())
    methods = ("deterministic", "dropout", "variational_dropout", "bbb", "bbb_sharpened")
    for method in methods:
        assert {f"demo_{method}", *(f"ptb_{size}_{method}" for size in ("small", "medium", "large"))} <= names
    for size in ("small", "medium"):
        assert {f"text_{size}_{method}" for method in ("deterministic", "dropout", "bbb")} <= names
    assert {"demo_bbb_ktied", "ptb_small_bbb_ktied", "ptb_medium_bbb_ktied", "ptb_large_bbb_ktied"} <= names
    assert {"text_small_bbb_sharpened", "wikitext2_medium_bbb", "wikitext2_medium_bbb_sharpened"} <= names


def test_language_models_are_listed_first():
    tasks = [preset["task"] for preset in presets.PRESETS.values()]
    assert tasks == sorted(tasks, key=list(OF_TASK).index)
    assert set(tasks) == set(OF_TASK)
    assert presets.preset_names()[0] == "demo_deterministic"


@pytest.mark.parametrize("name", [name for name in presets.preset_names() if name.endswith("_sharpened")])
def test_sharpening_is_all_that_a_sharpened_preset_adds(name):
    plain, sharpened = fields(name.removesuffix("_sharpened")), fields(name)
    named = ("preset", "method", "description", "sharpening.sigma0")
    assert {f: v for f, v in plain.items() if f not in named} == {
        f: v for f, v in sharpened.items() if f not in named
    }
    assert sharpened["method"] == "bbb_sharpened"
    assert sharpened["sharpening.sigma0"] == (0.002 if sharpened["task"] == "forecasting" else 0.02)


@pytest.mark.parametrize("name", [name for name in presets.preset_names() if name.endswith("_ktied")])
def test_a_k_tied_preset_adds_the_family_and_a_warm_up_over_the_whole_training(name):
    plain, tied = fields(name.removesuffix("_ktied")), fields(name)
    changed = {field for field in plain if plain[field] != tied[field]}
    assert changed == {"preset", "description", "posterior.family", "train.kl_warmup_epochs"}
    assert tied["train.kl_warmup_epochs"] == tied["train.epochs"]
    assert (tied["method"], tied["posterior.family"], tied["posterior.k"]) == ("bbb", "k_tied", 2)
    assert "k-tied" in tied["description"]


@pytest.mark.parametrize("name", presets.preset_names())
def test_training_is_watched_without_changing_it(name):
    """No early stop and no step back unless asked for: the published schedules run to their end."""
    values = fields(name)
    assert (values["train.patience"], values["train.step_backs"]) == (0, 0)
    assert values["train.max_nll"] == 5.0
    assert values["train.checkpoint_seconds"] <= 600


# What the papers and released codes say, written out a second time on purpose.
PUBLISHED = {
    "ptb_small_deterministic": dict(
        units=200, init_range=0.1, dropout=0.0, unroll=20, epochs=13, hold_epochs=4, decay=0.5, clip_norm=5
    ),
    "ptb_medium_dropout": dict(
        units=650,
        init_range=0.05,
        dropout=0.5,
        unroll=35,
        epochs=39,
        hold_epochs=6,
        decay=1 / 1.2,
        clip_norm=5,
    ),
    "ptb_large_dropout": dict(
        units=1500, init_range=0.04, dropout=0.65, unroll=35, epochs=55, hold_epochs=14, clip_norm=10
    ),
    "ptb_medium_variational_dropout": dict(
        word_dropout=0.2, recurrent_dropout=0.2, input_dropout=0.35, output_dropout=0.35, dropout=0.0
    ),
    "ptb_large_variational_dropout": dict(
        units=1500,
        word_dropout=0.3,
        recurrent_dropout=0.3,
        input_dropout=0.5,
        output_dropout=0.5,
        hold_epochs=10,
        epochs=55,
        decay=1 / 1.15,
        clip_norm=10,
        weight_decay=1e-7,
    ),
    "ptb_medium_bbb": dict(
        units=650,
        embedding_units=650,
        init_range=0.05,
        dropout=0.0,
        unroll=35,
        epochs=70,
        hold_epochs=20,
        decay=0.9,
        clip_norm=5,
        pi=0.25,
        log_sigma1=-1,
        log_sigma2=-7,
        granularity="row",
        recurrent_scale_range=(0.25, 0.5),
        other_scale_range=(0.5, 1.0),
        kl_weight=1.0,
        weight_decay=0.0,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    by_last_part = {field.split(".")[-1]: value for field, value in sorted(fields(name).items())}
    assert {field: by_last_part[field] for field in PUBLISHED[name]} == PUBLISHED[name]
    assert by_last_part["batch"] == 20
    assert by_last_part["learning_rate"] == 1.0
    assert by_last_part["layers"] == 2


@pytest.mark.parametrize("field", ["batch", "bacth"])
def test_a_preset_cannot_be_changed(field):
    with pytest.raises(AttributeError):
        setattr(presets.get_preset("ptb_small_bbb").train, field, 1)
    assert presets.get_preset("ptb_small_bbb").train.batch == 20


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_field_says_what_it_is_and_accepts_its_default(task):
    for one in settings(task.config):
        assert one.about and one.check.accepted
        assert one.name == "preset" or one.check.accepts(one.default), one.name


def test_unknown_preset_lists_near_matches():
    with pytest.raises(InputError, match=r"unknown preset 'ptb_smal_bbb': did you mean ptb_small_bbb"):
        presets.get_preset("ptb_smal_bbb")


def test_of_many_accepted_names_an_error_lists_some():
    names = [f"series_{number:05}" for number in range(5000)]
    message = str(unknown_name("series", "x", names))
    assert len(message) < 1200 and message.endswith(" more")
    assert str(unknown_name("cell", "x", ["a", "b"])).endswith("Accepted: a, b")


def test_table_has_a_line_per_preset():
    head, *lines = presets.table().splitlines()
    assert head.split() == ["preset", "task", "size", "method", "description"]
    assert [line.split()[0] for line in lines] == list(presets.preset_names())
    assert " 2x650 " in next(line for line in lines if line.startswith("ptb_medium_bbb"))
    assert " compact 112 + 1x256 " in next(line for line in lines if line.startswith("flickr8k_bbb"))
    assert " InceptionV3 299 + 1x512 " in next(line for line in lines if line.startswith("coco_bbb"))
    assert {line.index(presets.PRESETS[line.split()[0]]["description"]) for line in lines} == {
        head.index("description")
    }
