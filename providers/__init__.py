"""The plugins, one module each, found through the entry-point group ``kvproxy.providers``."""
