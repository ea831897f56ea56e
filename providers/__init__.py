"""The plugins: one module a store or source, found through the entry-point group kvproxy.providers."""
