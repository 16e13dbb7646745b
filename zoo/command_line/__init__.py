"""Flags, their checks, and the command that they ask for."""
