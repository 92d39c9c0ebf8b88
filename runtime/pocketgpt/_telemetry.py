"""ONNX Runtime's telemetry, off before anything imports it.

Its wheels write a device id below the user's cache and upload usage since 1.29; where they cannot,
they complain on standard error; and a process that was forked after a model was loaded waits for
their thread at its end. The variable that is set already decides, so `ORT_DISABLE_TELEMETRY=0`
leaves telemetry on.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
