"""The route index: which frontend takes a request."""
