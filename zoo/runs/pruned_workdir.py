"""The workdir of a pruned model, which can be evaluated, trained further and exported like any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import logging

from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem import folders
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.posterior import pruning
from zoo.filesystem.files import explained, is_there
from zoo.runs.experiment import Experiment
from zoo.runs.workdir import Workdir


def check_replaceable(path: Path) -> None:
    """Checks that a pruned workdir can be written at `path`.

    Raises:
      InputError: there is something that `write_pruned` has not written, or that has been trained since.
    """
    if not is_there(path):
        return
    earlier = Workdir(path, create=False)
    if earlier.is_in_use:
        raise InputError(f"{path} is not replaced: another process trains in it")
    _check_just_pruned(earlier)


def write_pruned(experiment: Experiment, step: int, by: str, fraction: float) -> dict[str, Any]:
    """Prunes the model of an experiment, and writes the workdir of the pruned model.

    It replaces the one before once it is complete. Training it goes on from `step` with the optimizer's last
    state; its best checkpoint is that of the pruned model until an epoch is better.

    Args:
      experiment: the run's experiment, its model that of the best checkpoint.
      step: the step of the checkpoint.
      by: the ranking of all weights, which `tfp_bayesrnn.posterior.pruning.masks` takes.
      fraction: the share of all weights that is dropped.

    Returns:
      What has been written: where, what it keeps, the bytes of it, its validation perplexity.

    Raises:
      InputError: it cannot be written.
    """
    model, loop, directory = experiment.model, experiment.loop, experiment.workdir
    entries = directory.read_metrics()
    _restore_optimizers(model, loop, directory)
    model.optimizer.iterations.assign(step)
    masks = pruning.masks(model.posterior, fraction, by)
    pruning.prune(model.posterior, masks)
    score = experiment.evaluator.mean(experiment.scored_data("valid"))
    loop.progress.best_nll.assign(score.nll)
    loop.progress.best_epoch.assign(step // loop.steps_per_epoch)
    left = pruning.remaining(masks)
    made = {
        "workdir": str(directory.pruned_dir),
        "step": step,
        "fraction": fraction,
        "by": by,
        "scope": "network",
        "elements": left.weights,
        "kept": left.kept,
        "dense_float32_bytes": left.dense_bytes,
        "sparse_float32_bytes": left.sparse_bytes,
        "valid": score.perplexity,
    }
    with (
        explained(directory.pruned_dir, "write"),
        _held(directory.pruned_dir),
        folders.replacing(directory.pruned_dir) as new,
    ):
        pruned = Workdir(new)
        pruned.write(pruned.config_path, directory.read(directory.config_path))
        for name in (directory.vocabulary_path.name, directory.data_path.name, *experiment.kept()):
            if is_there(directory.path / name):
                pruned.write(pruned.path / name, directory.read(directory.path / name))
        trackables = {**model.training_state(), "progress": loop.progress}
        checkpoints = Checkpoints(pruned.checkpoints_dir, trackables, best=["model"])
        checkpoints.save(step)
        checkpoints.save_best(step)
        for entry in _entries(model, entries, step, experiment.figures(score), fraction):
            pruned.append_metrics(entry)
        pruned.write_json(pruned.pruning_path, {**made, "workdir": "."})
    logging.info("%s holds the pruned model: evaluate it, or train it for more epochs", directory.pruned_dir)
    return made


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keeps the pruned workdir at a path, if there is one, from being trained while it is replaced."""
    if not is_there(path):
        yield
        return
    earlier = Workdir(path, create=False)
    with earlier.owned():
        _check_just_pruned(earlier)
        yield


def _check_just_pruned(workdir: Workdir) -> None:
    if not workdir.is_just_pruned:
        raise InputError(
            f"{workdir.path} holds something other than a pruned model that has not been trained since: "
            "move it or delete it"
        )


def _restore_optimizers(model: BayesianModel, loop: Loop, directory: Workdir) -> None:
    """Restores the state that training was left with, which the best checkpoint has not."""
    state = {"optimizer": model.optimizer, "progress": loop.progress}
    if model.sharpening:
        state["sharpening_optimizer"] = model.sharpening.optimizer
    try:
        found = Checkpoints(directory.checkpoints_dir, state, writes=False).restore_latest()
    except InputError as error:
        logging.warning("%s", error)
        found = None
    if found is None:
        logging.warning("the pruned model goes on with a new optimizer: no checkpoint holds the run's")


def _entries(
    model: BayesianModel, entries: list[dict[str, Any]], step: int, figures: dict[str, Any], fraction: float
) -> list[dict[str, Any]]:
    """The run's metrics up to the step, that of the step itself with the pruned model's own figures."""
    earlier = [entry for entry in entries if entry.get("step", 0) < step]
    same = next((entry for entry in entries if entry.get("step") == step), None)
    if same is None:
        return earlier
    posterior = model.posterior
    own = {**figures, "pruned": fraction}
    if posterior.is_variational and same.get("kl"):
        seed = noise.derive(noise.make_seed(model.seed), noise.Stream.PRUNED_KL)
        own["kl"] = float(posterior.kl(posterior.sample(seed)))
        shares = {name: value for name, value in same.items() if name.startswith("kl_per_") and value}
        own |= {name: value * own["kl"] / same["kl"] for name, value in shares.items()}
    return [*earlier, {**same, **own}]
