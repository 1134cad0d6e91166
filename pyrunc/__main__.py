"""`python -m pyrunc`: the same as the installed executable."""

from __future__ import annotations

from pyrunc.cli.main import run_main

if __name__ == "__main__":
    run_main()
