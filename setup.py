"""Build of the one C extension; everything else is in pyproject.toml.

The extension is optional: where no compiler is found the pure-Python twin serves.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "kvproxy.http._scan",
            sources=["kvproxy/http/_scan.c"],
            extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra"],
            optional=True,
        )
    ]
)
