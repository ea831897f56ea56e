"""For operators and the API: the control socket, its commands, what a supervisor knows."""
