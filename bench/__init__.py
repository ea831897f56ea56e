"""Side-by-side benchmarks of kvproxy and its peers; run by scripts/bench."""
