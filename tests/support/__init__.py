"""What the suites that run the real program share: processes, raw clients, scripted servers."""
