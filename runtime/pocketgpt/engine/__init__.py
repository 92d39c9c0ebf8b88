"""Token ids to logits: the graph's contract, ONNX Runtime, providers, buffers, decoding.

May import: errors, extras, validate, folder.
"""
