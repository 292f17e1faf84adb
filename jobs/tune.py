"""Search settings with Ray Tune and Optuna, on a Ray cluster:

ray job submit --working-dir . -- python jobs/tune.py /shared/table.parquet --trials 50 --workers 4 --storage /shared/runs
"""

from raysynth.cli import main

if __name__ == "__main__":
    main("tune")
