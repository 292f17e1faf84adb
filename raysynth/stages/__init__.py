"""The stages of a job, on Ray: read and encode, train, sample, evaluate.

Ray is imported in this folder and nowhere else. The design first laid these files beside the core;
they have a folder of their own so that the tree shows where Ray is, and so that `raysynth.train` can
be the function a user calls and not a module of the same name.
"""

import os

# Ray reads these once, when it is imported. No usage report leaves a machine that holds personal
# data, and a cluster answers to its token only.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
