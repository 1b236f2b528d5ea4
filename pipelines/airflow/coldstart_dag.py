"""A coldstart pipeline as an Airflow task: once a day, one partition a day.

The logical date of the DAG run is the logical date of the job, so that a cleared or backfilled run writes the partition of its own day.
coldstart_operator.py says what exit codes become; it has to lie beside this file.

A retry, and a cleared task, resume what the earlier try finished. The job's last line, its result as JSON, is the task's XCom.
Set COLDSTART_PIPELINE to the absolute path of the pipeline file, since a BashOperator works in a directory of its own; `coldstart` has to be
on the PATH of the worker. With the OpenLineage provider, OPENLINEAGE_PARENT_ID names this task as the parent of the job's own events:

    env={"OPENLINEAGE_PARENT_ID": "{{ macros.OpenLineageProviderPlugin.lineage_parent_id(task_instance) }}", ...}

A KubernetesPodOperator skips on no exit code by itself: give it skip_on_exit_code=99 as well, do_xcom_push=True, and the arguments
--xcom /airflow/xcom/return.json --termination-log /dev/termination-log.
"""
import os
from datetime import datetime
from pathlib import Path

try:
    from airflow.sdk import DAG
except ImportError:                                       # Airflow 2
    from airflow import DAG

from coldstart_operator import RETRIES, Coldstart

with DAG(
    dag_id="coldstart",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
):
    Coldstart(
        task_id="run",
        # exec: a stop request of Airflow reaches the job itself
        bash_command='exec coldstart run "$PIPELINE" --date {{ ds }} --skip-if-empty --log-format json',
        env={"PIPELINE": os.environ.get("COLDSTART_PIPELINE", str(Path(__file__).resolve().parents[1] / "demo.toml"))},
        append_env=True,
        skip_on_exit_code=99,
        do_xcom_push=True,
        **RETRIES,
    )
