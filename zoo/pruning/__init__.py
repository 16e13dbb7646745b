"""The cost of pruning."""
