"""Text to token ids and back: the tokenizer, streaming, stop strings, chat templates.

May import: errors, extras, validate, folder.
"""
