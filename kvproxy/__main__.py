"""``python -m kvproxy`` is the command ``kvproxy``."""

from kvproxy.cli import main

if __name__ == "__main__":
    main()
