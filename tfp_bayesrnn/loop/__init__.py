"""The distributed training loop, its checkpoints and exact resume."""

from tfp_bayesrnn.loop.loop import Loop

__all__ = ["Loop"]
