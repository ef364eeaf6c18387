"""`python -m eearth`."""

from eearth.cli import main

if __name__ == "__main__":
    main()
