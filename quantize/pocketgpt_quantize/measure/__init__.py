"""What a variant lost: quality against fp32, and how far its logits move.

May import: pocketgpt, observe.
"""
