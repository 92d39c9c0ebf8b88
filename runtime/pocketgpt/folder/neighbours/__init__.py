"""What other runtimes read in a model folder, and people: all of it follows from the manifest.

    config.json        its `transformers.js_config`: transformers.js
    genai_config.json  ONNX Runtime GenAI
    manifest.json      ONNX Runtime's Model Packages, in any language
    vocab.json, merges.txt  tokenizers in C#, Java and C++ that take the pair rather than
                       tokenizer.json; of byte-level BPE alone
    README.md          the model card: people, and the Hugging Face hub

`neighbours_of` says what they should say, `write_neighbours` writes it. Export and quantize write
them; a file that was edited since is its editor's, and stays. PocketGPT itself reads none of them.
"""

from .writing import NEIGHBOURS, changed, listed, neighbours_of, write_neighbours

__all__ = ["NEIGHBOURS", "changed", "listed", "neighbours_of", "write_neighbours"]
