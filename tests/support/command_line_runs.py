"""Small runs through the command line, and what they leave and say."""

import json

import absl_main

TINY = (
    "--config.model.units=8",
    "--config.model.embedding_units=8",
    "--config.model.layers=1",
    "--config.train.batch=50",
    "--config.train.unroll=30",
    "--jit_compile=off",
)


def run(mode, workdir, *arguments, preset="demo_bbb"):
    named = [f"--preset={preset}", *TINY] if mode == "train" else []
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *named, *arguments])


def metrics(workdir):
    """The evaluations without their wall-clock fields."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def one_line_error(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def write_corpus(directory, words):
    directory.mkdir()
    for split, count in (("train", 400), ("valid", 40), ("test", 40)):
        lines = [" ".join(words[(i + j) % len(words)] for j in range(5)) for i in range(count)]
        (directory / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return directory
