"""Typed configuration: the one definition of every option, static and dynamic. Imports nothing of ours."""
