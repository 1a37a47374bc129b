"""``python -m prefsim`` is the command line."""

from prefsim.cli import main

if __name__ == "__main__":
    main()
