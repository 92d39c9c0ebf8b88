"""Answer questions with several choices by a bare language model: the likeliest continuation wins.

    python examples/answer.py [FOLDER]

Log-probabilities are compared for each byte, so that long answers have the same chance as short
ones (`normalization="none"` compares sums). `pocketgpt evaluate --metric choice` does it for files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pocketgpt

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"  # what `make demo` leaves
QUESTIONS = {
    "The little princess lived with her father, who was a": [" king", " cloud", " Tuesday"],
    "It was dark in the forest, and the children were": [" afraid", " a kettle", " seventeen"],
    "She opened the door and went into the": [" house", " because", " swallowed"],
}


def main() -> None:
    model = pocketgpt.load(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
    for prompt, choices in QUESTIONS.items():
        answer = model.choose(prompt, choices, normalization="bytes")
        print(f"{prompt}{answer.text}")
        for choice in answer.ranked:
            print(f"    {choice.log_prob / choice.bytes:6.2f} nats a byte {choice.text}")


if __name__ == "__main__":
    main()
