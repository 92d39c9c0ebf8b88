"""What the graph's values look like on real text.

May import: pocketgpt, rounding, graph.
"""
