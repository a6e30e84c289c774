"""`python -m openrnn.cli`."""

from openrnn.cli import main

if __name__ == "__main__":
    main()
