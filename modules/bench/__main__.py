"""Runs the bench from a command line."""

from modules.bench import main

if __name__ == "__main__":
    main()
