"""The access log: one line for each request. Imported only where it is switched on.

A record (`record`) collects the facts of a request while it is served by the classes in `serving`;
a format (`formats`) makes a line of it, as the settings choose (`choice`), and the lines go to a
file by a thread of their own (`writer`).
"""
