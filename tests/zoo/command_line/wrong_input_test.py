"""How wrong input is answered: one line, and exit status 2."""

import pytest
from requests_made import TRAIN, main

UNCERTAINTY = ("--mode=uncertainty", "--workdir=w")

BAD = {
    "no mode": ([], "--mode is needed: one of list, train, evaluate, caption, generate"),
    "images to train on": (
        [*TRAIN, "--images=a.png"],
        "--images is for --mode=caption, not for --mode=train",
    ),
    "images to list": (["--mode=list", "--images=a.png"], "--images is for --mode=caption"),
    "images to evaluate on": (
        ["--mode=evaluate", "--workdir=w", "--images=a.png"],
        "not for --mode=evaluate",
    ),
    "output": ([*TRAIN, "--output=a.png"], "--output is for --mode=caption or --mode=generate or"),
    "a fraction to evaluate": (
        ["--mode=evaluate", "--workdir=w", "--prune=0.5"],
        "--prune is for --mode=prune or --mode=export, not for --mode=evaluate",
    ),
    "a text's length": ([*TRAIN, "--max_words=some"], "--max_words=some is not accepted"),
    "fields of a benchmark": (
        ["--mode=uncertainty", "--workdir=w", "--config.seed=1"],
        "unknown flag '--config.seed'",
    ),
    "no workdir to caption by": (["--mode=caption", "--images=a.png"], "--mode=caption needs --workdir=DIR"),
    "mode": (["--mode=trian"], "unknown mode 'trian': did you mean train"),
    "no preset": (["--mode=train", "--workdir=w"], "--mode=train needs --preset=NAME"),
    "no workdir": (["--mode=train", "--preset=demo_bbb"], "--mode=train needs --workdir=DIR"),
    "no workdir to evaluate": (["--mode=evaluate"], "--mode=evaluate needs --workdir=DIR"),
    "workdir missing": (["--mode=evaluate", "--workdir=/nowhere/w"], "/nowhere/w does not exist"),
    "preset": (["--mode=train", "--workdir=w", "--preset=demo_bb"], "did you mean demo_bbb"),
    "flag": ([*TRAIN, "--work_dir=w"], "unknown flag '--work_dir': did you mean --workdir"),
    "flag of list": (["--mode=list", "--prset=x"], "did you mean --preset"),
    "field without its table": (
        [*TRAIN, "--epochs=3"],
        "flag '--epochs': did you mean --config.train.epochs?",
    ),
    "half a field's name": ([*TRAIN, "--epoch=3"], "flag '--epoch': did you mean --config.train.epochs?"),
    "a name of two fields": (
        [*TRAIN, "--batch=3"],
        "did you mean --config.train.batch or --config.evaluate.batch?",
    ),
    "flag nearer than a field": ([*TRAIN, "--sed=3"], "unknown flag '--sed': did you mean --seed"),
    "flag of a mode and a field": (
        [*TRAIN, "--unroll=3"],
        "--unroll is for --mode=uncertainty, not for --mode=train: did you mean --config.train.unroll or",
    ),
    "flag, before what is missing": (
        ["--mode=train", "--workdri=w"],
        "unknown flag '--workdri': did you mean",
    ),
    "strategy": ([*TRAIN, "--strategy=mirored"], "unknown strategy 'mirored': did you mean mirrored"),
    "strategies": ([*TRAIN, "--strategy=tpu"], "Accepted: auto, default, mirrored, multi_worker"),
    "no device": ([*TRAIN, "--cpu_devices=0"], "--cpu_devices=0"),
    "devices": ([*TRAIN, "--cpu_devices=x"], "--cpu_devices=x is not accepted: it must be a whole number"),
    "patience": ([*TRAIN, "--config.train.patience=-1"], "train.patience=-1 is not accepted"),
    "field": ([*TRAIN, "--config.train.epoch=3"], "field 'train.epoch': did you mean train.epochs"),
    "table": ([*TRAIN, "--config.prior={}"], "Accepted: prior.granularity"),
    "whole config": ([*TRAIN, "--config=x"], "--config needs a field"),
    "whole number": (
        [*TRAIN, "--config.train.epochs=3.5"],
        "--config.train.epochs=3.5 is not accepted: it must",
    ),
    "number": (
        [*TRAIN, "--config.train.decay=x"],
        "--config.train.decay=x is not accepted: it must be a number",
    ),
    "bool": ([*TRAIN, "--config.model.tied=x"], "it must be true or false"),
    "range": (
        [*TRAIN, "--config.model.dropout=1"],
        "model.dropout=1.0 is not accepted: it must be a number in",
    ),
    "nan": ([*TRAIN, "--config.train.clip_norm=nan"], "train.clip_norm=nan is not accepted"),
    "name": ([*TRAIN, "--config.data.name=pbt"], "data.name='pbt' is not accepted"),
    "seed": ([*TRAIN, "--seed=x"], "--seed=x is not accepted: it must be a whole number"),
    "switch": ([*TRAIN, "--jit_compile=x"], "--jit_compile=x: accepted: on, off, auto"),
    "precision": ([*TRAIN, "--mixed_precision=half"], "--mixed_precision=half: accepted: bfloat16, float16,"),
    "detached": ([*TRAIN, "--mixed_precision", "float16"], "unexpected argument 'float16'"),
    "argument": ([*TRAIN, "extra"], "unexpected argument 'extra'"),
    "no value": ([*TRAIN, "--seed"], "Missing value for flag --seed"),
    "no field": ([*TRAIN, "--config.=2"], "unknown configuration field '': Accepted: compute_dtype"),
    "half a field": ([*TRAIN, "--config.train.=2"], "unknown configuration field 'train.': did you mean"),
    "two seeds": (
        [*TRAIN, "--seed=5", "--config.seed=6"],
        "--seed=5 and --config.seed=6 contradict each other: give one",
    ),
    "two numbers of samples": (
        [*TRAIN, "--num_samples=5", "--config.evaluate.num_samples=6"],
        "--num_samples=5 and --config.evaluate.num_samples=6 contradict",
    ),
    "two precisions": (
        [*TRAIN, "--nomixed_precision", "--config.compute_dtype=float16"],
        "--mixed_precision=float32 and --config.compute_dtype=float16 contradict",
    ),
    "two ways to compile": (
        [*TRAIN, "--jit_compile=auto", "--config.jit_compile=on"],
        "--jit_compile=auto and --config.jit_compile=on contradict",
    ),
    "negative seed": ([*TRAIN, "--seed=-1"], "seed=-1 is not accepted: it must be a whole number of at"),
    "negative seed of a benchmark": ([*UNCERTAINTY, "--seed=-1"], "--seed=-1 is not accepted: it must be a"),
    "a seed of 20 digits": ([*UNCERTAINTY, f"--seed={'9' * 20}"], "a whole number of at least 0 and below"),
    "a seed of 5000 digits": ([*TRAIN, f"--seed={'9' * 5000}"], "9999...9999"),
    "texts of one word": ([*UNCERTAINTY, "--words=-1"], "--words=-1 is not accepted: it must be a whole num"),
}
# Sizes that would be found out after minutes of silence, or never.
_BILLION = 1_000_000_000
_SIZES = (
    "model.units",
    "model.embedding_units",
    "model.layers",
    "train.batch",
    "train.unroll",
    "train.epochs",
    "train.hold_epochs",
    "train.patience",
    "train.kl_warmup_epochs",
    "evaluate.rows",
    "evaluate.unroll",
    "evaluate.final_rows",
    "evaluate.final_unroll",
    "evaluate.num_samples",
)
_SIZES_OF_CAPTIONS = (
    "data.max_words",
    "data.captions_per_image",
    "data.min_count",
    "encoder.image_size",
    "encoder.width",
    "evaluate.batch",
    "evaluate.beam",
    "evaluate.max_words",
)
_CAPTIONS = ("--mode=train", "--preset=shapes_demo_bbb", "--workdir=w")
_GENERATE = ("--mode=generate", "--workdir=w")
BAD |= {
    f"a billion {name}": ([*command, f"--{name}={_BILLION}"], f"{name.removeprefix('config.')}={_BILLION}")
    for command, names in (
        (TRAIN, ("num_samples", "cpu_devices", *(f"config.{field}" for field in _SIZES))),
        (_CAPTIONS, [f"config.{field}" for field in _SIZES_OF_CAPTIONS]),
        (UNCERTAINTY, ("rows", "unroll", "window", "num_samples")),
        (_GENERATE, ("max_words", "continuations", "beam")),
    )
    for name in names
}
BAD |= {
    "rows and windows together": (
        [*TRAIN, "--config.train.batch=60000", "--config.train.unroll=60000"],
        "train.batch=60000 and train.unroll=60000 are not accepted together",
    ),
    "units and layers together": (
        [*TRAIN, "--config.model.units=60000", "--config.model.layers=100"],
        "model.units=60000, model.embedding_units=",
    ),
    "beyond float32": ([*TRAIN, "--config.train.learning_rate=1e39"], "train.learning_rate=1e+39 is not acc"),
}
# What is of any length, wherever it may stand, is quoted in part.
LONG = "x" * 1_000_000
BAD |= {
    f"a long {name}": (arguments, said)
    for name, arguments, said in (
        ("mode", [f"--mode={LONG}"], "unknown mode 'xxxxx"),
        ("flag", [*TRAIN, f"--{LONG}=1"], "unknown flag '--xxxxx"),
        ("preset", ["--mode=train", "--workdir=w", f"--preset={LONG}"], "unknown preset 'xxxxx"),
        ("field", [*TRAIN, f"--config.{LONG}=1"], "unknown configuration field 'xxxxx"),
        ("value", [*TRAIN, f"--config.data.name={LONG}"], "data.name='xxxxx"),
        ("number", [*TRAIN, f"--seed={LONG}"], "--seed=xxxxx"),
        ("strategy", [*TRAIN, f"--strategy={LONG}"], "unknown strategy 'xxxxx"),
        ("argument", [*TRAIN, LONG], "unexpected argument 'xxxxx"),
        ("choice", [*TRAIN, f"--jit_compile={LONG}"], "--jit_compile=xxxxx"),
    )
}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_status_2(calls, capsys, arguments, said):
    assert main(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert said in err
    assert len(err) < 1500
    assert not calls


def test_what_is_said_to_be_accepted_is(calls, capsys):
    """Each value that the error for a wrong one lists."""
    for flag in ("mixed_precision", "jit_compile"):
        assert main(*TRAIN, f"--{flag}=x") == 2
        accepted = capsys.readouterr().err.rsplit("accepted: ", 1)[1].replace(" or ", ", ").strip()
        for value in accepted.split(", "):
            assert main(*TRAIN, f"--{flag}={value}") == 0, (value, capsys.readouterr().err)
