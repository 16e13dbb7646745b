"""What a run runs on: which strategy the flags, TF_CONFIG and the devices make."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf

import zoo
from tfp_bayesrnn.errors import InputError
from zoo.machine import interruption, rendezvous
from zoo.machine import machine as machines
from zoo.machine.machine import Machine

ROOT = Path(zoo.__file__).parents[1]
TASK = {"type": "worker", "index": 0}
EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


def cluster(task=TASK, **jobs):
    return json.dumps({"cluster": jobs, "task": task})


WORKERS = ["a:1", "b:2"]
MALFORMED = {
    "no JSON": ("worker a:1", "it is not JSON"),
    "torn": ('{"cluster": {', "it is not JSON"),
    "a list": ("[1]", 'it must hold the tables "cluster" and "task"'),
    "null": ("null", 'it must hold the tables "cluster" and "task"'),
    "no task": ('{"cluster": {"worker": ["a:1"]}}', 'it must hold the tables "cluster" and "task"'),
    "no cluster": ('{"task": {"type": "worker", "index": 0}}', 'it must hold the tables "cluster"'),
    "a task that is no table": (cluster(3, worker=WORKERS), 'it must hold the tables "cluster" and "task"'),
    "no job": (cluster(), 'must be "worker" and perhaps "chief", not []'),
    "parameter servers": (cluster(worker=WORKERS, ps=["c:3"]), "not ['ps', 'worker']"),
    "no address": (cluster(worker=[]), "each job of its cluster must list addresses"),
    "an address outside a list": (cluster(worker="a:1"), "each job of its cluster must list addresses"),
    "an address that is no text": (cluster(worker=[1, 2]), "addresses"),
    "an address without port": (cluster(worker=["a"]), 'as texts "host:port"'),
    "two chiefs": (cluster(chief=WORKERS, worker=WORKERS), "chief"),
    "another job": (cluster({"type": "chief", "index": 0}, worker=WORKERS), "no task of type 'chief'"),
    "index beyond": (cluster({"type": "worker", "index": 2}, worker=WORKERS), "and index 2 in its cluster"),
    "index below": (cluster({"type": "worker", "index": -1}, worker=WORKERS), "and index -1 in its cluster"),
    "index as text": (cluster({"type": "worker", "index": "0"}, worker=WORKERS), "and index '0' in its"),
    "no index": (cluster({"type": "worker"}, worker=WORKERS), "and index None in its cluster"),
    "no type": (cluster({"index": 0}, worker=WORKERS), "no task of type None"),
    "type as list": (cluster({"type": ["worker"], "index": 0}, worker=WORKERS), "no task of type ['worker']"),
    "index as fraction": (cluster({"type": "worker", "index": 0.0}, worker=WORKERS), "and index 0.0 in its"),
    "index as truth": (cluster({"type": "worker", "index": True}, worker=WORKERS), "and index True in its"),
    "an address twice": (cluster(worker=["a:1", "A:1"]), "its cluster has the address a:1 twice"),
    "one of two jobs": (cluster(chief=["a:1"], worker=["a:1"]), "its cluster has the address a:1 twice"),
    "nested without end": ("[" * 100_000, "it is not JSON (maximum recursion depth exceeded"),
    "nested a thousand deep": ('{"a":' * 1000 + "1" + "}" * 1000, "it "),
    "of any length": (cluster({"type": "x" * 10**6, "index": 0}, worker=WORKERS), "no task of type 'xxxxx"),
    "not UTF-8": ('{"cluster": "\udcff"}', 'it must hold the tables "cluster" and "task"'),
    "a number of 5000 digits": ('{"cluster": ' + "9" * 5000 + "}", "it is not JSON"),
    "a host with a space": (cluster(worker=["a b:1", "c:2"]), 'as texts "host:port"'),
    "on two lines": ('{"cluster": {},\n"task": {}}', 'must be "worker" and perhaps "chief", not []'),
}


@pytest.mark.parametrize(("text", "said"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_tf_config_is_one_line(monkeypatch, text, said):
    monkeypatch.setenv("TF_CONFIG", text)
    # What is accepted by mistake shall not start a server.
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: pytest.fail("accepted"))
    with pytest.raises(InputError) as caught:
        Machine("multi_worker").start()
    message = str(caught.value)
    assert message.startswith("TF_CONFIG=") and " is not accepted: " in message
    assert said in message.split(" is not accepted: ")[1]
    assert message.endswith(f"; accepted: {EXAMPLE}")
    assert "\n" not in message
    assert len(message) < 1500


def test_the_example_is_accepted(meeting, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", EXAMPLE)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "of several workers")
    assert Machine().start() == "of several workers"


@pytest.mark.parametrize("text", [None, "", " ", "{}"])
def test_several_workers_need_a_tf_config(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="multi_worker needs the environment variable TF_CONFIG") as caught:
        Machine("multi_worker").start()
    assert EXAMPLE in str(caught.value)


def ports(count):
    """Some that nobody listens at."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def listening(address):
    return socket.create_server(("", rendezvous.port_of(address)))


