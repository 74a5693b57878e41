"""The servers that `bench_serve.py` compares, one a module, with their models, their requests and how they are loaded."""
