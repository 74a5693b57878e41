"""What `bench_search.py` compares: one module a family of policies, how they are run, and how they are scored."""
