"""A coldstart pipeline as an Airflow task: once a day, one partition a day.

The logical date of the DAG run is the logical date of the job, so that a cleared or backfilled run writes the partition of its own day.
Exit codes become task states:

    0        success: published, or already published with the same inputs
    99       skipped: the target holds no account (--skip-if-empty; --skip-if-unchanged would also skip what is published already)
    75       up for retry: lock held, no space, an input was replaced while it was read
    130, 143 and whatever a signal ended: up for retry
    others   failed at once: bad data, bad configuration, a missing input. The same command would fail again.

A retry, and a cleared task, resume what the earlier try finished. The job's last line, its result as JSON, is the task's XCom.
Set COLDSTART_PIPELINE to the absolute path of the pipeline file, since a BashOperator works in a directory of its own; `coldstart` has to be
on the PATH of the worker. With the OpenLineage provider, OPENLINEAGE_PARENT_ID names this task as the parent of the job's own events:

    env={"OPENLINEAGE_PARENT_ID": "{{ macros.OpenLineageProviderPlugin.lineage_parent_id(task_instance) }}", ...}

A KubernetesPodOperator skips on no exit code by itself: give it skip_on_exit_code=99 as well, do_xcom_push=True, and the arguments
--xcom /airflow/xcom/return.json --termination-log /dev/termination-log.
"""
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:                                       # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator
from airflow.exceptions import AirflowFailException, AirflowSkipException

WORTH_A_RETRY = {75, 130, 143}


class Coldstart(BashOperator):
    """A BashOperator that leaves its retries unused where another try cannot help."""

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowSkipException:
            raise
        except Exception as failed:
            # BashOperator names the exit code in its message and nowhere else; that of a killed process is negative
            code = re.search(r"exit code (\d+)", str(failed))
            if code and int(code[1]) not in WORTH_A_RETRY:
                raise AirflowFailException(str(failed)) from failed
            raise


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
        retries=4,
        retry_delay=timedelta(minutes=1),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=30),
        execution_timeout=timedelta(hours=6),
    )
