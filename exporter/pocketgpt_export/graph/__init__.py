"""The reference model to an ONNX file.

May import: pocketgpt, source.
"""
