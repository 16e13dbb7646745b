"""The flags that are not of one mode: what to run, where, on what, and shortcuts to the configuration."""

from __future__ import annotations

from zoo.configuration import limits
from zoo.machine.machine import STRATEGIES
from zoo.modes import MODES
from zoo.modes.mode import Flag

FIELDS = {
    "seed": "seed",
    "num_samples": "evaluate.num_samples",
    "mixed_precision": "compute_dtype",
    "jit_compile": "jit_compile",
}
"""Flags that set a field of the configuration, as --config.FIELD does: name -> field."""

_JIT_COMPILE = {"on": "on", "true": "on", "off": "off", "false": "off", "auto": "auto"}
_MIXED_PRECISION = {
    "bfloat16": "bfloat16",
    "true": "bfloat16",
    "float16": "float16",
    "float32": "float32",
    "false": "float32",
}

FLAGS = (
    Flag(name="mode", metavar="MODE", text=f"what to do: {', '.join(MODES)}"),
    Flag(name="preset", metavar="NAME", text="which configuration; see --mode=list"),
    Flag(name="workdir", metavar="DIR", text="directory of the run and its results", is_path=True),
    Flag(
        name="data_dir",
        metavar="DIR",
        text="directory of the data set's files",
        default="that of the run so far",
        is_path=True,
    ),
    Flag(name="seed", kind=int, text="seed of the run (config.seed)", default="the configuration's"),
    Flag(
        name="num_samples",
        kind=int,
        text="samples of the model average (config.evaluate.num_samples); 0: the mean only",
        default="the configuration's",
    ),
    Flag(
        name="mixed_precision",
        metavar="TYPE",
        text="compute in bfloat16 (the bare flag) or float16; posterior, KL and losses stay float32 "
        "(config.compute_dtype)",
        default="float32",
        names=_MIXED_PRECISION,
    ),
    Flag(
        name="jit_compile",
        metavar="WHEN",
        text="compile with XLA: on, off or auto (config.jit_compile)",
        default="auto",
        names=_JIT_COMPILE,
    ),
    Flag(
        name="strategy",
        metavar="NAME",
        text=f"how to train: {', '.join(STRATEGIES)}; auto goes by TF_CONFIG and the GPUs",
        default="auto",
    ),
    Flag(
        name="cpu_devices",
        kind=int,
        text="logical devices to split the CPU into, for mirrored",
        default="1",
        least=1,
        most=limits.CPU_DEVICES,
    ),
    Flag(name="deterministic", kind=bool, text="the same numbers in every run, to the last bit"),
    Flag(name="help", kind=bool, text="show this"),
)
