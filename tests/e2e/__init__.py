"""Tests of the running program over real sockets."""
