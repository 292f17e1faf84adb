"""Fill the nulls of a table by a run, on a Ray cluster:

ray job submit --working-dir . -- python jobs/impute.py /shared/runs/adult /shared/table.parquet --out /shared/full.parquet
"""

from raysynth.cli import main

if __name__ == "__main__":
    main("impute")
