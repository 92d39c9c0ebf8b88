"""Numbers to fewer bits: stored formats, grids, GPTQ, refinement.

May import: pocketgpt.
"""
