"""The fields of a configuration, their checks and the methods."""
