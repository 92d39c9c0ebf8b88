"""The fp32 graph with other weights in it: reading, folding, rewriting, saving.

May import: pocketgpt, rounding.
"""
