"""What a worker serves: generations compiled into chains, balancers and middlewares."""
