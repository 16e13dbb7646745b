"""The report: what a workdir holds, as one HTML page that needs nothing else."""
