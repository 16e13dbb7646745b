"""Configurations: JSON and back, what a resumed run may change, what is valid."""

import json
import re

import pytest

from tfp_bayesrnn.errors import InputError
from zoo import presets
from zoo.configuration import config
from zoo.registry import from_json


def preset(**overrides):
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return config.with_overrides(presets.get_preset("ptb_small_bbb"), dotted)


def captioning(**overrides):
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return config.with_overrides(presets.get_preset("coco_bbb"), dotted)


def different(saved, new):
    return sorted(name for name, _, _ in config.differences(saved.to_dict(), new))


@pytest.mark.parametrize("name", ["coco_bbb", "shapes_demo_dropout"])
def test_json_round_trip_of_captioning(name):
    saved = presets.get_preset(name)
    assert from_json(config.to_json(saved)) == saved


def test_json_round_trip():
    text = config.to_json(preset())
    assert json.loads(text)["posterior"]["other_scale_range"] == [0.5, 1.0]
    back = from_json(text)
    assert back == preset()
    assert isinstance(back.posterior.other_scale_range, tuple)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not valid JSON"), ('{"a": ', "not valid JSON"), ("[1]", "must hold a JSON object, got list")],
)
def test_json_that_is_no_configuration(text, said):
    with pytest.raises(InputError, match=f"w/config.json.*{said}") as caught:
        from_json(text, "w/config.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"train__epochs": 200},
        {"jit_compile": "off"},
        {"description": "other words"},
        {"evaluate__rows": 1},
        {"evaluate__final_unroll": 5},
        {"train__patience": 3},
        {"train__max_nll": 0.0},
        {"train__step_backs": 2, "train__step_back_factor": 0.1},
        {"train__checkpoint_seconds": 1.0},
    ],
)
def test_what_a_resumed_run_may_change(change):
    assert config.differences(preset().to_dict(), preset(**change)) == []
    assert config.describe_differences(preset().to_dict(), preset(**change)) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"train__epochs": 200, "train__patience": 3, "jit_compile": "off", "description": "other words"},
        {"evaluate__beam": 5, "evaluate__meteor": True, "evaluate__length_penalty": 0.5},
        {"encoder__cache_dir": "features"},
    ],
)
def test_what_a_resumed_captioning_run_may_change(change):
    assert config.describe_differences(captioning().to_dict(), captioning(**change)) == ""


def test_what_a_resumed_captioning_run_may_not_change():
    new = captioning(encoder__width=8, data__flip=True, train__start_from="w", encoder__cache_dir="f")
    assert different(captioning(), new) == ["data.flip", "encoder.width", "train.start_from"]
    assert "task" in different(preset(), captioning())


def test_what_it_may_not_is_named_with_both_values():
    new = preset(train__batch=32, prior__pi=0.5, train__epochs=3, seed=1)
    assert different(preset(), new) == ["prior.pi", "seed", "train.batch"]
    said = config.describe_differences(preset().to_dict(), new)
    assert "train.batch is 20 there and 32 here" in said
    assert "epochs" not in said


def test_a_field_on_one_side_only_is_a_difference():
    older = preset().to_dict()
    del older["train"]["tail"]
    assert "train.tail is absent there and 'drop' here" == config.describe_differences(older, preset())
    older["train"]["head"] = 1
    assert "train.head is 1 there and absent here" in config.describe_differences(older, preset())


def test_evaluation_takes_only_what_does_not_change_the_model():
    changed = config.for_evaluation(preset(), "ptb_small_bbb", {"evaluate.rows": 3, "jit_compile": "on"})
    assert (changed.evaluate.rows, changed.jit_compile) == (3, "on")
    assert config.for_evaluation(preset(), None, {"train.batch": 20}) == preset()
    with pytest.raises(InputError, match=r"train.batch=21 cannot be set when evaluating.*trained with 20"):
        config.for_evaluation(preset(), None, {"train.batch": 21})
    with pytest.raises(InputError, match="preset 'demo_bbb' does not match the run's, 'ptb_small_bbb'"):
        config.for_evaluation(preset(), "demo_bbb", {})
    with pytest.raises(InputError, match=r"unknown configuration field 'evaluate.row'"):
        config.for_evaluation(preset(), None, {"evaluate.row": 1})


def test_evaluation_of_captions_takes_a_place_for_features_too():
    changes = {"evaluate.beam": 1, "jit_compile": "on", "encoder.cache_dir": "f"}
    changed = config.for_evaluation(captioning(), "coco_bbb", changes)
    assert (changed.evaluate.beam, changed.jit_compile, changed.encoder.cache_dir) == (1, "on", "f")
    with pytest.raises(InputError, match=r"jit_compile and evaluate\.\* and encoder\.cache_dir$"):
        config.for_evaluation(captioning(), None, {"encoder.width": 8})
    with pytest.raises(InputError, match=r"accepted then: jit_compile and evaluate\.\*$"):
        config.for_evaluation(preset(), None, {"train.batch": 21})


