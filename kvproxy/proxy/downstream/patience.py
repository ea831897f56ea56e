"""How long the connections of clients wait, whatever protocol is spoken."""

LINGER_SECONDS = 2.0
"""How long an answer may be read by a client whose request body is no longer wanted."""

EXPECT_SECONDS = 1.0
"""How long a server may take to say 100 before the proxy says it (specification section 8.7)."""

QUIET_SECONDS = 2.0
"""How long a connection must have been idle before a drain closes it unannounced."""
