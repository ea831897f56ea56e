"""A request between its client and a server: route, chain, middlewares, attempts."""
