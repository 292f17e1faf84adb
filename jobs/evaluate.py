"""Judge a run against real rows, on a Ray cluster:

ray job submit --working-dir . -- python jobs/evaluate.py /shared/runs/adult --real /shared/adult_test.parquet
"""

from raysynth.cli import main

if __name__ == "__main__":
    main("evaluate")
