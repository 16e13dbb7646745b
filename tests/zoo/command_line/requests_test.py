"""What the command line makes of flags: the request that reaches a mode."""

import pytest
from absl import flags
from requests_made import TRAIN, main

from zoo import presets
from zoo.configuration import config as configs
from zoo.machine.machine import Machine
from zoo.modes import MODES
from zoo.modes.mode import Request
from zoo.runs.workdir import Workdir


def test_train(calls, tmp_path):
    arguments = ["--mode=train", "--preset=ptb_small_bbb", f"--workdir={tmp_path}", "--data_dir=d"]
    assert main(*arguments) == 0
    (call,) = calls
    assert (call.mode, call.workdir, call.data_dir) == ("train", str(tmp_path), "d")
    assert call.config == presets.get_preset("ptb_small_bbb")
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
    assert (first.workdir, first.flags) == (str(tmp_path), {"images": ["a.png,b", "c/*.png"]})
    assert (first.config.evaluate.num_samples, first.config.evaluate.beam) == (4, 5)
    assert second.flags == {"images": ["a.png"], "output": "sheet.png"}
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
    assert first.flags == {
        "prompts": ["the dog", "a cat"],
        "top_k": 5,
        "temperature": 0.7,
        "draw_per_continuation": True,
        "seed": 3,
    }
    assert (first.config.seed, second.config.seed) == (0, 0)
    assert second.flags == {}


@pytest.mark.parametrize(
    ("preset", "arguments", "said"),
    [
        (
            "shapes_demo_bbb",
            ["--mode=generate"],
            "a language model; {} is of 'shapes_demo_bbb', a captioning model",
        ),
        (
            "demo_bbb",
            ["--mode=caption", "--images=x"],
            "a captioning model; {} is of 'demo_bbb', a language model",
        ),
    ],
)
def test_modes_of_another_task_are_refused(calls, tmp_path, capsys, preset, arguments, said):
    Workdir(tmp_path).claim(presets.get_preset(preset))
    assert main(*arguments, f"--workdir={tmp_path}") == 2
    mode = arguments[0]
    assert capsys.readouterr().err == f"error: {mode} needs the workdir of {said.format(tmp_path)}\n"
    assert not calls


def test_a_draw_for_each_continuation_leaves_no_choice_of_their_number():
    own = {"draw_per_continuation": True}
    request = Request(machine=Machine(), flags=own, overrides={"evaluate.num_samples": 4})
    with pytest.raises(flags.Error, match="one draw for each of --continuations"):
        MODES["generate"].run(request)


def test_uncertainty(calls, tmp_path):
    """Its workdir need not be that of a run."""
    arguments = ("--mode=uncertainty", f"--workdir={tmp_path / 'new'}", "--compare=a", "--compare=b")
    assert main(*arguments, "--num_samples=3", "--data=ptb", "--data_dir=d", "--rows=20") == 0
    (call,) = calls
    assert call.config is None and call.data_dir == "d" and call.machine == Machine("default")
    assert call.flags == {"compare": ["a", "b"], "samples": 3, "data": "ptb", "rows": 20}


@pytest.mark.parametrize(
    ("mode", "arguments", "given"),
    [
        ("prune", ["--prune=0.8"], {"prune": 0.8}),
        ("export", ["--prune=0.8", "--format=float16"], {"prune": 0.8, "format": "float16"}),
        ("export", ["--weights=mean", "--output=o"], {"weights": "mean", "output": "o"}),
        ("report", ["--output=page.html"], {"output": "page.html"}),
        ("report", [], {}),
    ],
)
def test_modes_of_a_finished_run(calls, tmp_path, mode, arguments, given):
    Workdir(tmp_path).claim(presets.get_preset("demo_bbb"))
    assert main(f"--mode={mode}", f"--workdir={tmp_path}", *arguments) == 0
    (call,) = calls
    assert (call.mode, call.flags, call.config.preset) == (mode, given, "demo_bbb")
