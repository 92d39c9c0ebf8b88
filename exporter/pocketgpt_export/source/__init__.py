"""A checkpoint of any kind to the reference model: where it lies, its tensors, its tokenizer.

May import: pocketgpt.
"""
