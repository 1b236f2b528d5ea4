"""Runs every command and query of the pages named, in their order: what documentation says has to work.

    python tests/docs.py PROGRAM PAGE...

Blocks of `sh` run in bash at the root of the repository with PROGRAM as `coldstart`; `sh exit=65` has to end with that
code. Blocks of `sql` run in DuckDB, one connection a page; those that name no files also have to be Spark SQL, as
sqlglot reads it (`make cluster` runs them in a real Spark). Blocks with any other word behind their language are only shown."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import duckdb
import sqlglot

BLOCK = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```$", re.M | re.S)


def shell(text, wanted, program, folder):
    (folder / "coldstart").unlink(missing_ok=True)
    (folder / "coldstart").symlink_to(program)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-euo", "pipefail", "-c", text], env=environment, capture_output=True, text=True)
    if ran.returncode != wanted:
        raise AssertionError(f"exit {ran.returncode}, not {wanted}\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")


def main():
    program, pages = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    ran, failed = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for page in pages:
            base = duckdb.connect()
            for language, more, text in BLOCK.findall(pathlib.Path(page).read_text()):
                code = re.fullmatch(r"exit=(\d+)", more)
                if language not in ("sh", "sql") or (more and not code):
                    continue
                ran += 1
                try:
                    if language == "sql":
                        base.execute(text)
                        if "read_parquet" not in text:
                            sqlglot.parse(text, read="spark", error_level=sqlglot.ErrorLevel.RAISE)
                    else:
                        shell(text, int(code[1]) if code else 0, program, pathlib.Path(folder))
                except (AssertionError, duckdb.Error, sqlglot.errors.SqlglotError) as e:
                    failed += 1
                    print(f"{page}:\n{text}\n{e}\n", file=sys.stderr)
    print(f"{ran - failed} passed, {failed} failed")
    sys.exit(bool(failed) or not ran)


if __name__ == "__main__":
    main()
