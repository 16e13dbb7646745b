"""Paths, and folders that are replaced whole."""
