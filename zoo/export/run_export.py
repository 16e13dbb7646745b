"""The command `export`: the trained model of a workdir as a SavedModel that needs TensorFlow alone."""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfp_bayesrnn.errors import InputError, unknown_name
from tfp_bayesrnn.export.saved_model import (
    WEIGHTS_KINDS,
    ExportedPosterior,
    check_replaceable,
    write_saved_model,
)
from tfp_bayesrnn.export.storage import FORMATS
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import methods
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.checksums import Checksums
from zoo.filesystem.writable import check_writable
from zoo.registry import task_of
from zoo.runs.restored import restored
from zoo.runs.settings import RunConfig
from zoo.runs.workdir import Workdir


def export_run(
    config: RunConfig,
    workdir: str,
    output: str | os.PathLike[str] | None = None,
    prune: float | None = None,
    format: str = "float32",
    weights: str | None = None,
) -> dict[str, Any]:
    """Exports the best checkpoint of a run, and prints what has been exported and how to use it.

    The directory also holds `signatures.json`, what it returns, a `README.md` that says the same in words,
    and checksums of the SavedModel's files (`zoo.filesystem.checksums`). An export that is there is replaced
    when the new one is complete.

    Args:
      config: the run's configuration, resolved.
      workdir: the run's directory.
      output: the SavedModel's directory; `export` in the workdir if left out.
      prune: the fraction of the weights to leave out, at least 0 and less than 1: those of the lowest
        |mu| / sigma, without distributions those of the lowest magnitude.
      format: the type weights are stored in, "float32" or "float16"; zeros are left out if that saves room.
      weights: "mean", or "posterior" for the scales too, which the signatures with samples need; None for the
        latter where the model has them.

    Returns:
      What the export holds: the model, its sizes in bytes, its signatures.

    Raises:
      InputError: an argument is not among those described; the workdir holds no model that has been trained
        for an epoch; the export cannot be written.
    """
    _check(config, prune, format, weights)
    directory = Workdir(workdir, create=False)
    path = local_path(output, "--output") if output is not None else directory.export_dir
    check_replaceable(path)
    check_writable(path)
    task = task_of(config)
    if task.export is None:
        raise InputError(f"--mode=export is not for a {task.label}, which {config.preset!r} is")
    model, vocabulary, step = restored(task.restorable, config, directory, task.has_vocabulary)
    exported = ExportedPosterior(model.network, weights, format, prune or 0.0)
    about = _about(config, step, exported, format, vocabulary)
    with tempfile.TemporaryDirectory() as assets:
        made, settings = task.export(config, model, exported, vocabulary, assets)
        signatures = made.signatures()
        about |= settings
        about["signatures"] = _described(signatures)

        def finish(directory: Path) -> None:
            about["bytes"]["all"] = _size(directory)
            Checksums(directory).add_all()
            (directory / "signatures.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            (directory / "README.md").write_text(_readme(about), encoding="utf-8")

        write_saved_model(path, made.module, signatures, finish)
    print(_report(about, path))
    return about


def _check(config: RunConfig, prune: float | None, format: str, weights: str | None) -> None:
    """Raises InputError for arguments of `export_run` that are not accepted."""
    if format not in FORMATS:
        raise unknown_name("export format", format, FORMATS)
    if weights is not None and weights not in WEIGHTS_KINDS:
        raise unknown_name("kind of weights", weights, WEIGHTS_KINDS)
    if prune is not None and not 0.0 <= prune < 1.0:
        raise InputError(f"prune={prune} is not accepted: it must be at least 0 and less than 1")
    if weights == "posterior" and config.method not in methods.BAYESIAN_METHODS:
        raise InputError(
            f"weights='posterior' is not accepted: no weight of a {config.method!r} model has a "
            "distribution; accepted: mean"
        )


def _about(
    config: RunConfig, step: int, exported: ExportedPosterior, format: str, vocabulary: Vocabulary | None
) -> dict[str, Any]:
    """The facts of an export that are known before its signatures are made."""
    return {
        "preset": config.preset,
        "task": config.task,
        "method": config.method,
        "step": step,
        "weights": "posterior" if exported.has_scales else "mean",
        "format": format,
        "pruned": exported.pruned,
        **({"words": len(vocabulary)} if vocabulary is not None else {}),
        "bytes": {"weights": exported.nbytes},
    }


def _described(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """The purpose, inputs and outputs of each signature, by its name."""

    def tensor(spec: Any) -> dict[str, Any]:
        return {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}

    described = {}
    for name, function in signatures.items():
        if name == "serving_default":
            continue
        concrete = function.get_concrete_function()
        described[name] = {
            "about": inspect.getdoc(function.python_function),
            "inputs": {spec.name: tensor(spec) for spec in concrete.structured_input_signature[0]},
            "outputs": {key: tensor(value) for key, value in concrete.structured_outputs.items()},
        }
    return described


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _heading(about: Mapping[str, Any]) -> str:
    label = methods.LABELS[about["method"]]
    kept = f", {about['pruned']:.1%} of them zero" if about["pruned"] >= 0.001 else ""
    scales = "means and scales" if about["weights"] == "posterior" else "means"
    return (
        f"{about['preset']} ({label}), best checkpoint: step {about['step']}; {scales} of the weights in "
        f"{about['format']}{kept}"
    )


def _report(about: Mapping[str, Any], path: Path) -> str:
    """The text that is printed: the model, a table of its signatures, its size, an example."""
    width = max(map(len, about["signatures"]))
    table = [f"  {'signature':<{width}}  inputs -> outputs"]
    for name, signature in about["signatures"].items():
        table.append(f"  {name:<{width}}  {', '.join(signature['inputs'])}")
        table.append(f"  {'':<{width}}  -> {', '.join(signature['outputs'])}")
    sizes = about["bytes"]
    megabytes = f"{sizes['all'] / 1e6:.2f} MB, of which the weights {sizes['weights'] / 1e6:.2f} MB"
    return "\n".join(
        [_heading(about), "", *table, "", f"{path}: {megabytes}", "", *_example(about, os.fspath(path))]
    )


def _example(about: Mapping[str, Any], path: str) -> list[str]:
    return [
        "import tensorflow as tf",
        f"model = tf.saved_model.load({path!r})",
        f"print({about['example']})",
    ]


def _readme(about: Mapping[str, Any]) -> str:
    lines = [
        f"# {_heading(about)}",
        "",
        "A TensorFlow SavedModel. It needs TensorFlow alone, and none of the code that it was trained with:",
        "",
        *(f"    {line}" for line in _example(about, "this directory")),
        "",
        "Every input of a signature must be given, by its name. For TensorFlow Serving, make this directory",
        "the subdirectory `1` of the model's. Names ending in `_mc` average over `num_samples` draws of the",
        "weights; the same `seed` gives the same answer. Log-probabilities, entropies and mutual information",
        "(what is not known for want of knowing the weights) are in nats. Input that is not accepted ends a",
        "call with an error that says what is. `signatures.json` holds all of this for programs.",
    ]
    for name, signature in about["signatures"].items():
        lines += ["", f"## {name}", "", signature["about"], ""]
        for kind in ("inputs", "outputs"):
            for tensor, spec in signature[kind].items():
                shape = ", ".join("?" if size is None else str(size) for size in spec["shape"])
                lines.append(f"- {kind[:-1]} `{tensor}`: {spec['dtype']} [{shape}]")
    return "\n".join(lines) + "\n"