@pytest.fixture
def workers(monkeypatch):
    """The addresses of three; this process is the first."""
    addresses = [f"localhost:{port}" for port in ports(3)]
    monkeypatch.setenv("TF_CONFIG", cluster(worker=addresses))
    return addresses


@pytest.fixture
def meeting(monkeypatch):
    """No other worker has to come."""
    monkeypatch.setattr(rendezvous, "meet", lambda *_: [])


def test_a_worker_that_cannot_start_says_so(monkeypatch, workers, meeting):
    def fail():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", fail)
    said = rf"cannot start this worker, TF_CONFIG=.*{workers[1]}.*Could not start gRPC"
    with pytest.raises(InputError, match=said):
        Machine().start()


def test_a_worker_whose_port_is_in_use_says_so(workers):
    said = r"cannot start this worker, TF_CONFIG=.*[Aa]ddress already in use"
    with listening(workers[0]), pytest.raises(InputError, match=said):
        Machine().start()


def test_a_worker_names_those_that_do_not_come(monkeypatch, workers):
    monkeypatch.setattr(machines, "_PATIENCE_SECONDS", 1)
    said = f"these workers did not come within 1 s: {workers[2]}; start all"
    more = f"that TF_CONFIG names; at {workers[1]} something else than a worker listens, which says nothing"
    with listening(workers[1]), pytest.raises(InputError, match=f"{said} {more}"):
        Machine().start()


@contextlib.contextmanager
def answering(address, content):
    """Something that says the same to everybody."""
    with listening(address) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(content)
                        connection.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"HTTP/1.0 400 Bad request\r\n\r\n", "something else than a worker answers"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "something else than a worker answers"),
        (b"tfp_bayesrnn 0000 localhost:1\n", "a worker with another TF_CONFIG answers"),
    ],
)
def test_what_answers_and_is_no_worker_of_the_run_is_refused(workers, content, said):
    with answering(workers[1], content), pytest.raises(InputError, match=f"at {workers[1]} {said}"):
        Machine().start()


def test_a_worker_that_is_called_by_two_names_is_refused(monkeypatch):
    [port] = ports(1)
    monkeypatch.setenv("TF_CONFIG", cluster(worker=[f"localhost:{port}", f"127.0.0.1:{port}"]))
    with pytest.raises(InputError, match=f"127.0.0.1:{port} and localhost:{port} are one address"):
        Machine().start()


def test_a_worker_that_has_gone_on_to_tensorflow_has_come(workers):
    """Such a server sends its settings, a frame of HTTP/2, unasked."""
    settings = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0x7F, 0xFF, 0xFF, 0xFF])
    with answering(workers[1], settings), answering(workers[2], settings):
        assert rendezvous.meet(workers[0], workers[1:], patience=20.0) == []


@pytest.mark.parametrize("first", [0, 1, 2])
def test_workers_meet_in_whatever_order_they_come(monkeypatch, workers, first):
    """Each goes on once it has seen all others, whether they still wait or TensorFlow listens for them."""
    order = [*workers[first:], *workers[:first]]
    found, servers = {}, []

    def come(own):
        found[own] = rendezvous.meet(own, [other for other in workers if other != own], patience=20.0)
        servers.append(listening(own))

    threads = [threading.Thread(target=come, args=(own,)) for own in order]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()
    assert found == {own: [] for own in workers}


