"""A coldstart run on a Spark cluster: Spark drives units of work, coldstart reads and writes the files itself.

    spark-submit --files bin/coldstart pipelines/spark/coldstart_job.py PIPELINE --date 2026-01-01 --units 64

`PIPELINE`, the accounts, the bundles and the output have to lie at the same path on the driver and on every executor. The program
comes with `--files`, or stands on the PATH of each (`pip install coldstart`). Spark's own page shows a job for each stage; a unit
whose executor is lost runs again elsewhere, and what it had finished is not done twice.

A unit takes `spark.task.cpus` threads. Variables that the pipeline names as ${NAME} have to be set on the executors too
(`--conf spark.executorEnv.NAME=...`). The exit code is coldstart's own: 75 is worth another try, which resumes.
"""
import argparse
import json
import os
import subprocess
import sys

from pyspark import SparkContext, SparkFiles

# What another attempt can mend: a lock, a full disk, an input that is being replaced, a signal.
WORTH_A_RETRY = {75, 130, 143}


def program():
    shipped = SparkFiles.get("coldstart")
    return shipped if os.access(shipped, os.X_OK) else "coldstart"


def coldstart(*arguments):
    """The exit code and the result line of a call; the log goes where Spark keeps stderr."""
    done = subprocess.run([program(), *map(str, arguments), "--log-format", "json"], stdout=subprocess.PIPE, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def unit_of(plan, stage, more):
    """What an executor does with the number of a unit."""

    def work(unit):
        code, line = coldstart("work", plan, stage, unit, *more)
        if code < 0 or code in WORTH_A_RETRY:
            raise RuntimeError(f"coldstart work {stage} {unit} ended with {code}")    # Spark tries the task again
        return unit, code, line.get("status")

    return work


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pipeline")
    arguments.add_argument("--date", required=True)
    arguments.add_argument("--units", type=int, required=True)
    arguments.add_argument("--plan", help="where the plan is written; beside the pipeline if not given")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--max-memory", help="what a unit may hold, such as 2Gi")
    arguments.add_argument("--replace", action="store_true")
    arguments = arguments.parse_args()
    plan = arguments.plan or f"{arguments.pipeline}.{arguments.date}.plan.json"
    spark = SparkContext(appName=f"coldstart {arguments.pipeline} {arguments.date}")
    limit = ["--max-memory", arguments.max_memory] if arguments.max_memory else []
    cores = ["--threads", spark.getConf().get("spark.task.cpus", "1")]

    def here(*words):
        code, line = coldstart(*words)
        if code:
            spark.stop()
            sys.exit(code if code > 0 else 128 - code)
        return line

    overrides = [word for pair in arguments.set for word in ("--set", pair)]
    planned = here("plan", arguments.pipeline, "--date", arguments.date, "--units", arguments.units, "-o", plan, *overrides)
    for stage, units in planned["stages"]:
        if units:
            spark.setJobDescription(f"coldstart {stage}: {units} units")
            done = spark.parallelize(range(units), units).map(unit_of(plan, stage, limit + cores)).collect()
            refused = [code for _, code, _ in done if code]
            if refused:                       # the same units would be refused again; why is in the executor's log
                spark.stop()
                sys.exit(refused[0])
        here("reduce", plan, stage, *limit)
    result = here("commit", plan, *(["--replace"] if arguments.replace else []))
    spark.stop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
