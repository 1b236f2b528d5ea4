"""Builds the wheel of a program that is there, and tries it: installed in an empty environment, run from another directory.

    python packaging/wheel/build.py target/release/coldstart target/wheel [--try PIPELINE DATE]

Ends with one JSON line: the wheel, its size, and what the installed program said."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def said(*command, **more):
    """Stdout of a command that has to succeed."""
    ran = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if ran.returncode:
        sys.exit(f"wheel: {' '.join(map(str, command))} ended with {ran.returncode}\n{ran.stderr[-3000:]}")
    return ran.stdout


def build(program, out):
    """The wheel, made in a copy of this folder with the program in it."""
    source = out / "source"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(HERE, source)
    (source / "coldstart/bin").mkdir()
    shutil.copy2(program, source / "coldstart/bin/coldstart")
    subprocess.run(["strip", source / "coldstart/bin/coldstart"], check=False)
    version = said(program, "--version").split()[-1]
    environment = {**os.environ, "COLDSTART_VERSION": version}
    said(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source, env=environment)
    return next(out.glob("*.whl"))


def try_it(wheel, pipeline, date):
    """What `coldstart run` says in an environment that holds nothing but the wheel and what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        said(sys.executable, "-m", "venv", folder / "venv")
        said(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel)
        bare = {k: v for k, v in os.environ.items() if k not in ("ORT_DYLIB_PATH", "PYTHONPATH")}
        run = [folder / "venv/bin/coldstart", "run", pipeline.resolve(), "--date", date, "--set", f"output.path={folder / 'out'}"]
        return json.loads(said(*run, cwd=folder, env=bare))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("program", type=pathlib.Path)
    options.add_argument("out", type=pathlib.Path)
    options.add_argument("--try", dest="tried", nargs=2, metavar=("PIPELINE", "DATE"))
    options = options.parse_args()
    wheel = build(options.program.resolve(), options.out.resolve())
    line = {"wheel": str(wheel), "bytes": wheel.stat().st_size}
    if options.tried:
        ran = try_it(wheel, pathlib.Path(options.tried[0]), options.tried[1])
        line |= {"status": ran["status"], "rows": ran["rows"]}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
