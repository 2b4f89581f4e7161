"""Batch runs: whole suites of instances, unattended (`lirpa-bench`)."""
