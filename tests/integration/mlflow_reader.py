"""What a user of MLflow sees of our registry: run by a Python with the whole of MLflow, prints JSON.

Arguments: the tracking URI, the model's name, the prompt's name.
"""

import json
import sys

import mlflow
import numpy as np
import pandas as pd


def main(uri: str, name: str, prompt: str) -> None:
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    steps = 50
    frame = pd.DataFrame(
        {
            "timestamp": 1_700_000_040_000 + 60_000 * np.arange(steps),
            "series": ["a"] * steps,
            "value": np.sin(np.arange(steps) / 50),
        }
    )
    scores = model.predict(frame)
    run = client.get_run(model.metadata.run_id)
    found = mlflow.genai.load_prompt(f"prompts:/{prompt}@champion")
    experiment = client.get_experiment_by_name("llm")
    traces = client.search_traces(locations=[experiment.experiment_id]) if experiment else []
    print(
        json.dumps(
            {
                "version": mlflow.__version__,
                "models": sorted(item.name for item in client.search_registered_models()),
                "inputs": [column.name for column in model.metadata.signature.inputs],
                "example": len(model.input_example),
                "score": [None if np.isnan(value) else float(value) for value in scores["score"]],
                "dataset": run.inputs.dataset_inputs[0].dataset.digest,
                "parameters": run.data.params,
                "prompt": found.format(now="noon"),
                "tokens": [trace.info.token_usage for trace in traces],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
