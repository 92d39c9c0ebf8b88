"""Run a command on a Vulkan driver: VK_DRIVER_FILES, or else SwiftShader, which needs no GPU.

    python tests/devices/swiftshader.py FOLDER COMMAND...

SwiftShader is found where Chromium's packages put it, or by SWIFTSHADER=/path/libvk_swiftshader.so.
The file that tells Vulkan of it is written to FOLDER.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import sys
from pathlib import Path

PLACES = (
    "/usr/lib/chromium",
    "/usr/lib64/chromium-browser",
    "/opt/google/chrome",
    "/snap/chromium",
)
NAME = "libvk_swiftshader.so"


def find_swiftshader() -> Path | None:
    named = os.environ.get("SWIFTSHADER")
    places = [Path(named)] if named else [Path(place) / NAME for place in PLACES]
    return next((place.resolve() for place in places if place.is_file()), None)


def main() -> None:
    folder, command = Path(sys.argv[1]).resolve(), sys.argv[2:]
    if ctypes.util.find_library("vulkan") is None:
        sys.exit("WebGPU needs Vulkan's loader: apt-get install libvulkan1")
    if "VK_DRIVER_FILES" not in os.environ:
        library = find_swiftshader()
        if library is None:
            sys.exit(
                f"no {NAME}: apt-get install chromium-common, or make test-webgpu "
                f"SWIFTSHADER=/path/to/{NAME}, or VK_DRIVER_FILES=/path/to/a/driver.json"
            )
        driver = folder / "swiftshader.json"
        icd = {"library_path": str(library), "api_version": "1.0.5"}
        driver.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": icd}), "utf-8")
        os.environ["VK_DRIVER_FILES"] = str(driver)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
