"""Printed text, and progress."""
