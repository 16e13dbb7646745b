"""Plots as SVG, and pictures as SVG or PNG."""
