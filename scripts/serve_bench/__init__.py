"""The servers that `bench_serve.py` compares, one a module, with their models, requests and load."""
