"""Leave out of a program what only the extras' functions import: a hub's client, plots, signing.

PyInstaller follows imports inside functions as well: huggingface_hub, which tokenizers requires and
therefore is always installed, would bring 20 MB along. A program that uses one of these names it:
`--hidden-import huggingface_hub`.
"""

excludedimports = ["huggingface_hub", "matplotlib", "model_signing", "rouge_score", "sacrebleu"]
