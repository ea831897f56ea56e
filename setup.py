"""Build of the C extensions; everything else is in pyproject.toml.

They are optional: where no compiler is found their pure-Python twins serve.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            f"kvproxy.http.{sources[0]}",
            sources=[f"kvproxy/http/{source}.c" for source in sources],
            depends=[f"kvproxy/http/{name}.h" for name in ("_grammar", "_hpack", "_http2")],
            extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra"],
            optional=True,
        )
        for sources in (["_scan"], ["_http2", "_http2_encode", "_hpack"])
    ]
)
