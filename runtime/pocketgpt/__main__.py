"""`python -m pocketgpt`, for where the `pocketgpt` command is not on the path."""

from .cli import main

if __name__ == "__main__":  # a worker process of `serve` imports this under another name
    main()
