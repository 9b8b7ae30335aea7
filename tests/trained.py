"""What a training and the gate hand over, as their JSON documents have it."""

SCORES = {"glm": {"mae": 1.0, "rmse": 2.0}, "naive": {"mae": 1.5, "rmse": 2.5}}
TRAINED = {"version": "7", "model": "glm", "run_id": "ab12", "scores": SCORES}
FIGURES = "MAE 1.000 (naive 1.500), RMSE 2.000 (naive 2.500)"
CHECKS = [{"name": "rain", "outcome": "promote", "detail": "fine"}]
NO = [*CHECKS, {"name": "night", "outcome": "reject", "detail": "9.1 against 3.0"}]
