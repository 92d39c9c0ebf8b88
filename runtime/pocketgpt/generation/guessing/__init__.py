"""Guessing how texts go on, so that one pass checks several tokens of each.

    speculation   who guesses, how many tokens, and what came of it: the scheduler asks it
    pace          whether guessing pays, and how many tokens pay best, by measured time
    record        what came of one text's guesses
    lookup        prompt lookup: what followed the newest tokens before
    draft         a smaller model, which reads along

A pass over the guesses gives the logits after each of them; every token is chosen from its logits
as ever, and as long as it is the one that was guessed, the next one's logits are there already. So
the tokens are those of plain decoding, drawn ones too: a guess that is certain is accepted as often
as it would have been drawn (https://arxiv.org/abs/2211.17192, with a draft that gives its tokens
probability 1). But a quantized variant's logits depend a little on what is computed together, and
when guesses pay on how long a step took: where its likeliest two nearly tie, either may come.
"""
