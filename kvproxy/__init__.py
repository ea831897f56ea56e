"""kvproxy: a key-value-store-driven, hot-reloading HTTP reverse proxy."""

__version__ = "0.1.0"
