"""Workdirs and pages for the tests of the report."""

import json
import re
from html.parser import HTMLParser

import numpy as np

import absl_main
from zoo.configuration import config as configs
from zoo.presets import get_preset
from zoo.registry import read_config
from zoo.report.workdir_report import write_report
from zoo.runs.workdir import Workdir

NASTY = ("</p>", "a&b", "<script>", '"quoted"', "&lt;")
WORDS = ("the", "cat", "sat", "on", "a", "mat", *NASTY)
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """A page, read strictly: every tag is closed in its turn, and nothing is fetched or run."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.tables, self.words = [], [], [], []
        self.in_word = False
        self.text, self.ids, self.facts = "", [], {"dt": [], "dd": []}
        assert text.startswith("<!DOCTYPE html>\n<html")
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, name, attributes):
        attributes = dict(attributes)
        assert name not in ("script", "link", "iframe", "object", "base", "form")
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href"):
            if key in attributes:
                assert re.match(r"data:image/(png|jpeg);base64,|#[a-z-]+$", attributes[key])
        assert "url(" not in attributes.get("style", "")
        self.elements.append((name, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if name == "table":
            self.tables.append([])
        elif name == "tr":
            self.tables[-1].append([])
        elif name in ("td", "th"):
            self.tables[-1][-1].append("")
        elif name in self.facts:
            self.facts[name].append("")
        elif name == "span" and "word" in attributes.get("class", "").split():
            self.words.append(["", attributes])
            self.in_word = True
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open and self.open[-1] == name, (name, self.open[-3:])
        self.open.pop()
        self.in_word = False

    def handle_data(self, data):
        if "style" in self.open:
            assert "url(" not in data and "@import" not in data
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        for name in {"dt", "dd"} & set(self.open):
            self.facts[name][-1] += data
        if self.in_word:
            self.words[-1][0] += data

    def of(self, name):
        return [attributes for element, attributes in self.elements if element == name]

    def table(self, *columns):
        """The rows below the first head that has all these columns, each as column -> cell."""
        for head, *rows in self.tables:
            if set(columns) <= set(head):
                return [dict(zip(head, row, strict=True)) for row in rows]
        raise AssertionError(f"no table has the columns {columns}: {[table[0] for table in self.tables]}")


def command(mode, workdir, *arguments):
    assert absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *arguments]) == 0


def text_files(folder, words=WORDS, lines=60, seed=0):
    """Files of a data set `text`; a test text of some hundred words in lines of five."""
    random = np.random.default_rng(seed)
    for split in ("train", "valid", "test"):
        chosen = [" ".join(words), *(" ".join(random.choice(words, 5)) for _ in range(lines))]
        (folder / f"{split}.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return folder


def report(workdir, output=None, data_dir=None, samples=None):
    """Makes the page of a workdir; it, read."""
    config = read_config(Workdir(workdir, create=False))
    if samples is not None:
        config = configs.with_overrides(config, {"evaluate.num_samples": samples})
    path = write_report(config, str(workdir), data_dir, output)
    return Page(path.read_text(encoding="utf-8"))


def shades(words):
    """[(share of the deepest shade, what the title says)] of words of a page."""
    return [(float(re.fullmatch(r"--u:([\d.]+)", one["style"])[1]), one["title"]) for _, one in words]


def bare(folder, preset="ptb_small_bbb", **files):
    """The workdir of a run that has nothing but its configuration, and files of this content."""
    directory = Workdir(folder / "a run")
    directory.claim(get_preset(preset))
    for name, content in files.items():
        suffix = "jsonl" if name == "metrics" else "json"
        (directory.path / f"{name}.{suffix}").write_text(content, encoding="utf-8")
    return directory.path


METRICS = [
    {"step": 10, "epoch": 1, "seconds": 61.0, "nll": 5.0, "perplexity": 148.4, "train_nll": 5.5}
    | {"kl_per_training_token": 3.0, "learning_rate": 1.0, "rows": 20},
    {"step": 20, "epoch": 2, "seconds": 119.0, "nll": 4.5, "perplexity": 90.02, "train_nll": 4.7}
    | {"kl_per_training_token": 2.5, "learning_rate": 0.5, "rows": 20},
]
LINES = "".join(json.dumps(entry) + "\n" for entry in METRICS)
RESULTS = {
    **{"steps": 20, "epochs": 2, "epochs_trained": 2, "train_seconds": 119.0},
    "parameters": {"weights": 100, "trainable": 200},
    "kl_per_training_token": 2.5,
    "valid": {
        "perplexity": 90.424,
        "nll": 4.5045,
        "tokens": 73759,
        "layout": "one stream",
        "weights": "mean",
    },
    "test": {"perplexity": 87.518, "nll": 4.4718, "tokens": 82429, "layout": "one stream", "weights": "mean"},
    "test_dynamic": {"perplexity": 84.48, "tokens": 82429, "weights": "mean, SGD after every window"}
    | {"layout": "20 rows", "batch": 20, "unroll": 35, "learning_rate": 0.1}
    | {"mean_perplexity_of_same_rows": 87.636},
}
