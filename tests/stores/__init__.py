"""The acceptance suite that every store must pass; README.md says how to run it on another one."""