def test_a_worker_that_waits_can_be_asked_to_end(workers):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(interruption.Interrupted), interruption.ending_at_once():
        Machine().start()


NO_ADDRESSES = ("a:0", "a:65536", "a", ":1", "a:b", "a:٢", "a:1 ", " a:1", "http://a:1")


@pytest.mark.parametrize(
    ("address", "port"), [("a:1", 1), ("[::1]:65535", 65535), *((text, None) for text in NO_ADDRESSES)]
)
def test_the_port_of_an_address(address, port):
    assert rendezvous.port_of(address) == port


def test_workers_have_one_device_each(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster(worker=WORKERS))
    with pytest.raises(InputError, match="--cpu_devices=2 has no effect with several workers"):
        Machine(cpu_devices=2).start()


@pytest.fixture
def started(monkeypatch):
    """A function that starts a machine with some GPUs; the strategy's name and its devices."""

    def start(machine, gpus=0, config=None):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        if config:
            monkeypatch.setenv("TF_CONFIG", config)
        devices = {"GPU": [f"GPU:{i}" for i in range(gpus)], "CPU": ["CPU:0", "CPU:1"]}
        logical = {kind: [tf.config.LogicalDevice(name, kind) for name in devices[kind]] for kind in devices}
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices[kind])
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: logical[kind])
        monkeypatch.setattr(tf.config, "set_logical_device_configuration", lambda *_: None)
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names, *_: ("mirrored", names))
        monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: ("multi_worker", None))
        monkeypatch.setattr(tf.distribute, "get_strategy", lambda: ("default", None))
        return machine.start()

    return start


ONE, TWO = cluster(worker=["a:1"]), cluster(worker=WORKERS)
CHIEF = cluster({"type": "chief", "index": 0}, chief=["a:1"], worker=["b:2"])
GPUS, CPUS = ["GPU:0", "GPU:1"], ["CPU:0", "CPU:1"]


@pytest.mark.parametrize(
    ("machine", "gpus", "config", "strategy"),
    [
        (Machine(), 0, None, ("default", None)),
        (Machine(), 1, None, ("default", None)),
        (Machine(), 2, None, ("mirrored", GPUS)),
        (Machine(cpu_devices=2), 0, None, ("mirrored", CPUS)),
        (Machine(), 0, TWO, ("multi_worker", None)),
        (Machine(), 2, TWO, ("multi_worker", None)),
        (Machine(), 0, CHIEF, ("multi_worker", None)),
        (Machine(), 0, ONE, ("default", None)),
        (Machine(), 2, ONE, ("mirrored", GPUS)),
        (Machine("default", 2), 2, TWO, ("default", None)),
        (Machine("mirrored"), 2, TWO, ("mirrored", GPUS)),
        (Machine("mirrored"), 1, None, ("mirrored", GPUS[:1])),
        (Machine("multi_worker"), 0, ONE, ("multi_worker", None)),
    ],
)
def test_which_strategy_it_is(meeting, started, machine, gpus, config, strategy):
    assert started(machine, gpus, config) == strategy


# As the command line does it: the task is imported before the machine starts.
STARTED = """
import tensorflow as tf
from tensorflow.python.framework import config
import zoo.language_model.experiment
from zoo.machine import interruption, rendezvous
from zoo.machine import machine as machines
from zoo.machine.machine import Machine
strategy = Machine("mirrored", 3, True).start()
print(type(strategy).__name__, strategy.num_replicas_in_sync, config.is_op_determinism_enabled())
print(strategy.reduce("sum", strategy.run(lambda: tf.constant(2.0)), axis=None).numpy())
"""


@pytest.mark.slow
def test_replicas_and_determinism_in_a_process_of_its_own():
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", STARTED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.stdout.splitlines() == ["MirroredStrategy 3 True", "6.0"], done.stderr


def test_a_worker_without_a_port_cannot_be_met():
    with pytest.raises(OSError, match="somewhere has no port to listen at"):
        rendezvous.meet("somewhere", [], patience=0.1)
