"""The case tables of the reference behaviour, each row a test of its own."""
