"""Train a challenger, then ask the gate about that very version.

Nothing is promoted here: `inv train` reads this run's verdict and promotes, and so do people with
`bikecast model promote`. It runs by itself every Sunday at 02:00 UTC, unless
BIKECAST_TRAINING_SCHEDULE says another time, or `none` where `inv train` starts it on that day.
"""

import json
import os
from datetime import timedelta

from airflow.sdk import DAG
from bikecast_operator import BikecastOperator

SCHEDULE = os.environ.get("BIKECAST_TRAINING_SCHEDULE") or "0 2 * * 0"

with DAG(
    "model_training",
    description="Train a model and ask the gate about it.",
    doc_md=__doc__,
    schedule=None if SCHEDULE == "none" else SCHEDULE,
    # No start_date: with one, the first start of Airflow would make up for the time before.
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    is_paused_upon_creation=False,
    tags=["bikecast"],
    user_defined_filters={"from_json": json.loads},
) as dag:
    train = BikecastOperator(
        task_id="train",
        words=["train", "--json"],
        retries=1,
        retry_delay=timedelta(minutes=5),
        execution_timeout=timedelta(hours=1),
    )
    validate = BikecastOperator(
        task_id="validate",
        # Of this run, and not whatever is the challenger by now.
        words=[
            *("model", "validate", "--json"),
            "{{ (ti.xcom_pull(task_ids='train') | from_json)['version'] }}",
        ],
        # The gate's no is an answer, and no failure of the run.
        answers=(0, 1),
        retries=2,
        retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=30),
    )
    train >> validate
