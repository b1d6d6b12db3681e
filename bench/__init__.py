"""Benchmarks: one file per question, mqshm beside its peers in the same run. See README.md."""
