"""How good and how fast: scores, evaluations, benchmarks, profiles.

May import: errors, extras, validate, folder, text, engine, generation, tasks.
"""
