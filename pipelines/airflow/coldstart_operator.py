"""The operator of the two DAGs beside it: coldstart's exit codes as Airflow's task states.

    0        success
    99       skipped, where a --skip-if flag was given
    75       up for retry: lock held, no space, an input was replaced while it was read, a unit is missing
    130, 143 and whatever a signal ended: up for retry
    others   failed at once: bad data, bad configuration, a missing input. The same command would fail again.
"""
import os
import re
from datetime import timedelta

try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:                                       # Airflow 2
    from airflow.operators.bash import BashOperator
from airflow.exceptions import AirflowFailException, AirflowSkipException

WORTH_A_RETRY = {75, 130, 143}

RETRIES = dict(
    retries=4,
    # doubled with each try
    retry_delay=timedelta(seconds=int(os.environ.get("COLDSTART_RETRY_SECONDS", "60"))),
    retry_exponential_backoff=True,
    max_retry_delay=timedelta(minutes=30),
    execution_timeout=timedelta(hours=6),
)


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
