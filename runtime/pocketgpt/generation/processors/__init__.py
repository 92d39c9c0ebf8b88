"""What shapes the next token's distribution: one idea a file, each a class with its text's state.

A `Processor` is made for one text and keeps what it has to know of it as tokens come. narrowing.py
is what only drawing asks for: functions of scores alone. Which of them an option asks for, and in
what order, is pipeline.py's.
"""

from .base import Ids, Logits, Processor, log_softmax, softmax

__all__ = ["Ids", "Logits", "Processor", "log_softmax", "softmax"]
