"""Train a generator on a table, on a Ray cluster:

ray job submit --working-dir . -- python jobs/train.py /shared/table.parquet --storage /shared/runs --workers 4
"""

from raysynth.cli import main

if __name__ == "__main__":
    main("train")
