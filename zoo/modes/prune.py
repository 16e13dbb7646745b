"""The mode `prune`: what pruning costs, and a pruned workdir."""

from __future__ import annotations

from zoo.configuration import checks
from zoo.modes.mode import Flag, Mode, Request

PRUNE = Flag(
    name="prune",
    kind=float,
    metavar="FRACTION",
    text="fraction of the weights to leave out, those of the lowest |mu| / sigma",
    check=checks.RATE,
)
"""Of every mode that leaves weights out."""


def run(request: Request) -> None:
    """Measures what pruning costs; with a fraction it makes the pruned workdir too."""
    from zoo.pruning.cost import measure_pruning

    measure_pruning(
        request.run_config, request.run_dir, request.data_dir, request.strategy, request.flags.get(PRUNE.name)
    )


MODE = Mode(
    name="prune",
    about="measures perplexity by the fraction of weights dropped; makes a pruned run",
    run=run,
    writes="pruning.json, pruning.svg and, where --prune asks for it, the workdir WORKDIR/pruned",
    example="--workdir=runs/demo --prune=0.8",
    flags=(PRUNE,),
    general=("data_dir", "jit_compile", "deterministic"),
    one_device="pruning",
)
