"""What pages are made of: markup, charts, shades, the choice of a passage, captions with pictures."""

import base64
import io
import math
import re

import numpy as np
import pytest
from captioning_models import VOCABULARY as CAPTION_WORDS
from captioning_models import split_of
from PIL import Image
from report_pages import Page, report, shades

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.captioning import model as captioning
from zoo.captioning import report_pictures as captions
from zoo.configuration import config as configs
from zoo.data.caption_sets import CaptionData
from zoo.language_model import report_passage as passage
from zoo.page import charts, shading, terms
from zoo.page.contents import Contents
from zoo.page.markup import Markup, escaped, tag
from zoo.page.page import Section, page
from zoo.presets import get_preset
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

# Text.


def test_text_is_escaped_once():
    assert escaped(["<", Markup("<b>"), None, "&", 3]) == "&lt;<b>&amp;3"
    assert tag("a", "<", class_="x", aria_label='"<b>', hidden=True, title=None) == (
        '<a class="x" aria-label="&quot;&lt;b&gt;" hidden>&lt;</a>'
    )
    assert tag("p", title=Markup("<b>")) == '<p title="&lt;b&gt;"></p>'
    assert tag("br") == "<br>"


def test_what_html_has_no_place_for_is_replaced():
    text = escaped("a\x00b\x1bc\udcffd\u202ee\tf\ng")
    assert text == "a\ufffdb\ufffdc\ufffdd\ufffde\tf\ng"
    text.encode("utf-8")


# Charts.


def parsed(markup):
    return Page(page("a page", [], [Section("part", "Part", [markup])]))


def points(chart):
    return [
        [tuple(map(float, pair.split(","))) for pair in line["points"].split()]
        for line in chart.of("polyline")
    ]


@pytest.mark.parametrize("is_logarithmic", [False, True])
def test_a_chart_puts_points_where_they_belong(is_logarithmic):
    xs, ys = [1, 2, 3, 5], [1.0, 10.0, 100.0, 4.0]
    line = charts.Line("a <line>", xs, ys)
    [found] = points(parsed(charts.line_chart("y & more", [line], "epoch", is_logarithmic, mark=3)))
    drawn_x, drawn_y = map(np.array, zip(*found, strict=True))
    # Places are linear in x and in y, or its logarithm; pixels have one decimal.
    for values, drawn, sign in ((xs, drawn_x, 1), (np.log(ys) if is_logarithmic else ys, drawn_y, -1)):
        slope, offset = np.polyfit(values, drawn, 1)
        np.testing.assert_allclose(slope * np.array(values) + offset, drawn, atol=0.11)
        assert np.sign(slope) == sign


def test_a_chart_leaves_gaps():
    line = charts.Line("line", [1, 2, 3, 4, 5], [1.0, None, 3.0, 4.0, math.nan])
    chart = parsed(charts.line_chart("y", [line], "x"))
    assert [len(piece) for piece in points(chart)] == [1, 2]
    assert len(chart.of("circle")) == 3
    assert charts.line_chart("y", [charts.Line("line", [1], [None])], "x") is None
    assert charts.line_chart("y", [charts.Line("line", [1], [0.0])], "x", is_logarithmic=True) is None


def test_a_chart_of_one_point_and_too_many_lines():
    [[(x, y)]] = points(parsed(charts.line_chart("y", [charts.Line("line", [1], [0.0])], "x")))
    assert 0 < x < 420 and 0 < y < 240
    with pytest.raises(ValueError, match="Received: 4 lines"):
        charts.line_chart("y", [charts.Line("line", [1], [1.0])] * 4, "x")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1, 20), (2.68, 3.51), (-3.0, 1e5), (1.0, 1.0)])
