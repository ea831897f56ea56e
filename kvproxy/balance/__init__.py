"""Balancing: which server of a backend takes a request."""
