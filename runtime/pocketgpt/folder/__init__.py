"""The model folder: its manifest, its configuration, its checks, writing without half a file.

May import: errors, extras, validate.
"""