def test_overrides_leave_the_base_alone():
    base = preset()
    assert config.with_overrides(base, {"train.batch": 7}).train.batch == 7
    assert base == preset()
    with pytest.raises(InputError, match=r"did you mean train.batch"):
        config.with_overrides(base, {"train.bacth": 7})


def test_a_tables_name_is_answered_with_its_fields():
    error = config.unknown_field("prior", config.flatten(preset()))
    fields = "prior.family, prior.granularity, prior.log_sigma1, prior.log_sigma2, prior.pi, prior.scale"
    assert f"Accepted: {fields}" in str(error)


def test_a_configuration_of_an_earlier_version_has_what_it_did_then():
    earlier = json.loads(config.to_json(preset()))
    del earlier["sharpening"]
    for field in ("dynamic_learning_rate", "dynamic_rule", "dynamic_decay"):
        del earlier["evaluate"][field]
    del earlier["train"]["optimizer"], earlier["model"]["cell"]
    del earlier["posterior"]["family"], earlier["posterior"]["k"]
    for field in ("patience", "max_nll", "step_backs", "step_back_factor", "checkpoint_seconds"):
        del earlier["train"][field]
    assert from_json(json.dumps(earlier)) == preset()


def test_only_what_was_added_since_is_completed():
    lacking = json.loads(config.to_json(captioning()))
    del lacking["train"]["patience"]
    assert from_json(json.dumps(lacking)) == captioning()
    del lacking["train"]["batch"]
    with pytest.raises(InputError, match=r"train.batch is missing"):
        from_json(json.dumps(lacking))


def test_a_form_that_is_not_said_is_the_present_one_and_any_other_is_refused():
    saved = json.loads(config.to_json(preset()))
    assert saved.pop("format") == config.FORMAT
    assert from_json(json.dumps(saved)) == preset()
    for version in (2, 0, "2", None):
        with pytest.raises(InputError, match=r"w/config.json was written by another version .* accepted: 1"):
            from_json(json.dumps({**saved, "format": version}), "w/config.json")


def test_a_table_that_is_none_is_named():
    damaged = {**json.loads(config.to_json(preset())), "evaluate": 3}
    with pytest.raises(InputError, match=r"evaluate.rows is missing"):
        from_json(json.dumps(damaged))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("compute_dtype", "float16"),
        ("compute_dtype", "bfloat16"),
        ("train.patience", 0),
        ("train.max_nll", 0.0),
        ("train.step_backs", 3),
        ("train.checkpoint_seconds", 0.0),
    ],
)
def test_values_at_the_edge_are_accepted(field, value):
    config.validate(config.with_overrides(preset(), {field: value}))


@pytest.mark.parametrize(
    "name, dotted, message",
    [
        (
            "demo_dropout",
            {"posterior.family": "k_tied"},
            "family='k_tied' has no effect with method='dropout'",
        ),
        ("demo_bbb", {"posterior.k": 3}, "k=3 has no effect with posterior.family='mean_field'"),
        ("demo_bbb", {"posterior.family": "tied"}, "it must be one of mean_field, k_tied"),
        ("demo_bbb_ktied", {"posterior.k": 0}, "at least 1"),
    ],
)
def test_a_family_is_not_set_without_effect(name, dotted, message):
    with pytest.raises(InputError, match=re.escape(message)):
        config.validate(config.with_overrides(presets.get_preset(name), dotted))
    for accepted in ({"posterior.family": "k_tied", "posterior.k": 3}, {}):
        config.validate(config.with_overrides(presets.get_preset("demo_bbb_sharpened"), accepted))


def test_sharpening_is_not_set_without_effect():
    plain, sharpened = (presets.get_preset(name) for name in ("demo_bbb", "demo_bbb_sharpened"))
    config.validate(config.with_overrides(sharpened, {"sharpening.sigma0": 0.1}))
    with pytest.raises(InputError, match=r"sharpening.sigma0=0.1 has no effect with method='bbb'"):
        config.validate(config.with_overrides(plain, {"sharpening.sigma0": 0.1}))


def test_words_are_not_chosen_of_a_data_set_with_a_vocabulary_of_its_own():
    of_text, of_ptb = (presets.get_preset(name) for name in ("text_small_bbb", "ptb_small_bbb"))
    chosen = {"data.min_count": 3, "data.max_words": 100, "data.lowercase": True}
    config.validate(config.with_overrides(of_text, chosen))
    for name, value in chosen.items():
        said = rf"{name}={value} has no effect with data.name='ptb'; accepted then: .*, or data.name=text"
        with pytest.raises(InputError, match=said):
            config.validate(config.with_overrides(of_ptb, {name: value}))


