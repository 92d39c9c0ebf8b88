"""How each variant is made; a module bears the name of what it makes.

May import: pocketgpt, rounding, graph, observe, measure.
"""
