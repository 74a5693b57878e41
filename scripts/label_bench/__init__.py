"""Cases for `bench_labels.py`: planted functions, annotators and poison, and real tables."""
