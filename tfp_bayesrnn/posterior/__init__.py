"""Variational weights, draws of them, sharpening and pruning."""
