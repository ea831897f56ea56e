"""Providers and their stores: opened, read, watched, opened again."""
