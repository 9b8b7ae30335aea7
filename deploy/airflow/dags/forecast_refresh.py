"""Issue the forecast table with the model in production, where data or model are new.

It runs every hour unless BIKECAST_FORECAST_SCHEDULE says another time, or `none`. Where a refresher
runs beside it (`bikecast forecast --every`), whoever comes second finds the table issued.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG
from bikecast_operator import BikecastOperator

SCHEDULE = os.environ.get("BIKECAST_FORECAST_SCHEDULE") or "17 * * * *"

with DAG(
    "forecast_refresh",
    description="Issue the forecast table.",
    doc_md=__doc__,
    schedule=None if SCHEDULE == "none" else SCHEDULE,
    # No start_date: with one, the first start of Airflow would make up for the time before.
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=45),
    is_paused_upon_creation=False,
    tags=["bikecast"],
) as dag:
    BikecastOperator(
        task_id="forecast",
        words=["forecast", "--json"],
        retries=2,
        retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=10),
    )
