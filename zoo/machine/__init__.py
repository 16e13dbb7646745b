"""Devices, workers and signals."""
