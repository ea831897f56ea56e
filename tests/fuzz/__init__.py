"""Seeded fuzzers of the codecs: run as modules, and in small portions by the test suite."""
