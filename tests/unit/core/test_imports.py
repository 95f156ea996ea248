"""What importing the core and asking for help costs."""

import subprocess
import sys


def test_the_core_loads_no_heavy_package():
    code = (
        "import sys, pkgutil, importlib, aiops.core\n"
        "[importlib.import_module(f'aiops.core.{m.name}') for m in pkgutil.iter_modules(aiops.core.__path__)]\n"
        "print([m for m in ('torch', 'fastapi', 'langchain', 'duckdb', 'sqlalchemy', 'mlflow') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
