"""Runs signatures of SavedModels where TensorFlow alone is installed: for `export_fresh_environment_test`.

    python -I tests/export_process.py DIRECTORY [DIRECTORY ...]

Each directory holds `model`, a SavedModel, and `inputs.npz` with an array for every input, by the name
`signature/input`. What the signatures give is written to `outputs.npz` under `how/signature/output`. How is
"eager", for `tf.saved_model.load`, or "session", for the graph with the initialiser that TensorFlow's C++
loader and TensorFlow Serving run.
"""

import collections
import importlib.util
import os
import sys

import numpy as np

OURS = ("absl_main", "benchmarks", "tests", "tf_keras", "tensorflow_probability", "tfp_bayesrnn", "zoo")


def eager(tensorflow, model, inputs):
    signatures = tensorflow.saved_model.load(model).signatures
    for signature, named in inputs.items():
        outputs = signatures[signature](**{name: tensorflow.constant(value) for name, value in named.items()})
        for name, value in outputs.items():
            yield f"{signature}/{name}", value.numpy()


def in_session(tensorflow, model, inputs):
    v1 = tensorflow.compat.v1
    with tensorflow.Graph().as_default(), v1.Session() as session:
        definitions = v1.saved_model.load(session, ["serve"], model).signature_def
        for signature, named in inputs.items():
            definition = definitions[signature]
            feed = {definition.inputs[name].name: value for name, value in named.items()}
            fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
            for name, value in session.run(fetches, feed).items():
                yield f"{signature}/{name}", value


def main(directories):
    import tensorflow

    for directory in directories:
        inputs = collections.defaultdict(dict)
        with np.load(os.path.join(directory, "inputs.npz"), allow_pickle=True) as arrays:
            for name, value in arrays.items():
                signature, _, argument = name.partition("/")
                inputs[signature][argument] = value
        model, outputs = os.path.join(directory, "model"), {}
        for how, run in (("eager", eager), ("session", in_session)):
            for name, value in run(tensorflow, model, inputs):
                outputs[f"{how}/{name}"] = value
        np.savez(os.path.join(directory, "outputs.npz"), **outputs)
    print("installed:", *(name for name in OURS if importlib.util.find_spec(name)))


if __name__ == "__main__":
    main(sys.argv[1:])
