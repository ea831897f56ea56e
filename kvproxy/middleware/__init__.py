"""One module a middleware, compiled into a frontend chain when the plan is built."""
