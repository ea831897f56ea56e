"""The rule language of frontends: parse, explain, print."""
