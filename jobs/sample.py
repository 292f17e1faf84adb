"""Draw a table of any size from a run, on a Ray cluster:

ray job submit --working-dir . -- python jobs/sample.py /shared/runs/adult --rows 100000000 --out /shared/adult.parquet --workers 8
"""

from raysynth.cli import main

if __name__ == "__main__":
    main("sample")
