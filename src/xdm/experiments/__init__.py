"""Grids of variants, seeds and logs: the file, the runs in parallel processes, and the report."""
