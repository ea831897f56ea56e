"""Towards clients: listeners, connections of HTTP/1.1 and HTTP/2, and what is known of a client."""
