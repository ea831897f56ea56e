"""The control plane: supervisor, merger, generations, journal."""