BAD = [
    ("task", "captions", "one of language_model"),
    ("task", "captioning", "one of language_model"),
    ("method", "bayes", "one of deterministic, dropout, variational_dropout, bbb, bbb_sharpened"),
    ("data.name", "ptbb", "one of builtin, ptb, text, wikitext2"),
    ("model.dropout", 1.0, r"a number in \[0, 1\)"),
    ("model.word_dropout", -0.1, r"a number in \[0, 1\)"),
    ("model.units", 0, "a whole number of at least 1"),
    ("model.layers", -1, "a whole number of at least 1"),
    ("model.cell", "grru", "one of lstm, gru, mgu"),
    ("data.max_words", 2, "0, or a whole number of at least 3 and at most 1000000"),
    ("model.init_range", 0.0, "a number above 0"),
    ("prior.pi", 0.0, "strictly between 0 and 1"),
    ("prior.pi", 1.0, "strictly between 0 and 1"),
    ("prior.log_sigma1", float("nan"), "a finite number"),
    ("prior.granularity", "layer", "one of row, weight, tensor"),
    ("posterior.other_scale_range", (1.0, 0.5), "two numbers"),
    ("posterior.other_scale_range", (0.5,), "two numbers"),
    ("sharpening.sigma0", -0.1, "at least 0"),
    ("evaluate.dynamic_learning_rate", -0.1, "at least 0"),
    ("evaluate.dynamic_rule", "adam", "one of sgd, rms, posterior"),
    ("evaluate.dynamic_rule", "rms", "give a rate above 0"),
    ("evaluate.dynamic_decay", 1.5, "at most 1"),
    ("evaluate.dynamic_decay", 0.1, "has no decay: it must be 0"),
    ("train.epochs", 0, "at least 1"),
    ("train.decay", 1.5, "at most 1"),
    ("train.learning_rate", float("inf"), "a number above 0"),
    ("train.tail", "keep", "one of drop, pad"),
    ("train.kl_weight", -1.0, "at least 0"),
    ("train.patience", -1, "a whole number of at least 0"),
    ("train.max_nll", -0.5, "at least 0"),
    ("train.max_nll", float("inf"), "at least 0"),
    ("train.step_backs", -1, "a whole number of at least 0"),
    ("train.step_back_factor", 0.0, "strictly between 0 and 1"),
    ("train.step_back_factor", 1.0, "strictly between 0 and 1"),
    ("train.checkpoint_seconds", -1.0, "at least 0"),
    ("seed", -1, "at least 0"),
    ("seed", 2**32, "below 2\\*\\*32"),
    ("compute_dtype", "float64", "one of float32, bfloat16, float16"),
    ("jit_compile", "yes", "one of auto, on, off"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), BAD)
def test_invalid_values_are_named(field, value, accepted):
    with pytest.raises(InputError, match=accepted) as caught:
        config.validate(config.with_overrides(preset(), {field: value}))
    assert str(caught.value).startswith(f"{field}={value!r} is not accepted")


def test_a_task_has_no_fields_of_another():
    for base, field, value in ((preset(), "encoder.width", 8), (captioning(), "train.unroll", 35)):
        table, name = field.split(".")
        changed = base.to_dict()
        changed[table] = {**changed.get(table, {}), name: value}
        with pytest.raises(InputError, match=f"unknown configuration field '{field}'"):
            from_json(json.dumps(changed))
    without = preset().to_dict()
    del without["task"]
    with pytest.raises(
        InputError, match="field task is missing; accepted: one of language_model, captioning"
    ):
        from_json(json.dumps(without))
    with pytest.raises(InputError, match="task='x' is not accepted: it must be one of language_model, capt"):
        from_json(json.dumps({**without, "task": "x"}))


def test_missing_and_unknown_fields():
    lacking, extra = preset().to_dict(), preset().to_dict()
    del lacking["train"]["batch"]
    extra["train"]["batches"] = 1
    with pytest.raises(InputError, match=r"field train.batch is missing"):
        from_json(json.dumps(lacking))
    with pytest.raises(
        InputError, match=r"unknown configuration field 'train.batches': did you mean train.batch"
    ):
        from_json(json.dumps(extra))


def test_a_tied_softmax_needs_equal_sizes():
    config.validate(preset(model__tied=True))
    with pytest.raises(InputError, match=r"model.embedding_units=100 to equal model.units=200"):
        config.validate(preset(model__tied=True, model__embedding_units=100))
