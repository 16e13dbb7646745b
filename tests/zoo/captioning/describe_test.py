"""`--mode=caption`: what it prints, its contact sheet, and how bad input is answered."""

import dataclasses
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import absl_main
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.captioning import describe, sheet
from zoo.captioning.batches import fit
from zoo.captioning.caption_card import CaptionedImage
from zoo.captioning.caption_search import Captioner
from zoo.captioning.model import build_model
from zoo.configuration import config as configs
from zoo.data import shapes
from zoo.data.captions import caption_vocabulary
from zoo.data.photos import decode
from zoo.filesystem.files import to_jsonable
from zoo.presets import get_preset
from zoo.runs.workdir import Workdir
from zoo.terminal import colours

TINY = {
    "encoder.image_size": 32,
    "encoder.width": 4,
    "model.embedding_units": 8,
    "model.units": 8,
    "evaluate.max_words": 6,
    "evaluate.batch": 3,
    "evaluate.beam": 2,
    "model.init_range": 2.0,
    "model.image_as": "input",
    # So unsure that draws differ.
    "posterior.recurrent_scale_range": (0.25, 0.5),
    "posterior.other_scale_range": (0.5, 1.0),
}
VOCABULARY = caption_vocabulary([tuple("a small large red blue green circle square star".split())] * 2)


def decoded(content):
    """An image as the network takes it."""
    return fit(tf.constant(decode(content, "a photo")), TINY["encoder.image_size"])


def made(workdir, preset="shapes_demo_bbb", overrides=(), encoder_weights=""):
    """A workdir with an untrained model as its best checkpoint; the model."""
    config = configs.with_overrides(get_preset(preset), {**TINY, **dict(overrides)})
    directory = Workdir(workdir)
    directory.claim(configs.with_overrides(config, {"encoder.weights": encoder_weights}))
    VOCABULARY.save(directory.vocabulary_path)
    model = build_model(config, len(VOCABULARY), 7, 2)
    # Others than a new model has, and such that images differ.
    random, network = np.random.default_rng(5), model.network
    for variable in network.encoder.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(variable.value * random.choice([-1.0, 1.0], size=variable.shape))
    split = shapes.builtin_shapes()["test"]
    drawings = tf.stack([decoded(split.images.read(index)) for index in range(8)])
    features = network.features({"image": drawings}).numpy()
    kernel = random.normal(size=network.projection.kernel.shape) / features.std(axis=0).mean()
    network.projection.kernel.assign(kernel)
    network.projection.bias.assign(-features.mean(axis=0) @ kernel)
    Checkpoints(directory.checkpoints_dir, model.training_state(), best=["model"]).save_best(12)
    return model


