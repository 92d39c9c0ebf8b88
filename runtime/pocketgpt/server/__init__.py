"""`pocketgpt serve`: an HTTP server that speaks OpenAI's API (extra `server`).

    errors, settings        what clients are told of what goes wrong; what the server is told
    fields, sampling        a request's JSON, read and checked
    completions, chat       the two kinds of request, and how their answers are written
    answers, logprobs       what both answers have in common; log-probabilities in both forms
    tokenizing              /tokenize and /detokenize
    served                  the models by their names
    call, line, engine      what one request asks for; whose turn it is; the thread that computes
    waiting, streaming      how the event loop waits for it: for all of it, or piece by piece
    guard, body             who may ask, and how much
    metrics, openapi, page  what is shown of it
    service, app            what the routes share; the routes, put together
    running, workers        processes, signals, sockets

May import: everything but cli. Only cli imports it.
"""
