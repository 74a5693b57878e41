"""What stands behind `bench_studies.py`."""
