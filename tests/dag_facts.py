"""Run by Airflow's own Python: what it finds in a folder of DAGs, as one JSON document."""

import json
import os
import time

from airflow.dag_processing.dagbag import DagBag


def facts_of_task(task):
    """What matters of a task."""
    return {
        "words": task.words,
        "retries": task.retries,
        "time_limit": task.execution_timeout.total_seconds(),
        "after": sorted(task.upstream_task_ids),
    }


def facts_of_dag(dag):
    """What matters of a DAG."""
    return {
        "schedule": dag.schedule,
        "start": str(dag.start_date),
        "catchup": dag.catchup,
        "paused": dag.is_paused_upon_creation,
        "runs_at_once": dag.max_active_runs,
        "time_limit": dag.dagrun_timeout.total_seconds(),
        "doc": dag.doc_md,
        "tasks": {t.task_id: facts_of_task(t) for t in dag.tasks},
    }


began = time.monotonic()
bag = DagBag(os.environ["DAGS"])
found = {
    "errors": bag.import_errors,
    "dags": {name: facts_of_dag(dag) for name, dag in bag.dags.items()},
    "seconds": time.monotonic() - began,
}
print(json.dumps(found))
