"""Token ids of a text, and text of token ids, by a model folder's tokenizer.

python examples/cpp/ids.py FOLDER encode "Once upon a time"
echo 513 222 | python examples/cpp/ids.py FOLDER decode
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer


def main() -> int:
    match sys.argv[1:]:
        case [folder, "encode", text]:
            print(*Tokenizer.from_file(str(Path(folder, "tokenizer.json"))).encode(text).ids)
        case [folder, "decode"]:
            ids = [int(one) for one in sys.stdin.read().split()]
            print(Tokenizer.from_file(str(Path(folder, "tokenizer.json"))).decode(ids))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
