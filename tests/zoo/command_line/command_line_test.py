"""The command line: what reaches `zoo.command_line.commands.run`, and how bad input is answered."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import absl_main
from tfp_bayesrnn.errors import InputError
from zoo import presets
from zoo.command_line import command_line
from zoo.configuration import config as configs
from zoo.machine.machine import Machine
from zoo.runs.workdir import Workdir

ROOT = Path(absl_main.__file__).parent
TRAIN = ("--mode=train", "--preset=demo_bbb", "--workdir=w")
UNCERTAINTY = ("--mode=uncertainty", "--workdir=w")


@pytest.fixture
def calls(monkeypatch):
    """Stands in for zoo.commands; collects (mode, config, workdir, data_dir, machine, given)."""
    received = []

    def run(mode, config, workdir, data_dir, machine=None, **given):
        received.append(
            types.SimpleNamespace(
                mode=mode, config=config, workdir=workdir, data_dir=data_dir, machine=machine, given=given
            )
        )

    monkeypatch.setitem(sys.modules, "zoo.command_line.commands", types.SimpleNamespace(run=run))
    return received


def main(*arguments):
    return absl_main.main(["absl_main.py", *arguments])


def test_train(calls, tmp_path):
    arguments = ["--mode=train", "--preset=ptb_small_bbb", f"--workdir={tmp_path}", "--data_dir=d"]
    assert main(*arguments) == 0
    (call,) = calls
    assert (call.mode, call.workdir, call.data_dir) == ("train", str(tmp_path), "d")
    assert call.config == presets.get_preset("ptb_small_bbb")
    assert call.config.is_locked
    assert call.machine == Machine("auto", 1, False)


def test_list(calls):
    assert main("--mode=list") == 0
    assert (calls[0].mode, calls[0].config) == ("list", None)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--config.train.batch=3"], "train.batch", 3),
        (["--config.train.batch", "3"], "train.batch", 3),
        (["-config.train.batch=3"], "train.batch", 3),
        (["--config.train.learning_rate=2"], "train.learning_rate", 2.0),
        (["--config.model.tied"], "model.tied", True),
        (["--config.model.tied", "--noconfig.model.tied"], "model.tied", False),
        (["--config.prior.granularity=weight"], "prior.granularity", "weight"),
        (["--config.posterior.other_scale_range=(0.1, 0.2)"], "posterior.other_scale_range", (0.1, 0.2)),
        (["--seed=7"], "seed", 7),
        (["--seed", "7"], "seed", 7),
        (["--mixed_precision"], "compute_dtype", "bfloat16"),
        (["--mixed_precision=true"], "compute_dtype", "bfloat16"),
        (["--mixed_precision=bfloat16"], "compute_dtype", "bfloat16"),
        (["--mixed_precision=float16"], "compute_dtype", "float16"),
        (["--config.compute_dtype=float16"], "compute_dtype", "float16"),
        (["--config.train.patience=3"], "train.patience", 3),
        (["--jit_compile"], "jit_compile", "on"),
        (["--nojit_compile"], "jit_compile", "off"),
        (["--jit_compile=on", "--config.jit_compile=on"], "jit_compile", "on"),
    ],
)
def test_overrides(calls, arguments, field, value):
    assert main(*TRAIN, *arguments) == 0
    found = configs.flatten(calls[0].config)[field]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("arguments", "machine"),
    [
        (["--strategy=default"], Machine("default")),
        (["--strategy=mirrored", "--cpu_devices=3"], Machine("mirrored", 3)),
        (["--strategy=multi_worker", "--deterministic"], Machine("multi_worker", deterministic=True)),
        (["--cpu_devices", "2", "--nodeterministic"], Machine("auto", 2)),
    ],
)
def test_the_machine_is_no_part_of_the_configuration(calls, arguments, machine):
    assert main(*TRAIN, *arguments) == 0
    assert calls[0].machine == machine
    assert calls[0].config == presets.get_preset("demo_bbb")


@pytest.fixture
def trained(tmp_path):
    config = configs.with_overrides(presets.get_preset("demo_bbb"), {"train.batch": 3})
    Workdir(tmp_path).claim(config)
    return tmp_path


def test_evaluate_takes_the_runs_configuration(calls, trained):
    workdir = f"--workdir={trained}"
    assert main("--mode=evaluate", workdir, "--config.evaluate.final_rows=4") == 0
    assert main("--mode=evaluate", workdir, "--preset=demo_bbb") == 0
    assert [call.config.train.batch for call in calls] == [3, 3]
    assert [call.config.evaluate.final_rows for call in calls] == [4, 1]


def test_evaluate_runs_on_one_device(calls, trained, capsys):
    evaluate = ("--mode=evaluate", f"--workdir={trained}")
    assert main(*evaluate, "--deterministic") == 0
    assert main(*evaluate, "--strategy=default") == 0
    assert [call.machine for call in calls] == [Machine("default", 1, True), Machine("default")]
    for strategy, devices in (("mirrored", 1), ("multi_worker", 1), ("default", 4)):
        assert main(*evaluate, f"--strategy={strategy}", f"--cpu_devices={devices}") == 2
        asked = f"--strategy={strategy} with --cpu_devices={devices}"
        said = f"error: {asked} is for --mode=train: evaluation runs on one device\n"
        assert capsys.readouterr().err == said
    assert len(calls) == 2


def test_evaluate_refuses_another_model(calls, trained, capsys):
    assert main("--mode=evaluate", f"--workdir={trained}", "--config.model.units=3") == 2
    assert "model.units=3 cannot be set when evaluating" in capsys.readouterr().err
    assert main("--mode=evaluate", f"--workdir={trained}", "--preset=ptb_small_bbb") == 2
    assert "'ptb_small_bbb' does not match the run's, 'demo_bbb'" in capsys.readouterr().err
    assert not calls


@pytest.fixture
def captioning(tmp_path):
    Workdir(tmp_path).claim(presets.get_preset("shapes_demo_bbb"))
    return ("--mode=caption", f"--workdir={tmp_path}")


def test_caption(calls, captioning, tmp_path):
    images = ("--images=a.png,b", "--images", "c/*.png")
    assert main(*captioning, *images, "--num_samples=4", "--config.evaluate.beam=5") == 0
    assert main(*captioning, "--images=a.png", "--output=sheet.png", "--deterministic") == 0
    first, second = calls
    assert (first.workdir, first.given) == (str(tmp_path), {"images": ["a.png,b", "c/*.png"]})
    assert (first.config.evaluate.num_samples, first.config.evaluate.beam) == (4, 5)
    assert first.config.is_locked
    assert second.given == {"images": ["a.png"], "output": "sheet.png"}
    assert [call.machine for call in calls] == [Machine("default"), Machine("default", 1, True)]


def test_caption_refuses(calls, captioning, capsys):
    for arguments, said in (
        ([], "--mode=caption needs --images=PATH"),
        (["--images=a.png", "--strategy=mirrored"], "for --mode=train: captioning runs on one device"),
        (["--images=a.png", "--cpu_devices=2"], "for --mode=train: captioning runs on one device"),
        (["--images=a.png", "--config.model.units=3"], "model.units=3 cannot be set"),
        (["--images=a.png", "--config.evaluate.beem=3"], "did you mean evaluate.beam"),
        (["--images=a.png", "--preset=flickr8k_bbb"], "'flickr8k_bbb' does not match the run's"),
        (["--images", "a.png", "b.png"], "unexpected argument 'b.png'"),
        (["--image=a.png"], "unknown flag '--image': did you mean --images"),
    ):
        assert main(*captioning, *arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1
        assert said in err
    assert not calls


def test_generate(calls, tmp_path):
    """The seed is that of the texts; the run keeps its own."""
    Workdir(tmp_path).claim(presets.get_preset("demo_bbb"))
    arguments = ("--mode=generate", f"--workdir={tmp_path}", "--prompt=the dog", "--prompt", "a cat")
    more = ("--top_k=5", "--temperature=0.7", "--draw_per_continuation", "--seed=3")
    assert main(*arguments, *more) == 0 and main(*arguments[:2]) == 0
    first, second = calls
    assert first.given == {
        "prompt": ["the dog", "a cat"],
        "top_k": 5,
        "temperature": 0.7,
        "draw_per_continuation": True,
        "seed": 3,
    }
    assert (first.config.seed, second.config.seed) == (0, 0)
    assert second.given == {}


def test_a_draw_for_each_continuation_leaves_no_choice_of_their_number(calls, tmp_path, capsys):
    Workdir(tmp_path).claim(presets.get_preset("demo_bbb"))
    arguments = ("--mode=generate", f"--workdir={tmp_path}", "--draw_per_continuation")
    assert main(*arguments, "--num_samples=4") == 2
    assert "one draw for each of --continuations" in capsys.readouterr().err
    assert main(*arguments, "--nodraw_per_continuation", "--num_samples=4") == 0
    (call,) = calls
    assert call.config.evaluate.num_samples == 4


def test_uncertainty(calls, tmp_path):
    """Its workdir need not be that of a run."""
    arguments = ("--mode=uncertainty", f"--workdir={tmp_path / 'new'}", "--compare=a", "--compare=b")
    assert main(*arguments, "--num_samples=3", "--data=ptb", "--data_dir=d", "--rows=20") == 0
    (call,) = calls
    assert call.config is None and call.data_dir == "d" and call.machine == Machine("default")
    assert call.given == {"compare": ["a", "b"], "samples": 3, "data": "ptb", "rows": 20}


@pytest.mark.parametrize(
    ("mode", "flags", "given"),
    [
        ("prune", ["--prune=0.8"], {"prune": 0.8}),
        ("export", ["--prune=0.8", "--format=float16"], {"prune": 0.8, "format": "float16"}),
        ("export", ["--weights=mean", "--output=o"], {"weights": "mean", "output": "o"}),
        ("report", ["--output=page.html"], {"output": "page.html"}),
        ("report", [], {}),
    ],
)
def test_modes_of_a_finished_run(calls, tmp_path, mode, flags, given):
    Workdir(tmp_path).claim(presets.get_preset("demo_bbb"))
    assert main(f"--mode={mode}", f"--workdir={tmp_path}", *flags) == 0
    (call,) = calls
    assert (call.mode, call.given, call.config.preset) == (mode, given, "demo_bbb")


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


def raising(error):
    def run(*_, **__):
        raise error

    return types.SimpleNamespace(run=run)


def test_input_errors_of_a_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "zoo.command_line.commands", raising(InputError("no file\nx.txt")))
    assert main(*TRAIN) == 2
    assert capsys.readouterr().err == "error: no file x.txt\n"


def test_mistakes_of_ours_keep_their_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "zoo.command_line.commands", raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(*TRAIN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_a_line_and_its_status(monkeypatch, capsys, number):
    reached = []

    def run(*_, **__):
        os.kill(os.getpid(), number)
        reached.append("the end")

    before = signal.getsignal(number)
    monkeypatch.setitem(sys.modules, "zoo.command_line.commands", types.SimpleNamespace(run=run))
    try:
        assert main(*TRAIN) == 128 + number
    except KeyboardInterrupt:  # Which would end pytest too.
        pytest.fail("the signal has not been handled")
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"
    assert not reached
    assert signal.getsignal(number) is before


def test_output_that_nobody_reads_on():
    listing = subprocess.run(
        f"{sys.executable} absl_main.py --help | true", shell=True, cwd=ROOT, capture_output=True, timeout=100
    )
    assert listing.stderr == b""


def test_only_our_own_progress_is_logged():
    said = types.SimpleNamespace(levelname="INFO", pathname="/x/site-packages/tensorflow/python/a.py")
    assert not command_line._is_worth_saying(said)
    said.levelname = "WARNING"
    assert command_line._is_worth_saying(said)
    assert command_line._is_worth_saying(types.SimpleNamespace(levelname="INFO", pathname="/x/zoo/a/b.py"))


def test_help(capsys):
    assert main("--help") == 0
    out = capsys.readouterr().out
    assert "--mode=train --preset=demo_bbb" in out and "--data_dir" in out
    assert "repeat this option" not in out
    assert "--mode=caption" in out and "--images " in out and "--output " in out
    assert len(out.splitlines()) < 60


def in_a_process(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**{k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}, **environment},
    )


STAND_IN = """
import sys, types, json
import absl_main
from zoo import presets
from zoo.command_line import command_line
def run(mode, config, workdir, data_dir, machine=None):
    print(presets.table() if mode == "list" else json.dumps(config.to_dict()["train"]))
sys.modules["zoo.command_line.commands"] = types.SimpleNamespace(run=run)
"""


def test_listing_does_not_import_tensorflow():
    done = in_a_process(
        STAND_IN
        + 'status = absl_main.main(["m", "--mode=list"])\n'
        + 'print(status, "tensorflow" in sys.modules)'
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    assert "ptb_large_bbb" in done.stdout
    assert done.stderr == ""


def test_tensorflow_is_imported_in_silence():
    done = in_a_process(
        STAND_IN
        + 'status = absl_main.main(["m", "--mode=train", "--preset=demo_bbb", "--workdir=w"])\n'
        + 'import tensorflow, os; os.write(2, b"heard"); sys.exit(status)'
    )
    assert (done.returncode, done.stderr) == (0, "heard")
    assert json.loads(done.stdout)["batch"] == 20


def test_exit_status_of_the_script():
    done = subprocess.run(
        [sys.executable, "absl_main.py", "--mode=nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.startswith("error: unknown mode 'nothing'")
