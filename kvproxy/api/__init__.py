"""The API and the metrics: an HTTP server in the supervisor, behind the workers."""
