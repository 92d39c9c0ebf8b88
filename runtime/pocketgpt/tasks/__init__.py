"""What a model is asked beside text: which label a text has, which of several texts goes on best.

May import: errors, extras, validate, folder, text, engine, generation.
"""
