"""Starts the program, once it knows where ONNX Runtime's shared library lies."""
import importlib.util
import os
import pathlib
import sys

PROGRAM = pathlib.Path(__file__).with_name("bin") / "coldstart"


def library():
    """The library inside the onnxruntime package, which is not imported for it; None where it is not installed."""
    found = importlib.util.find_spec("onnxruntime")
    for place in found.submodule_search_locations if found else []:
        for name in ("libonnxruntime.so.*", "libonnxruntime.*.dylib"):
            for file in sorted(pathlib.Path(place, "capi").glob(name)):
                return str(file)
    return None


def main():
    """Becomes the program: its signals, streams and exit code are the caller's."""
    path = None if "ORT_DYLIB_PATH" in os.environ else library()
    if path:
        os.environ["ORT_DYLIB_PATH"] = path
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])
