"""The engines that `bench_data.py` compares, one program a module, and what it measures them with."""
