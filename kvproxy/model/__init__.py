"""Typed configuration: the one definition of every option. Imports nothing of ours."""
