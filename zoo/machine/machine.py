"""On what a run runs: devices, processes, determinism. None of it is part of the configuration."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.machine import interruption, rendezvous
from zoo.terminal.text import shortened

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("auto", "default", "mirrored", "multi_worker")

# How long a worker waits for the others.
_PATIENCE_SECONDS = 600

_QUOTED = 500  # Characters of TF_CONFIG that an error has at most.

_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Machine:
    """The machine as the command line describes it.

    Attributes:
      strategy: one of `STRATEGIES`. "auto" is "multi_worker" where TF_CONFIG names several workers, else
        "mirrored" where there are several GPUs, else "default": one device.
      cpu_devices: the number of logical devices the CPU is split into, to run "mirrored" without GPUs.
      deterministic: whether every run on this machine gives the same numbers to the last bit.
    """

    strategy: str = "auto"
    cpu_devices: int = 1
    deterministic: bool = False

    def start(self) -> tf.distribute.Strategy:
        """Sets TensorFlow up, before its first operation, and returns the strategy.

        Raises:
          InputError: the strategy does not go with TF_CONFIG or with the machine.
        """
        import keras
        import tensorflow as tf

        from tfp_bayesrnn.errors import InputError

        cluster = _cluster()
        name = self._resolve(cluster)
        if name == "multi_worker" and self.cpu_devices > 1:
            raise InputError(
                f"--cpu_devices={self.cpu_devices} has no effect with several workers, each of which uses "
                "its GPUs, or its CPU as one device; accepted then: 1"
            )
        if self.deterministic:
            keras.utils.set_random_seed(0)  # Determinism asks for a seed; every run sets its own.
            tf.config.experimental.enable_op_determinism()
        if self.cpu_devices > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            devices = [tf.config.LogicalDeviceConfiguration()] * self.cpu_devices
            tf.config.set_logical_device_configuration(cpu, devices)
        if name == "multi_worker":
            if cluster is None:
                raise InputError(
                    "--strategy=multi_worker needs the environment variable TF_CONFIG, which names all "
                    f"workers and which of them this is, such as {_EXAMPLE}"
                )
            return _join_workers(cluster)
        if name == "mirrored":
            gpus = tf.config.list_logical_devices("GPU")
            if gpus:
                return tf.distribute.MirroredStrategy([device.name for device in gpus])
            cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
            return tf.distribute.MirroredStrategy(cpus, tf.distribute.ReductionToOneDevice())
        return tf.distribute.get_strategy()

    def _resolve(self, cluster: _Cluster | None) -> str:
        import tensorflow as tf

        if self.strategy != "auto":
            return self.strategy
        if cluster and cluster.others:
            return "multi_worker"
        several = self.cpu_devices > 1 or len(tf.config.list_physical_devices("GPU")) > 1
        return "mirrored" if several else "default"


def _join_workers(cluster: _Cluster) -> tf.distribute.Strategy:
    """The strategy of all workers, once they are there."""
    import tensorflow as tf

    from tfp_bayesrnn.errors import InputError

    try:
        missing = rendezvous.meet(cluster.own, cluster.others, _PATIENCE_SECONDS)
        if missing:
            raise InputError(_absence(missing))
        with interruption.left_to_the_system():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (OSError, tf.errors.OpError, RuntimeError) as error:
        text = shortened(" ".join(os.environ["TF_CONFIG"].split()), _QUOTED)
        raise InputError(f"cannot start this worker, TF_CONFIG={text}: {error}") from error


def _absence(missing: list[str]) -> str:
    others = [address for address in missing if rendezvous.answers(address)]
    absent = [address for address in missing if address not in others]
    parts = []
    if absent:
        come = f"these workers did not come within {_PATIENCE_SECONDS} s: {', '.join(absent)}"
        parts.append(f"{come}; start all that TF_CONFIG names")
    if others:
        parts.append(f"at {', '.join(others)} something else than a worker listens, which says nothing")
    return "; ".join(parts)


class _Cluster(NamedTuple):
    """The addresses that TF_CONFIG names: of this worker, and of the others."""

    own: str
    others: list[str]


def _cluster() -> _Cluster | None:
    """Returns the cluster of TF_CONFIG; None where it names none."""
    from tfp_bayesrnn.errors import InputError

    text = os.environ.get("TF_CONFIG", "").strip()
    if text in ("", "{}"):
        return None
    problem = _problem(text)
    if problem:
        text = shortened(" ".join(text.split()), _QUOTED)
        raise InputError(f"TF_CONFIG={text} is not accepted: {problem}; accepted: {_EXAMPLE}")
    config = json.loads(text)
    jobs, task = config["cluster"], config["task"]
    places = [(job, index) for job in sorted(jobs) for index in range(len(jobs[job]))]
    own = (task["type"], task["index"])
    return _Cluster(jobs[own[0]][own[1]], [jobs[job][index] for job, index in places if (job, index) != own])


def _problem(text: str) -> str | None:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    cluster, task = _tables(config, "cluster", "task")
    if cluster is None or task is None:
        return 'it must hold the tables "cluster" and "task"'
    if not cluster or set(cluster) - {"chief", "worker"}:
        jobs = shortened(str(sorted(cluster)))
        return f'the jobs of its cluster must be "worker" and perhaps "chief", not {jobs}'
    if not all(map(_are_addresses, cluster.values())):
        return 'each job of its cluster must list addresses, as texts "host:port"'
    if len(cluster.get("chief", ())) > 1:
        return "its cluster must have one chief at most"
    addresses = [address.lower() for job in cluster.values() for address in job]
    twice = next((address for address in addresses if addresses.count(address) > 1), None)
    if twice is not None:
        return f"its cluster has the address {shortened(twice)} twice, and each worker needs its own"
    job, index = task.get("type"), task.get("index")
    if not isinstance(job, str) or job not in cluster or not _is_place(index, cluster[job]):
        shown = [shortened(repr(value)) for value in (job, index)]
        return f"there is no task of type {shown[0]} and index {shown[1]} in its cluster"
    return None


def _is_place(index: Any, addresses: list[str]) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(addresses)


def _are_addresses(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_address, value))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and rendezvous.port_of(value) is not None


def _tables(config: Any, *names: str) -> list[dict | None]:
    tables = [config.get(name) if isinstance(config, dict) else None for name in names]
    return [table if isinstance(table, dict) else None for table in tables]
