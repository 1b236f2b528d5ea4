"""A coldstart run in units of work as mapped tasks of Airflow: for targets that one machine takes too long for.

A task plans, a mapped task for each stage that goes through the accounts works on its units wherever Airflow puts them, a task reduces
each stage, and one commits. Nothing crosses XCom but numbers of units: the tasks meet in the run directory of the output, on a file system
that every worker mounts. Each may be tried again or cleared: what is done is not done twice. For the whole job in one task see
coldstart_dag.py.

COLDSTART_PIPELINE is the absolute path of the pipeline file, COLDSTART_UNITS how many units (16). The plan lies beside the pipeline.
A mapped task takes one core: set `pool` or `max_active_tis_per_dag` to what the workers have.
"""
import json
import os
from datetime import datetime
from pathlib import Path

try:
    from airflow.sdk import DAG, task
except ImportError:                                       # Airflow 2
    from airflow import DAG
    from airflow.decorators import task

from coldstart_operator import RETRIES, Coldstart

PIPELINE = os.environ.get("COLDSTART_PIPELINE", str(Path(__file__).resolve().parents[1] / "demo.toml"))
UNITS = os.environ.get("COLDSTART_UNITS", "16")
STAGES = ["profile", "score", "relevance", "fuse", "fit", "classify"]
# relevance and fit are one machine's work: their reduction does it
MAPPED = {"profile", "score", "fuse", "classify"}


def step(task_id, command, plan):
    return Coldstart(
        task_id=task_id,
        bash_command=f"exec coldstart {command} --log-format json",
        env={"PIPELINE": PIPELINE, "PLAN": plan, "UNITS": UNITS},
        append_env=True,
        do_xcom_push=True,
        **RETRIES,
    )


with DAG(
    dag_id="coldstart_units",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
):
    PLAN = PIPELINE + ".{{ ds }}.plan.json"

    @task
    def units(line):
        """What each mapped task is told, from the result line of `coldstart plan`."""
        planned = json.loads(line)
        return [{"PLAN": planned["plan"], "UNIT": str(unit)} for unit in range(planned["units"])]

    before = step("plan", 'plan "$PIPELINE" --date {{ ds }} --units "$UNITS" -o "$PLAN"', PLAN)
    numbers = units(before.output)
    before = numbers
    for stage in STAGES:
        if stage in MAPPED:
            work = Coldstart.partial(
                task_id=stage,
                bash_command=f'exec coldstart work "$PLAN" {stage} "$UNIT" --threads 1 --log-format json',
                append_env=True,
                **RETRIES,
            ).expand(env=numbers)
            before >> work
            before = work
        reduce = step(f"reduce_{stage}", f'reduce "$PLAN" {stage}', PLAN)
        before >> reduce
        before = reduce
    before >> step("commit", 'commit "$PLAN"', PLAN)