def test_ticks_are_round_and_within(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    if len(found) > 1:
        step = found[1] - found[0]
        assert f"{step:.6e}"[0] in "125" and float(f"{step:.1g}") == pytest.approx(step)
        assert high - low < 3.0 * step * len(found)
    assert charts.ticks(1, 3, least_step=1.0) == [1.0, 2.0, 3.0]


# Shades.


def test_a_shade_grows_with_the_value():
    shares = [
        float(re.search(r"--u:([\d.]+)", shading.shaded("word", value, 2.0))[1])
        for value in (0.0, 0.1, 0.5, 1.9, 2.0, 7.0)
    ]
    assert shares == [0.0, 0.05, 0.25, 0.95, 1.0, 1.0]
    assert 'class="word unknown"' in shading.shaded("word", math.nan, 2.0)
    with pytest.raises(ValueError, match="Received: highest=0"):
        shading.shaded("word", 1.0, 0)


# The passage.


@pytest.mark.parametrize("length", [2, 5, 150, 379, 380, 500, 5000])
@pytest.mark.parametrize("every", [3, 1000])
def test_bounds_of_the_passage(length, every):
    tokens = np.where(np.arange(length) % every == every - 1, 7, 1)
    start, end = passage.bounds(tokens, 7)
    assert 1 <= start < end <= length
    assert end - start <= passage.WORDS + passage._TO_LINE_END
    if length >= 380:
        assert start >= passage.CONTEXT and end - start >= passage.WORDS
    if length >= 500 and every == 3:
        assert tokens[start - 1] == tokens[end - 1] == 7
    assert passage.bounds(tokens, None) == ((100, 300) if length >= 380 else (1, min(201, length)))


def test_a_text_too_short():
    with pytest.raises(InputError, match="the test text has 1 words"):
        passage.bounds(np.array([1]), 0)


# Captions.


TINY = {
    **{"encoder.image_size": 16, "encoder.width": 2, "model.embedding_units": 4, "model.units": 4},
    **{"evaluate.max_words": 4, "evaluate.beam": 2, "model.init_range": 2.0},
    **{"posterior.recurrent_scale_range": (0.25, 0.5), "posterior.other_scale_range": (0.5, 1.0)},
}


@pytest.fixture
def captioner_run(tmp_path, monkeypatch, eagerly):
    """A function that makes a captioning run on some test pictures; its workdir."""

    def make(preset="shapes_demo_bbb", **of_split):
        config = configs.with_overrides(get_preset(preset), TINY)
        directory = Workdir(tmp_path / "run")
        directory.claim(config)
        CAPTION_WORDS.save(directory.vocabulary_path)
        model = captioning.build_model(config, len(CAPTION_WORDS), 4, 2)
        random = np.random.default_rng(5)
        for variable in model.network.decoder.trainable_variables:
            if variable.name == "mu":  # Others than a new model has, which says nothing.
                variable.assign(random.normal(size=variable.shape))
        Checkpoints(directory.checkpoints_dir, model.training_state(), best=["model"]).save_best(5)
        split = split_of(**{"count": 30, **of_split})
        data = CaptionData("builtin_shapes", CAPTION_WORDS, split, split, split)
        monkeypatch.setattr("zoo.captioning.model.load_captions", lambda *arguments: data)
        return directory.path, split

    return make


@pytest.mark.slow
def test_captions_with_pictures(captioner_run):
    workdir, split = captioner_run(missing=(0, 5), corrupt=(1,))
    page = report(workdir, samples=3)
    images = page.of("img")
    # Every 2.5th of 30; for what cannot be read the next, or none where that has its own place.
    places = [int(re.search(r"photo(\d+)\.png", image["alt"])[1]) for image in images]
    assert places == [2, 6, 7, 10, 12, 15, 17, 20, 22, 25, 27]
    for image, place in zip(images, places, strict=True):
        assert image["alt"].endswith(" ".join(split.references[place][0]))
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", image["src"]).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert (picture.format.lower(), picture.size) == (kind, (16, 16))
    titles = [attributes["title"] for _, attributes in page.words if "title" in attributes]
    assert titles and all("of it mutual information" in title for title in titles)
    assert "captioned by the average over 3 draws of the weights" in page.text
    assert [section["id"] for section in page.of("section")][3] == "captions"


@pytest.mark.slow
def test_captions_are_those_of_the_captioner(captioner_run):
    workdir, _ = captioner_run(count=3)
    config = read_config(Workdir(workdir, create=False))
    found = captions.caption_pictures(Contents.read(config, workdir))
    page = report(workdir)
    words = [word for word, attributes in page.words if "title" in attributes]
    assert words and words == [word for one in found for word in one.caption]
    values = [float(value) for one in found for value in one.mutual_information[: len(one.caption)]]
    shares = [share for share, _ in shades([word for word in page.words if "title" in word[1]])]
    order = np.argsort(values)
    assert np.all(np.diff(np.array(shares)[order]) >= 0.0)


def test_captions_without_draws(captioner_run):
    workdir, _ = captioner_run("shapes_demo_deterministic", count=2)
    page = report(workdir)
    assert len(page.of("img")) == 2
    assert "captioned by the trained weights" in page.text and "Entropy, nats:" in page.text
    assert not any("mutual" in one.get("title", "") for _, one in page.words)


def test_pictures_that_cannot_be_read(captioner_run):
    workdir, _ = captioner_run(count=2, missing=(0, 1))
    page = report(workdir)
    assert "No captions: none of the test pictures can be read: photo photo1.png has gone" in page.text


def test_pictures_in_addresses():
    flat = np.zeros([20, 30, 3], np.uint8)
    flat[5:9] = (250, 10, 20)
    kind, content = captions.data_uri(flat).split(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), flat)
    photo = np.random.default_rng(0).integers(0, 256, [300, 900, 3], np.uint8)
    kind, content = captions.data_uri(photo).split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (320, 107)


def test_terms_are_explained_as_sentences():
    said = terms.explained("perplexity", "ECE")
    assert said.startswith('<p class="note">Perplexity: ') and " ECE: expected calibration error" in said
    assert not any(text.endswith(".") for text in terms.TERMS.values())
