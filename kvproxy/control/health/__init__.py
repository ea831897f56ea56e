"""Health checks of servers: when each is due, how a server is asked, what was found."""
