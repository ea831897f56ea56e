"""Tests of kvproxy: a package, so that every suite can import `tests.support`."""
