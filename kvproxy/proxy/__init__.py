"""The data plane: the worker process that serves requests by the plan it holds."""