def run(workdir, *arguments):
    return absl_main.main(["absl_main.py", "--mode=caption", f"--workdir={workdir}", *arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A directory of readable photos and a truncated one."""
    folder = tmp_path_factory.mktemp("photos")
    split = shapes.builtin_shapes()["test"]
    for index in range(3):
        (folder / f"{index}.png").write_bytes(split.images.read(index))
    pictures = [Image.open(folder / f"{index}.png").convert("RGB") for index in range(3)]
    pictures[0].convert("L").resize((90, 40)).save(folder / "grey.jpg")
    pictures[1].convert("CMYK").resize((300, 400)).save(folder / "ink.jpg")
    pictures[2].save(folder / "moving.gif", save_all=True, append_images=pictures[:2])
    content = (folder / "ink.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(content[: len(content) // 2])
    return folder


READABLE = ["0.png", "1.png", "2.png", "grey.jpg", "ink.jpg", "moving.gif"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, made(workdir)


def parsed(out):
    """The heading's lines; path -> caption, figures by name, the table's rows."""
    heading, *blocks, last = out.rstrip("\n").split("\n\n")
    found = {}
    for block in blocks:
        path, *lines = block.splitlines()
        split = next(i for i, line in enumerate(lines) if line.split()[0] == "word")
        named = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines[:split])
        assert len({len(line) for line in lines[split:]}) == 1, "the table is not aligned"
        rows = [(word, *map(float, cells)) for word, *cells in map(str.split, lines[split + 1 :])]
        figures = {name: list(map(float, re.findall(r"-?\d+\.\d+", text))) for name, text in named.items()}
        found[path] = named["caption"], figures, rows
    return heading.splitlines(), found, last.splitlines()[-1]


def expected(model, photos, samples):
    """Captions one image at a time."""
    captioner = Captioner(model, VOCABULARY, TINY["evaluate.max_words"], samples=samples, seed=0, beam=2)
    for name in READABLE:
        image = decoded((photos / name).read_bytes())
        yield str(photos / name), captioner.caption({"image": image[tf.newaxis]})


@pytest.mark.slow(but=["0"])
@pytest.mark.parametrize("samples", [0, 3])
def test_captions_are_those_of_the_best_checkpoint(trained, photos, capsys, tmp_path, samples):
    workdir, model = trained
    output = tmp_path / "sheet.png"
    assert run(workdir, f"--images={photos}", f"--num_samples={samples}", f"--output={output}") == 0
    out, err = capsys.readouterr()
    heading, found, last = parsed(out)
    assert err.startswith(f"left out: {photos / 'torn.jpg'} is no readable image") and err.count("\n") == 1
    assert "shapes_demo_bbb (Bayes by Backprop), best checkpoint: step 12" in heading[0]
    assert ("average over 3 samples, beam 2" if samples else "posterior mean, beam 2") in heading[0]
    assert any("mutual information needs --num_samples=N" in line for line in heading) == (samples == 0)
    assert list(found) == [str(photos / name) for name in READABLE]
    assert len({caption for caption, _, _ in found.values()}) > 1
    for path, alone in expected(model, photos, samples):
        caption, figures, rows = found[path]
        length = alone.lengths[0]
        assert caption == (" ".join(alone.words[0]) or "(no words)")
        assert figures["log-probability"] == pytest.approx(
            [alone.log_probs[0], alone.log_probs[0] / length], abs=2e-3
        )
        assert figures["entropy"] == pytest.approx([alone.uncertainty()[0]], abs=2e-3)
        assert [row[0] for row in rows[: len(alone.words[0])]] == list(alone.words[0])
        assert len(rows) == length
        numbers = np.array([row[1:] for row in rows])
        wanted = np.stack([values[0, :length] for values in alone.of_words], axis=1)
        if samples:
            assert figures["mutual information"] == pytest.approx(
                [alone.uncertainty("mutual_information")[0]], abs=2e-4
            )
            np.testing.assert_allclose(numbers[:, 2], wanted[:, 2], atol=2e-4)
            assert wanted[:, 2].max() > 2e-3
        else:
            assert "mutual information" not in figures
            wanted = wanted[:, :2]
        np.testing.assert_allclose(numbers, wanted, atol=2e-3)
        assert numbers[:, 0].sum() == pytest.approx(figures["log-probability"][0], abs=0.02)
    assert last == f"contact sheet: {output}"
    lines = (tmp_path / "sheet.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(found)
    for record, (path, (caption, _, rows)) in zip(map(json.loads, lines), found.items(), strict=True):
        assert (record["image"], record["caption"] or "(no words)") == (path, caption)
        assert record["weights"] == ("average over 3 samples" if samples else "posterior mean")
        figures = [[word[name] for name in list(word)[1:]] for word in record["words"]]
        if not samples:
            assert {row.pop() for row in figures} == {None}
        np.testing.assert_allclose(figures, [row[1:] for row in rows], atol=6e-4)
    with Image.open(output) as image:
        assert image.format == "PNG"
        # Four columns and two rows of photos of 256 pixels with text below them.
        assert 4 * 256 < image.width < 4 * 300 and 2 * 300 < image.height < 2 * 600
    assert "\033" not in out


@pytest.mark.slow
def test_the_end_of_a_caption(trained, photos, capsys, tmp_path):
    """A caption that is as long as captions may be does not say that it has ended."""
    arguments = (trained[0], f"--images={photos}/*.png", f"--output={tmp_path}/sheet.png")
    assert run(*arguments, "--config.evaluate.max_words=1") == 0
    short = parsed(capsys.readouterr().out)[1]
    assert {(len(rows), rows[-1][0]) for caption, _, rows in short.values() if caption != "(no words)"} == {
        (2, "...")
    }
    assert run(*arguments, "--config.evaluate.max_words=40") == 0
    assert "<end>" in {rows[-1][0] for _, _, rows in parsed(capsys.readouterr().out)[1].values()}


def test_sheet_in_the_workdir_and_a_terminal(trained, photos, capsys, monkeypatch, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    monkeypatch.setattr(describe, "ON_SHEET", 1)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run(workdir, f"--images={photos / '0.png'},{photos / 'grey.jpg'}", "--config.evaluate.beam=1") == 0
    out = capsys.readouterr().out
    assert out.endswith(f"contact sheet: {workdir / 'captions.png'} (the first 1 of 2 photos)\n")
    assert Image.open(workdir / "captions.png").width < 300
    assert "the most probable word each time" in out
    shaded = [line for line in out.splitlines() if "\033[" in line]
    captions = [line for line in out.splitlines() if line.startswith("  caption")]
    assert len(captions) == 2
    assert shaded[::2] == [line for line in captions if "(no words)" not in line] != []
    assert all("entropy, nats:" in line for line in shaded[1::2])
    plain = re.sub(r"\033\[[0-9;]*m", "", shaded[0]).split()[1:]
    assert shaded[0].count("\033[0m") == len(plain)

    # A second time the sheet itself would be among the photos of that directory.
    assert run(workdir, f"--images={workdir}") == 2
    err = capsys.readouterr().err
    assert f"would take the place of {workdir / 'captions.png'}, one of the photos" in err


@pytest.mark.slow
def test_model_without_a_posterior_and_an_encoder_that_would_be_downloaded(
    photos, capsys, monkeypatch, tmp_path
):
    def download(*_, **__):
        raise AssertionError("a download was tried")

    for module in ("mobilenet", "imagenet_utils"):
        package = sys.modules[f"keras.src.applications.{module}"]
        monkeypatch.setattr(package.file_utils, "get_file", download)
    overrides = {"encoder.name": "MobileNet", "evaluate.beam": 1}
    made(tmp_path, "shapes_demo_dropout", overrides, encoder_weights="imagenet")
    assert run(tmp_path, f"--images={photos / '0.png'}", "--num_samples=2") == 0
    heading, found, _ = parsed(capsys.readouterr().out)
    assert heading[-1] == "mutual information needs a Bayesian method: this model has one set of weights"
    assert "samples" not in heading[0]
    assert "mutual information" not in found[str(photos / "0.png")][1]


@pytest.fixture
def refused(trained, capsys):
    def check(*arguments, workdir=trained[0]):
        """The one line on stderr that answers a command."""
        assert run(workdir, *arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[-1].startswith("error: ")
        assert not (trained[0] / "captions.png").exists()
        return err

    return check


def test_bad_input(refused, photos, tmp_path):
    good = f"--images={photos / '0.png'}"
    (tmp_path / "folder.png").mkdir()
    for arguments, said in (
        ([f"--images={photos / '9.png'}"], "9.png does not exist"),
        ([f"--images={photos}/*.bmp"], "matches no file"),
        ([f"--images={tmp_path}"], "has no photo directly inside it"),
        ([good, "--output=sheet.jpg"], "--output=sheet.jpg is not accepted: the contact sheet is a PNG"),
        ([good, f"--output={tmp_path}/no/sheet.png"], "it must be a file in a directory that exists"),
        ([good, f"--output={tmp_path}/folder.png"], "it must be a file in a directory that exists"),
        ([good, f"--output={photos / '0.png'}"], "would take the place of"),
        ([good, "--config.model.units=3"], "model.units=3 cannot be set"),
        ([good, "--config.evaluate.beam=0"], "evaluate.beam=0 is not accepted"),
    ):
        err = refused(*arguments)
        assert said in err and err.count("\n") == 1
    before = shapes.builtin_shapes()["test"].images.read(0)
    assert (photos / "0.png").read_bytes() == before


def test_no_readable_photo(refused, photos, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    left_out, also, error = refused(f"--images={photos / 'torn.jpg'},{tmp_path}").splitlines()
    assert left_out.startswith(f"left out: {photos / 'torn.jpg'} is no readable image")
    assert also.startswith(f"left out: {tmp_path / 'text.png'} is no readable image")
    assert error == "error: none of the photos that --images names can be read (2 given)"


def test_file_that_cannot_be_opened(photos, monkeypatch, capsys):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    path = str(photos / "0.png")
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert list(describe._readable([path])) == []
    assert capsys.readouterr().err == f"left out: cannot read {path}: Permission denied\n"


def test_workdirs_that_hold_no_such_model(refused, trained, photos, tmp_path):
    good = f"--images={photos / '0.png'}"
    Workdir(tmp_path / "language").claim(get_preset("demo_bbb"))
    err = refused(good, workdir=tmp_path / "language")
    assert "needs the workdir of a captioning model" in err and "'demo_bbb', a language model" in err

    copy = shutil.copytree(trained[0], tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    assert f"workdir {copy} holds no best checkpoint" in refused(good, workdir=copy)
    os.remove(copy / "vocabulary.txt")
    assert "vocabulary.txt: No such file" in refused(good, workdir=copy)
    assert "does not exist" in refused(good, workdir=tmp_path / "nowhere")


IMAGE = CaptionedImage(
    path="a\x1b[31m/b.png",
    photo=np.zeros([4, 6, 3], np.uint8),
    caption=("red", "circle"),
    log_prob=-1.5,
    predicted=("red", "circle", "<end>"),
    log_probs=np.array([-1.0, -0.25, -0.25]),
    entropies=np.array([3.5, 0.0, 0.1]),
    mutual_information=np.array([0.03, 0.0, 0.0]),
)


def test_text():
    assert IMAGE.as_text().splitlines() == [
        "a?[31m/b.png",
        "  caption             red circle",
        "  log-probability     -1.500 nats, -0.500 per word",
        "  entropy             1.200 nats per word",
        "  mutual information  0.0100 nats per word",
        "  word    log-probability  entropy  mutual information",
        "  red              -1.000    3.500              0.0300",
        "  circle           -0.250    0.000              0.0000",
        "  <end>            -0.250    0.100              0.0000",
    ]
    assert IMAGE.as_text(in_colour=True).splitlines()[1:3] == [
        f"  caption             {colours.shaded('red', 3.5, 5.0)} {colours.shaded('circle', 0.0, 5.0)}",
        f"  shades              entropy, nats: {colours.legend(5.0)}",
    ]


def test_the_shades_of_a_sure_caption_are_told_apart():
    sure = dataclasses.replace(IMAGE, entropies=np.array([0.004, 0.001, 0.1]))
    shades = re.findall(r"48;5;(\d+);38;5;16m(?=red|circle)", sure.as_text(in_colour=True))
    assert len({*shades, "231"}) == 3


def test_record():
    assert to_jsonable(IMAGE.as_record()) == {
        "image": "a\x1b[31m/b.png",
        "caption": "red circle",
        "log_prob": -1.5,
        "words": [
            {"word": "red", "log_prob": -1.0, "entropy": 3.5, "mutual_information": 0.03},
            {"word": "circle", "log_prob": -0.25, "entropy": 0.0, "mutual_information": 0.0},
            {"word": "<end>", "log_prob": -0.25, "entropy": 0.1, "mutual_information": 0.0},
        ],
    }
    of_the_mean = dataclasses.replace(IMAGE, mutual_information=None).as_record()
    assert {word["mutual_information"] for word in of_the_mean["words"]} == {None}


def test_card():
    caption, name, figures = IMAGE.as_card(3.0).lines
    assert list(caption.words) == ["red", "circle"]
    assert caption.shades == [sheet.uncertainty_shade(3.0, 3.0), sheet.uncertainty_shade(0.0, 3.0)]
    assert (list(name.words), name.colour) == (["b.png"], sheet.GREY)
    assert " ".join(figures.words) == "log-probability -1.50, entropy 1.20, mutual information 0.010"


def test_caption_without_words():
    empty = CaptionedImage(
        "e.png", IMAGE.photo, (), -0.5, ("<end>",), np.array([-0.5]), np.array([0.25]), None
    )
    assert "  caption             (no words)" in empty.as_text().splitlines()
    assert empty.as_text().splitlines()[-1].split() == ["<end>", "-0.500", "0.250"]
    assert [" ".join(line.words) for line in empty.as_card(3.0).lines] == [
        "(no words)",
        "e.png",
        "log-probability -0.50, entropy 0.25",
    ]
