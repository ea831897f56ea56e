"""Worker processes: started, replaced, told; their sockets, and what they count."""
