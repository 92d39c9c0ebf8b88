"""PocketGPT runs models: what exports, quantizes, measures and plots stays out of an app.

An app that does those names them itself (`--hidden-import pocketgpt_export`).
"""

excludedimports = [
    "pocketgpt_export",
    "pocketgpt_quantize",
    "matplotlib",
    "onnx",
    "rouge_score",
    "sacrebleu",
    "torch",
    "transformers",
]
