"""Lets `python -m litequeue` be the command line."""

from litequeue.cli import main

if __name__ == "__main__":
    main(prog_name="litequeue")
