"""Towards servers: choice of a server, connections of HTTP/1.1 and HTTP/2, pools, trust."""
