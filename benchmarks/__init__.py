"""Benchmarks of the gateway, run with `python -m benchmarks`; README.md says what each measures."""
