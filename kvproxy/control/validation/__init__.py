"""Judges entries before they are served: rules, options, server URLs, certificates."""
