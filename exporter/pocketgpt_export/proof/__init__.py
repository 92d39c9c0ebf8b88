"""The ONNX file against the reference model.

May import: pocketgpt, source.
"""
