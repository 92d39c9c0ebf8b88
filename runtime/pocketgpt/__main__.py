"""`python -m pocketgpt`, for where the `pocketgpt` command is not on the path."""

from .cli import main

main()
